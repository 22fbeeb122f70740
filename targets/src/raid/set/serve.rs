//! What a set does for those who use it: bios, messages, and the status.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sim_core::{Bio, BlkError, Errno, Mapped, Op, Refusal};

use super::RaidSet;
use super::state::Leg;
use crate::lines::raid::{Action, JournalHealth, Kind, LegHealth, Status};
use crate::raid::layout::Layout;

impl RaidSet {
    /// Carries out a bio of a set that has more than one copy, or parity.
    pub(super) fn carry_out<'a>(self: &'a Arc<Self>, bio: Bio<'a>) -> Mapped<'a> {
        self.pace.count();
        if let (Op::Read | Op::Write | Op::Discard, Some(reshape)) = (bio.op(), &self.reshape) {
            let len = reshape.len(&self.state());
            return match bio.end().is_some_and(|end| end.0 <= len.0) {
                true => Mapped::InFlight(Box::pin(self.carry_moving(&reshape.moving, bio))),
                false => Mapped::Completed(Err(BlkError::Io)),
            };
        }
        let is_past = bio.end().is_none_or(|end| end.0 > self.layout.len().0);
        match (bio.op(), &self.layout) {
            // The chunks are whole, and so are the parts of a leg that far copies lie in; what the
            // table has behind them is none.
            (Op::Read | Op::Write, _) if is_past => Mapped::Completed(Err(BlkError::Io)),
            (Op::Read, Layout::Parity(parity)) => self.read_data(parity, bio),
            (Op::Write, Layout::Parity(parity)) => match &self.cache {
                Some(cache) => Mapped::InFlight(Box::pin(self.write_cached(cache, bio))),
                None => self.write_data(*parity, bio),
            },
            // What a discard leaves need not have the parity of zeros.
            (Op::Discard, Layout::Parity(_)) => Mapped::Completed(Err(BlkError::NotSupported)),
            (Op::Discard, _) if is_past => Mapped::Completed(Err(BlkError::Io)),
            (Op::Read, _) => self.read(bio),
            (Op::Write | Op::Discard, _) => self.write(bio),
            (Op::Flush, _) => match &self.cache {
                Some(cache) => Mapped::InFlight(Box::pin(self.flush_cached(cache))),
                None => Mapped::InFlight(Box::pin(self.flush_legs())),
            },
            (Op::WriteZeroes | Op::SecureErase, _) => {
                Mapped::Completed(Err(BlkError::NotSupported))
            }
        }
    }

    /// Begins, or goes on with, what is to be done in the background.
    pub(super) fn go_on(self: &Arc<Self>) {
        {
            let mut state = self.state();
            (state.frozen, state.gave_up) = (false, false);
        }
        self.legs_wait.store(false, Relaxed);
        self.background.resume();
        self.start_sync();
        self.start_clearing();
        self.go_on_writing_out();
    }

    /// Says how the set is, and its first `legs` legs.
    pub(super) fn info(&self, has_begun: bool, legs: usize) -> Status {
        let state = self.state();
        let is_raid0 = matches!(self.layout, Layout::Raid0 { .. });
        let moving = self.reshape.as_ref().map(|reshape| &reshape.moving);
        let total = match (has_begun && !is_raid0, moving) {
            (true, Some(moving)) if state.moves.position.is_some() => {
                moving.rows_done(moving.end()).0
            }
            (true, _) => self.layout.resync_len().0,
            (false, _) => self.layout.recovery_len().0,
        };
        let action = self.shown_action(&state);
        let done = match action {
            _ if is_raid0 => total,
            Action::Idle => match (moving, state.moves.position) {
                (Some(moving), Some(position)) => moving.rows_done(position).0,
                _ => state.resync_from.map_or(total, |from| from.0),
            },
            Action::Frozen => 0,
            _ => state.progress.done,
        };
        let leg = |leg: &Leg| match leg {
            Leg::Missing => LegHealth::Missing,
            Leg::Failed(_) | Leg::Broken => LegHealth::Failed,
            Leg::InSync if !matches!(action, Action::Resync | Action::Reshape) => LegHealth::InSync,
            Leg::InSync | Leg::Behind(_) => LegHealth::Behind,
        };
        let geometry = self.geometry;
        let devices = match &self.reshape {
            Some(reshape) if reshape.waits && !has_begun => reshape.moving.old.legs(),
            _ => self.layout.legs(),
        };
        Status {
            kind: Kind::nearest(geometry.level, geometry.layout),
            devices,
            legs: state.legs[..legs].iter().map(leg).collect(),
            done: done.min(total),
            total,
            action,
            mismatches: state.mismatches,
            data_offset: self.metadata.data_offset(self, &state),
            journal: self.journal.as_ref().map_or(JournalHealth::Missing, |log| log.health()),
        }
    }

    /// Does what a message asks for.
    pub(super) fn take_message(
        self: &Arc<Self>,
        words: &[&str],
    ) -> Result<Option<String>, Refusal> {
        let invalid = |why: &str| Refusal::because(Errno::INVAL, why.to_owned());
        if let Layout::Raid0 { .. } = self.layout {
            return Err(invalid("raid0 has nothing to synchronize"));
        }
        let Some(word) = words.first().map(|word| word.to_ascii_lowercase()) else {
            return Err(invalid("expected a message"));
        };
        let mut state = self.state();
        if state.frozen {
            return Err(Refusal::because(Errno::BUSY, "is suspended"));
        }
        match &*word {
            "idle" | "frozen" => {
                // As the kernel has it: what goes on stops, and begins anew where it is needed.
                state.is_broken_off = state.is_syncing;
                state.asked = None;
                let errno = match self.next_action(&state) {
                    Some(_) => Errno::BUSY,
                    None => Errno::INVAL,
                };
                drop(state);
                self.signal.notify();
                return Err(Refusal::because(errno, format!("{word}: what went on is broken off")));
            }
            _ if state.moves.position.is_some() || self.shown_action(&state) != Action::Idle => {
                let what = self.shown_action(&state).word();
                return Err(Refusal::because(Errno::BUSY, format!("busy: {what} goes on")));
            }
            "check" => state.asked = Some(Action::Check),
            "repair" => state.asked = Some(Action::Repair),
            "resync" | "recover" => {}
            _ => return Err(invalid("expected idle, frozen, resync, recover, check or repair")),
        }
        state.gave_up = false;
        drop(state);
        self.start_sync();
        Ok(None)
    }
}
