//! Writes: what a region is decides where they go.
//!
//! Into a region in sync: the region is marked in the log, durably, then all legs are written at
//! once. Into one that is not: to the leg that has its data. Into one that is being recovered:
//! later. Two writes of one sector come one after the other, so that no leg has them in another
//! order (the kernel leaves that to those above).

use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Bio, BlkError, BlkResult, Flags, Mapped, Sector};

use super::mirror_set::MirrorSet;
use super::state::{Condition, Fault, Legs, State};
use super::ticket::{Progress, Ticket};
use crate::parts::dirty_log;

/// What is to be done with a write.
enum Admitted<'a> {
    /// It goes to all legs.
    All(Ticket<'a>),
    /// It goes to all legs when this commit of the log has ended.
    AfterCommit(Ticket<'a>, u64),
    /// It goes to one leg.
    One(Ticket<'a>, usize),
    /// It fails.
    Failed(BlkError),
}

/// What becomes of a write that all legs have answered.
#[must_use]
enum Ended {
    Now(BlkResult),
    Held,
}

impl MirrorSet {
    /// Carries out a write, on the spot where nothing waits.
    pub(super) fn write<'a>(self: &'a Arc<Self>, bio: Bio<'a>) -> Mapped<'a> {
        match self.admit(&range_of(&bio)) {
            Some(Admitted::All(ticket)) => self.write_all(ticket, bio),
            Some(Admitted::One(ticket, leg)) => self.write_one(ticket, leg, bio),
            Some(Admitted::AfterCommit(ticket, commit)) => {
                Mapped::InFlight(Box::pin(self.write_after(ticket, commit, bio)))
            }
            Some(Admitted::Failed(error)) => Mapped::Completed(Err(error)),
            None => Mapped::InFlight(Box::pin(self.write_later(bio))),
        }
    }

    async fn write_later(self: &Arc<Self>, bio: Bio<'_>) -> BlkResult {
        let range = range_of(&bio);
        let mapped = match self.signal.until(|| self.admit(&range)).await {
            Admitted::All(ticket) => self.write_all(ticket, bio),
            Admitted::One(ticket, leg) => self.write_one(ticket, leg, bio),
            Admitted::AfterCommit(ticket, commit) => {
                return self.write_after(ticket, commit, bio).await;
            }
            Admitted::Failed(error) => return Err(error),
        };
        end(mapped).await
    }

    async fn write_after(
        self: &Arc<Self>,
        ticket: Ticket<'_>,
        commit: u64,
        bio: Bio<'_>,
    ) -> BlkResult {
        if dirty_log::commit(self, commit).await.is_err() {
            self.state().log_failed = true;
            match (self.features.handle_errors, self.features.keep_log) {
                // The kernel goes on without the mark.
                (false, _) => {}
                (true, false) => return self.hold(Some(ticket)).await,
                (true, true) => return Err(BlkError::Io),
            }
        }
        end(self.write_all(ticket, bio)).await
    }

    /// Keeps a write that no leg was sent until the device is suspended, or the region in sync.
    fn held<'a>(&self, state: &State) -> Option<Admitted<'a>> {
        state.suspending.then_some(Admitted::Failed(BlkError::Requeue))
    }

    /// Takes a write in, unless it has to wait for others, or is held.
    fn admit<'a>(self: &'a Arc<Self>, range: &Range<Sector>) -> Option<Admitted<'a>> {
        let region = self.region_of(range.start);
        let mut state = self.state();
        let condition = state.condition_of(region);
        match condition {
            Condition::Recovering => return None,
            Condition::OutOfSync if state.leg_failed && self.features.hold() => {
                state.in_sync = false;
                return self.held(&state);
            }
            Condition::Clean | Condition::Dirty(_)
                if state.log_failed && self.features.handle_errors =>
            {
                return match self.features.keep_log {
                    true => Some(Admitted::Failed(BlkError::Io)),
                    false => self.held(&state),
                };
            }
            Condition::OutOfSync | Condition::Clean | Condition::Dirty(_) => {}
        }
        // Beside another of the same sectors it would be anyone's guess which is the last.
        if state.regions.get(&region).is_some_and(|region| !region.writes.leave_free(range)) {
            return None;
        }
        Some(match condition {
            Condition::OutOfSync => {
                let leg = state.authority(region);
                let others = state.all_legs() & !(1 << leg);
                state.set_behind(region, others);
                Admitted::One(self.ticket(&mut state, region, Condition::OutOfSync, range), leg)
            }
            Condition::Clean | Condition::Dirty(_) => {
                let mark = match condition {
                    Condition::Dirty(mark) => mark,
                    _ => state.log.mark(region),
                };
                if state.log.is_durable(mark) {
                    Admitted::All(self.ticket(&mut state, region, Condition::Dirty(mark), range))
                } else {
                    let commit = state.log.pending(mark);
                    let condition = Condition::Dirty(commit);
                    Admitted::AfterCommit(self.ticket(&mut state, region, condition, range), commit)
                }
            }
            Condition::Recovering => unreachable!("a write of it waits"),
        })
    }

    /// Writes one leg: nobody expects the others to have it.
    fn write_one<'a>(
        self: &'a Arc<Self>,
        ticket: Ticket<'a>,
        leg: usize,
        mut bio: Bio<'a>,
    ) -> Mapped<'a> {
        let area = &self.legs[leg];
        let sector = bio.sector;
        match area.submit(sector, bio.reborrow()).now().ok() {
            Some(Ok(())) => Mapped::Completed(Ok(())),
            Some(Err(_)) if self.features.hold() => {
                Mapped::InFlight(Box::pin(self.hold_one(ticket, leg)))
            }
            Some(Err(error)) => Mapped::Completed(Err(error)),
            None => Mapped::InFlight(Box::pin(async move {
                match area.submit(sector, bio).await {
                    Err(_) if self.features.hold() => self.hold_one(ticket, leg).await,
                    result => result,
                }
            })),
        }
    }

    /// Holds a write that has failed on the only leg that it was sent to. The kernel holds those that
    /// come after a leg is known to have failed; the one that finds out is an error there.
    async fn hold_one(&self, ticket: Ticket<'_>, leg: usize) -> BlkResult {
        let event = self.fail(&mut self.state(), 1 << leg, Fault::Write);
        self.raise_if(event);
        self.hold(Some(ticket)).await
    }

    /// Writes all legs, on the spot where they do not wait.
    fn write_all<'a>(self: &'a Arc<Self>, mut ticket: Ticket<'a>, bio: Bio<'a>) -> Mapped<'a> {
        ticket.progress = Progress::Begun;
        let (left, failed) = self.write_now(&bio);
        if left != 0 {
            return Mapped::InFlight(Box::pin(self.write_left(ticket, bio, left, failed)));
        }
        match self.written(&mut ticket, failed) {
            Ended::Now(result) => Mapped::Completed(result),
            Ended::Held => Mapped::InFlight(Box::pin(self.hold(Some(ticket)))),
        }
    }

    async fn write_left(
        self: &Arc<Self>,
        mut ticket: Ticket<'_>,
        bio: Bio<'_>,
        left: Legs,
        mut failed: Legs,
    ) -> BlkResult {
        {
            let (sector, data, flags) = (bio.sector, bio.data(), bio.flags);
            let left = (0..self.legs.len()).filter(|leg| left >> leg & 1 == 1);
            let mut writes: FuturesUnordered<_> =
                left.map(|leg| self.write_leg(leg, sector, data, flags)).collect();
            while let Some((leg, result)) = writes.next().await {
                failed |= Legs::from(result.is_err()) << leg;
            }
        }
        match self.written(&mut ticket, failed) {
            Ended::Now(result) => result,
            Ended::Held => self.hold(Some(ticket)).await,
        }
    }

    async fn write_leg(
        &self,
        leg: usize,
        sector: Sector,
        data: &[u8],
        flags: Flags,
    ) -> (usize, BlkResult) {
        let bio = Bio::write(sector, data).with_flags(flags);
        (leg, self.legs[leg].submit(sector, bio).await)
    }

    /// Takes in how a write has ended on the legs.
    fn written(&self, ticket: &mut Ticket<'_>, failed: Legs) -> Ended {
        if failed == 0 {
            ticket.progress = Progress::Over;
            return Ended::Now(Ok(()));
        }
        // Which legs have what is known, from here on by other means.
        ticket.progress = Progress::Untouched;
        let (event, ended) = {
            let mut state = self.state();
            let event = self.fail(&mut state, failed, Fault::Write);
            let lost = state.good(ticket.region) & !failed == 0;
            state.fall_behind(ticket.region, failed);
            if !state.log_failed {
                state.lose_sync(ticket.region);
            }
            (event, self.after_failure(&state, lost))
        };
        self.raise_if(event);
        ended
    }

    /// Decides what becomes of a write or a flush that failed on some legs; `lost` where no leg
    /// that counts has it. The kernel asks only whether any leg is without errors.
    fn after_failure(&self, state: &State, lost: bool) -> Ended {
        let keep_log = self.features.keep_log;
        if self.features.hold() {
            Ended::Held
        } else if lost || state.valid().is_none() || (keep_log && state.log_failed) {
            Ended::Now(Err(BlkError::Io))
        } else {
            Ended::Now(Ok(()))
        }
    }

    /// Holds a write until the device is suspended, and hands it back then. The core makes an
    /// error of that where the suspend is no `noflush` one.
    async fn hold(&self, ticket: Option<Ticket<'_>>) -> BlkResult {
        self.signal.until(|| self.state().suspending.then_some(())).await;
        drop(ticket);
        Err(BlkError::Requeue)
    }

    /// Flushes all legs.
    pub(super) async fn flush(self: &Arc<Self>) -> BlkResult {
        if self.state().log_failed && self.features.handle_errors {
            return match self.features.keep_log {
                true => Err(BlkError::Io),
                false => self.hold(None).await,
            };
        }
        let failed = self.flush_legs().await;
        if failed == 0 {
            return Ok(());
        }
        let (event, ended) = {
            let mut state = self.state();
            let event = self.fail(&mut state, failed, Fault::Write);
            state.flush_has_failed(failed);
            let lost = state.rests_on(failed);
            if !state.log_failed {
                (state.in_sync, state.flush_failed) = (false, true);
            }
            (event, self.after_failure(&state, lost))
        };
        self.raise_if(event);
        // No region is out of sync for it: the kernel forgets what legs went through.
        self.look_whether_in_sync();
        match ended {
            Ended::Now(result) => result,
            Ended::Held => self.hold(None).await,
        }
    }
}

/// Waits for the end of a bio that was mapped.
async fn end(mapped: Mapped<'_>) -> BlkResult {
    match mapped {
        Mapped::Completed(result) => result,
        Mapped::InFlight(end) => end.await,
        Mapped::Remapped(area, to, bio) => area.submit(to, bio).await,
    }
}

fn range_of(bio: &Bio<'_>) -> Range<Sector> {
    bio.sector..bio.sector + bio.len()
}
