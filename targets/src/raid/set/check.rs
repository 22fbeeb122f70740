//! Check and repair: what copies differ in, or parity from the data, is counted, and made right.

use std::ops::Range;
use std::sync::Arc;

use sim_core::{Bio, BlkError, Buffer, Sector, Sectors};

use super::RaidSet;
use super::sync::{WINDOW, Walk};
use crate::lines::raid::Action;
use crate::parts::background::Round;
use crate::raid::layout::{Layout, Place, Run};

/// What is counted where something differs: 64 KiB, as the kernel does.
const BLOCK: Sectors = Sectors(128);

impl RaidSet {
    /// Goes through the whole set.
    pub(super) async fn check(self: &Arc<Self>, round: &Round, action: Action) -> Walk {
        let end = self.len.to_sector();
        let next = |to: Sector| {
            // Where nothing is left to compare, as much as a check of none.
            let goes_on = to < end && !self.has_none_to_spare(&self.state());
            goes_on.then(|| to..(to + WINDOW).min(end))
        };
        let work = |window: Range<Sector>| async move {
            let _held = self.hold_for_copy(&window).await;
            if let Layout::Parity(parity) = &self.layout {
                return self.compare_rows(parity, window, action).await;
            }
            // Piece by piece: what is compared is in the caches still.
            let blocks = (window.start.0..window.end.0).step_by(BLOCK.0 as usize);
            let blocks = blocks.map(|at| Sector(at)..Sector(at + BLOCK.0).min(window.end));
            for run in blocks.flat_map(|block| self.layout.runs(block)) {
                match self.check_run(&run, action == Action::Repair).await {
                    Walk::Over => {}
                    broken => return broken,
                }
            }
            Walk::Over
        };
        let reached = |_: Sector| async { Some(()) };
        self.walk(round, Sector::ZERO, end, next, work, reached).await
    }

    async fn check_run(self: &Arc<Self>, run: &Run, repair: bool) -> Walk {
        let places: Vec<Place> = {
            let state = self.state();
            run.copies.iter().copied().filter(|place| state.is_in_sync(place.leg)).collect()
        };
        let Some((first, others)) = places.split_first() else { return Walk::Over };
        if self.state().may_differ(&(run.at..run.at + run.len)) {
            // A resync comes.
            return Walk::Over;
        }
        let Some(expected) = self.read_copy(run, *first).await else { return Walk::BrokenOff };
        for place in others {
            let Some(found) = self.read_copy(run, *place).await else { return Walk::BrokenOff };
            if *found == *expected {
                continue;
            }
            self.state().mismatches += run.len.0;
            let write = Bio::write(place.sector, &expected);
            if repair && self.data(place.leg).submit(place.sector, write).await.is_err() {
                let _ = self.lost(vec![(place.leg, BlkError::Io)]).await;
                return Walk::BrokenOff;
            }
        }
        Walk::Over
    }

    /// Reads a copy, and mends it where that fails. Nothing where the leg is no more what it was.
    async fn read_copy(self: &Arc<Self>, run: &Run, place: Place) -> Option<Buffer> {
        let mut buffer = Buffer::take(run.len.bytes() as usize);
        let area = self.data(place.leg);
        for _ in 0..2 {
            let read = Bio::read(place.sector, &mut buffer);
            if area.submit(place.sector, read).await.is_ok() {
                return Some(buffer);
            }
            if let Err(error) = self.rewrite(run, place.leg).await {
                let _ = self.lost(vec![(place.leg, error)]).await;
                return None;
            }
        }
        None
    }
}
