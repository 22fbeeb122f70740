//! Reads, each from one leg that is in sync.
//!
//! Where copies may differ, all reads of a sector go to the same leg, as long as that is in sync. A
//! read that fails is tried on the others; what was read there is written to the leg that failed, and
//! read again: a leg that does not take it is at fault.

use std::sync::Arc;

use sim_core::{Bio, BlkError, BlkResult, Buffer, Mapped};

use super::RaidSet;
use super::state::State;
use super::write::range_of;
use crate::raid::layout::{Layout, Place, Run};

impl RaidSet {
    /// Carries out a read, on the spot where nothing waits.
    pub(super) fn read<'a>(self: &'a Arc<Self>, mut bio: Bio<'a>) -> Mapped<'a> {
        let range = range_of(&bio);
        let mut runs = self.layout.runs(range.clone());
        let (Some(run), None) = (runs.next(), runs.next()) else {
            return Mapped::InFlight(Box::pin(self.read_runs(&self.layout, bio)));
        };
        let from = {
            let state = self.state();
            let Some(from) = self.choose(&state, &run, &[]) else {
                return Mapped::Completed(Err(BlkError::Io));
            };
            if self.may_be_behind(&state, from.leg, &run) {
                drop(state);
                return Mapped::InFlight(Box::pin(self.read_run(run, bio)));
            }
            from
        };
        match self.data(from.leg).submit(from.sector, bio.reborrow().at(from.sector)).now().ok() {
            Some(Ok(())) => Mapped::Completed(Ok(())),
            Some(Err(_)) | None => Mapped::InFlight(Box::pin(self.read_run(run, bio))),
        }
    }

    pub(super) async fn read_runs(
        self: &Arc<Self>,
        layout: &Layout,
        mut bio: Bio<'_>,
    ) -> BlkResult {
        let range = range_of(&bio);
        for run in layout.runs(range.clone()) {
            let (skip, len) = (run.at - range.start, run.len);
            self.read_run(run, bio.part(skip, len)).await?;
        }
        Ok(())
    }

    async fn read_run(self: &Arc<Self>, run: Run, mut bio: Bio<'_>) -> BlkResult {
        let mut tried = Vec::new();
        let mut result = Err(BlkError::Io);
        loop {
            let chosen = self.signal.until(|| {
                let state = self.state();
                let from = self.choose(&state, &run, &tried);
                let waits = from.is_some_and(|from| self.may_be_behind(&state, from.leg, &run));
                (!waits).then_some(from)
            });
            let Some(from) = chosen.await else { return result };
            let read = bio.reborrow().at(from.sector);
            result = self.data(from.leg).submit(from.sector, read).await;
            match result {
                Ok(()) => break,
                Err(error) if error == BlkError::NotSupported || bio.flags.readahead => {
                    return result;
                }
                Err(_) => tried.push(from.leg),
            }
        }
        for leg in tried {
            self.mend(&run, leg).await;
        }
        Ok(())
    }

    /// Chooses a leg for a read of a run.
    fn choose(&self, state: &State, run: &Run, tried: &[usize]) -> Option<Place> {
        let range = run.at..run.at + run.len;
        let good = |place: &&Place| state.is_in_sync(place.leg) && !tried.contains(&place.leg);
        let is_first = |place: &&Place| !self.legs[place.leg].write_mostly;
        if state.may_differ(&range) {
            let mut all = run.copies.iter().filter(good);
            return all.clone().find(is_first).or_else(|| all.next()).copied();
        }
        // Region by region, the legs have their turns.
        let turn = state.intent.region_of(run.at) as usize % run.copies.len();
        let (before, from) = run.copies.split_at(turn);
        let in_turn = || from.iter().chain(before).filter(good);
        in_turn().find(is_first).or_else(|| in_turn().next()).copied()
    }

    /// Tells whether a write of a run may have ended that a leg does not have yet.
    fn may_be_behind(&self, state: &State, leg: usize, run: &Run) -> bool {
        let range = run.at..run.at + run.len;
        state.behind > 0 && self.legs[leg].write_mostly && !state.writes.leave_free(&range)
    }

    /// Writes to a leg what it could not read, from another, and reads it again; the leg fails where
    /// that does.
    async fn mend(self: &Arc<Self>, run: &Run, leg: usize) {
        let range = run.at..run.at + run.len;
        let _held = self.hold_for_copy(&range).await;
        if let Err(error) = self.rewrite(run, leg).await {
            let failed = vec![(leg, error)];
            // Where it is the last it stays.
            let _ = self.lost(failed).await;
        }
    }

    pub(super) async fn rewrite(&self, run: &Run, leg: usize) -> BlkResult {
        let mut buffer = Buffer::take(run.len.bytes() as usize);
        let Some(to) = run.copies.iter().find(|place| place.leg == leg) else { return Ok(()) };
        let mut tried = vec![leg];
        loop {
            let Some(from) = self.choose(&self.state(), run, &tried) else { return Ok(()) };
            let read = Bio::read(from.sector, &mut buffer);
            match self.data(from.leg).submit(from.sector, read).await {
                Ok(()) => break,
                Err(_) => tried.push(from.leg),
            }
        }
        if !self.state().is_in_sync(leg) {
            return Ok(());
        }
        self.write_and_read(leg, to.sector, &mut buffer).await
    }
}
