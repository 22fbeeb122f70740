//! Bios in flight that a copy or a merge of their chunks must not overtake: reads of the origin, and
//! in a merge writes of the store.

use std::ops::Range;

use sim_core::{Sector, Sectors, Signal};

use super::snap::{Snap, State};
use crate::parts::held_ranges::{HeldRanges, Hold, Holder};

/// Chunks with a bio in flight that a copy or a merge must not overtake.
pub(super) type Tracked<'a> = Hold<'a, Snap>;

impl Holder for Snap {
    type At = u64;

    fn if_whole(&self, change: impl FnOnce(&mut HeldRanges<u64>)) {
        if let Some(mut state) = self.state_if_whole() {
            change(&mut state.tracked);
        }
    }

    fn freed(&self) -> &Signal {
        &self.untracked
    }
}

impl Snap {
    /// Keeps copies and merges of these chunks from going on, until what is returned is dropped.
    pub(super) fn track(&self, state: &mut State, sector: Sector, len: Sectors) -> Tracked<'_> {
        let chunks = self.chunk.touched(sector, len);
        Hold::new(self, &mut state.tracked, chunks)
    }

    /// Waits until no bio is tracked in these chunks.
    pub(super) async fn untracked_in(&self, runs: &[Range<u64>]) {
        let untracked = || {
            let state = self.state();
            runs.iter().all(|run| state.tracked.leave_free(run)).then_some(())
        };
        self.untracked.until(untracked).await;
    }
}
