//! The target type: what the core asks of a set.

use std::fmt;
use std::sync::{Arc, OnceLock};

use sim_core::{
    Area, Args, Bio, BlkError, BoxFuture, CtrError, Errno, Flat, Limits, Mapped, Op, OpenDevice,
    Profile, Refusal, Reply, Sector, Sectors, StatusKind, StatusWriter, Target, TargetType, reply,
};

use super::RaidSet;
use super::load::{Surroundings, load};
use super::state::Leg;
use crate::lines;
use crate::lines::raid::{Action, Family, JournalHealth, Kind, LegHealth, Line, Status};
use crate::parts::lock::lock;
use crate::raid::layout::Layout;
use crate::raid::start::BitmapStart;

/// Several legs as one device that outlives some of them.
pub struct Raid {
    line: Line<Arc<OpenDevice>>,
    around: Surroundings,
    /// None until the superblocks have been read.
    set: OnceLock<Arc<RaidSet>>,
    /// What is with the bitmap, until the first resume.
    first: std::sync::Mutex<Option<BitmapStart>>,
}

impl TargetType for Raid {
    const NAME: &'static str = "raid";
    const VERSION: [u32; 3] = [1, 15, 1];

    fn ctr(args: &mut Args<'_>) -> Result<Raid, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let around = Surroundings {
            len: args.target_len(),
            runtime: args.runtime().clone(),
            events: args.events(),
            log: args.log(),
        };
        Ok(Raid { line, around, set: OnceLock::new(), first: std::sync::Mutex::default() })
    }
}

impl Target for Raid {
    fn read_metadata(&mut self) -> BoxFuture<'_, Result<(), CtrError>> {
        Box::pin(async {
            let (set, first) = load(&self.line, &self.around).await?;
            *lock(&self.first) = Some(first);
            let _only_once = self.set.set(Arc::new(set));
            Ok(())
        })
    }

    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let set = self.set();
        set.pace.count();
        if let Layout::Raid0 { .. } = set.layout {
            return self.map_raid0(bio);
        }
        if let (Op::Read | Op::Write, Some(reshape)) = (bio.op(), &set.reshape) {
            let len = reshape.len(&set.state());
            return match (bio.end().is_some_and(|end| end.0 <= len.0), bio.op()) {
                (false, _) => Mapped::Completed(Err(BlkError::Io)),
                (true, Op::Read) => {
                    Mapped::InFlight(Box::pin(set.read_moving(&reshape.moving, bio)))
                }
                (true, _) => Mapped::InFlight(Box::pin(set.write_moving(&reshape.moving, bio))),
            };
        }
        match (bio.op(), &set.layout) {
            // The chunks are whole; what the table has behind them is none.
            (Op::Read | Op::Write, Layout::Parity(parity))
                if bio.end().is_none_or(|end| end.0 > parity.len().0) =>
            {
                Mapped::Completed(Err(BlkError::Io))
            }
            (Op::Read, Layout::Parity(parity)) => set.read_data(parity, bio),
            (Op::Write, Layout::Parity(parity)) => {
                Mapped::InFlight(Box::pin(set.write_data(*parity, bio, None)))
            }
            // What a discard leaves need not have the parity of zeros.
            (Op::Discard, Layout::Parity(_)) => Mapped::Completed(Err(BlkError::NotSupported)),
            (Op::Read, _) => set.read(bio),
            (Op::Write | Op::Discard, _) => set.write(bio),
            (Op::Flush, _) => Mapped::InFlight(Box::pin(set.flush_legs())),
            (Op::WriteZeroes | Op::SecureErase, _) => {
                Mapped::Completed(Err(BlkError::NotSupported))
            }
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => write!(out, "{}", self.info()),
            StatusKind::Table => {
                let word = |device: &Arc<OpenDevice>| {
                    lines::device_word(&Area::whole(device.clone()), out)
                };
                let mut line = self.line.try_map(word)?;
                self.show_as_it_is(&mut line);
                write!(out, "{line}")
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        let Some(set) = self.set.get() else { return };
        set.legs.iter().filter_map(|leg| leg.data.as_ref()).for_each(&mut *each);
        set.journal.iter().for_each(|log| each(log.area()));
    }

    fn profile(&self) -> Profile {
        let family = self.line.kind.family();
        let (is_raid0, has_parity) = (family == Family::Raid0, family.parities() > 0);
        Profile {
            // Whole stripes need no more than what is written.
            max_io_len: self.line.max_io_len().filter(|_| !has_parity),
            num_discard_bios: u32::from(!has_parity),
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            flush_bypasses_map: is_raid0,
            max_discard_granularity: true,
            map_may_be_repeated: !is_raid0,
            ..Profile::REMAP
        }
    }

    fn io_hints(&self, limits: &mut Limits) {
        let chunk = self.line.chunk;
        let bytes = |chunks: u64| {
            let bytes = chunk.0.checked_mul(chunks).and_then(|sectors| sectors.checked_mul(512));
            bytes.and_then(|bytes| u32::try_from(bytes).ok())
        };
        if !chunk.is_zero() {
            limits.io_min = bytes(1).unwrap_or(limits.io_min);
            let parities = self.line.kind.family().parities();
            limits.io_opt = bytes((self.line.legs.len() - parities) as u64).unwrap_or(0);
        }
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        let set = self.set();
        match set.layout {
            Layout::Raid0 { .. } if offset.0 < set.len.0 => {
                let places = set.layout.places(offset);
                let place = places[0];
                let left = set.layout.run_end(offset) - offset;
                Flat::Device(set.data(place.leg), place.sector, left)
            }
            Layout::Raid0 { .. } => Flat::Error(Sectors(1)),
            Layout::Raid1 { .. } | Layout::Raid10(_) | Layout::Parity(_) => Flat::Opaque,
        }
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        reply(self.take_message(words))
    }

    fn presuspend(&self) {
        self.set().end_background();
    }

    fn presuspend_undo(&self) {
        self.go_on();
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.set().settle())
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async {
            let set = self.set();
            let first = lock(&self.first).take();
            if let Layout::Raid0 { .. } = set.layout {
                return Ok(());
            }
            match first {
                Some(first) => {
                    let begun = set.begin(first).await;
                    match begun.is_err() {
                        true => *lock(&self.first) = Some(first),
                        // As md, which has begun then.
                        false => set.events.raise(),
                    }
                    begun
                }
                None => {
                    set.revive().await;
                    Ok(())
                }
            }
        })
    }

    fn resume(&self) {
        self.go_on();
    }
}

impl Raid {
    fn set(&self) -> &Arc<RaidSet> {
        self.set.get().expect("a target is used when its metadata has been read")
    }

    fn map_raid0<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let set = self.set();
        match bio.op() {
            Op::Read | Op::Write | Op::Discard if bio.sector.0 < set.len.0 => {
                let place = set.layout.places(bio.sector)[0];
                Mapped::Remapped(set.data(place.leg), place.sector, bio)
            }
            _ => Mapped::Completed(Err(BlkError::NotSupported)),
        }
    }

    fn go_on(&self) {
        let set = self.set();
        {
            let mut state = set.state();
            (state.frozen, state.gave_up) = (false, false);
        }
        set.background.resume();
        set.start_sync();
        set.start_clearing();
    }

    /// Puts what the superblocks say in the place of what the line asked for, as the kernel does.
    fn show_as_it_is(&self, line: &mut Line<String>) {
        let Some(set) = self.set.get() else { return };
        if let Layout::Parity(parity) = &set.layout {
            line.chunk = parity.chunk();
            let waits = set.reshape.as_ref().map(|reshape| reshape.waits);
            let old = set.superblocks[0].geometry;
            if let (Some(false), Some(kind)) = (waits, Kind::of(old.level, old.layout)) {
                line.kind = kind;
            }
            // As the kernel, which sets it when it takes the table in.
            let is_taken = waits.is_some() && lock(&self.first).is_none();
            let delta = &mut line.params.delta_disks;
            *delta = delta.map(|delta| if delta < 0 && !is_taken { 0 } else { delta });
        }
        if let Layout::Raid10(raid10) = &set.layout {
            line.chunk = raid10.chunk();
            let copies = &mut line.params.raid10_copies;
            *copies = copies.map(|_| raid10.copies());
            let format = &mut line.params.raid10_format;
            *format = format.map(|_| raid10.format());
        }
    }

    fn info(&self) -> Status {
        let set = self.set();
        let state = set.state();
        let is_loaded = lock(&self.first).is_none();
        let is_raid0 = matches!(set.layout, Layout::Raid0 { .. });
        let total = match is_loaded && !is_raid0 {
            true => set.layout.resync_len().0,
            false => set.layout.recovery_len().0,
        };
        let action = set.shown_action(&state);
        let done = match action {
            _ if is_raid0 => total,
            Action::Idle => match (&set.reshape, state.moves.position) {
                (Some(reshape), Some(position)) => reshape.moving.rows_done(position).0,
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
        let geometry = set.geometry();
        let devices = match &set.reshape {
            Some(reshape) if reshape.waits && !is_loaded => reshape.moving.old.legs(),
            _ => set.layout.legs(),
        };
        Status {
            kind: Kind::of(geometry.level, geometry.layout).unwrap_or(self.line.kind),
            devices,
            legs: state.legs[..self.line.legs.len()].iter().map(leg).collect(),
            done: done.min(total),
            total,
            action,
            mismatches: state.mismatches,
            data_offset: set.data_offset(&state),
            journal: set.journal.as_ref().map_or(JournalHealth::Missing, |log| log.health()),
        }
    }

    fn take_message(&self, words: &[&str]) -> Result<Option<String>, Refusal> {
        let set = self.set();
        let invalid = |why: &str| Refusal::because(Errno::INVAL, why.to_owned());
        if let Layout::Raid0 { .. } = set.layout {
            return Err(invalid("raid0 has nothing to synchronize"));
        }
        let Some(word) = words.first().map(|word| word.to_ascii_lowercase()) else {
            return Err(invalid("expected a message"));
        };
        let mut state = set.state();
        if state.frozen {
            return Err(Refusal::because(Errno::BUSY, "is suspended"));
        }
        match &*word {
            "idle" | "frozen" => {
                // As the kernel has it: what goes on stops, and begins anew where it is needed.
                state.is_broken_off = state.is_syncing;
                state.asked = None;
                let errno = match set.next_action(&state) {
                    Some(_) => Errno::BUSY,
                    None => Errno::INVAL,
                };
                drop(state);
                set.signal.notify();
                return Err(Refusal::because(errno, format!("{word}: what went on is broken off")));
            }
            _ if state.moves.position.is_some() || set.shown_action(&state) != Action::Idle => {
                let what = set.shown_action(&state).word();
                return Err(Refusal::because(Errno::BUSY, format!("busy: {what} goes on")));
            }
            "check" => state.asked = Some(Action::Check),
            "repair" => state.asked = Some(Action::Repair),
            "resync" | "recover" => {}
            _ => return Err(invalid("expected idle, frozen, resync, recover, check or repair")),
        }
        state.gave_up = false;
        drop(state);
        set.start_sync();
        Ok(None)
    }
}
