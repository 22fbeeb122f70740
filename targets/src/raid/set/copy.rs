//! Copies of a range of the set from one leg to others.

use std::ops::Range;
use std::sync::Arc;

use sim_core::{BlkError, Sector, Sectors};

use super::RaidSet;
use super::state::State;
use super::sync::Walk;
use crate::parts::copying::{self, Spot};
use crate::raid::layout::{Place, Run};

/// The most places that a copy goes to at a time.
const PLACES: usize = 64;

impl RaidSet {
    /// Copies a range, in which nobody writes, from the first leg that is in sync, and is not read last, to those that
    /// `is_target` says: it is asked with the place there, the sector of the set, and how many follow.
    pub(super) async fn copy_range(
        self: &Arc<Self>,
        range: &Range<Sector>,
        is_target: impl Fn(&State, Place, Sector, Sectors) -> bool,
    ) -> Walk {
        for run in self.layout.runs(range.clone()) {
            let (sources, targets) = {
                let state = self.state();
                let places = || run.copies.iter().copied();
                let mut sources: Vec<Place> =
                    places().filter(|place| state.is_in_sync(place.leg)).collect();
                // What a power cut has left, those that writes were behind on may lack.
                sources.sort_by_key(|place| self.legs[place.leg].write_mostly);
                let is_target = |place: &Place| is_target(&state, *place, run.at, run.len);
                (sources, places().filter(is_target).collect::<Vec<Place>>())
            };
            match self.copy_run(&run, &sources, &targets).await {
                Walk::Over => {}
                broken => return broken,
            }
        }
        Walk::Over
    }

    async fn copy_run(self: &Arc<Self>, run: &Run, sources: &[Place], targets: &[Place]) -> Walk {
        let mut unread = Vec::new();
        for source in sources {
            // What a leg could not read is written to it, as it is about to be read from another.
            let others = targets.iter().filter(|place| place.leg != source.leg);
            let mut to: Vec<Place> = others.copied().collect();
            to.extend(unread.iter().filter(|place: &&Place| !targets.contains(place)).copied());
            if to.is_empty() {
                return Walk::Over;
            }
            match self.copy_from(run, *source, &to).await {
                Some(failed) if failed.is_empty() => return Walk::Over,
                Some(failed) => {
                    let failed = failed.into_iter().map(|leg| (leg, BlkError::Io)).collect();
                    return match self.lost(failed).await {
                        Ok(()) => Walk::BrokenOff,
                        // The last one stays, and would fail again, without an end.
                        Err(_) => Walk::GaveUp,
                    };
                }
                None => unread.push(*source),
            }
        }
        Walk::GaveUp
    }

    /// Copies from one place to others, and returns the legs that could not be written; nothing where
    /// the first could not be read.
    async fn copy_from(&self, run: &Run, from: Place, to: &[Place]) -> Option<Vec<usize>> {
        let spot = |place: &Place| Spot { area: self.data(place.leg), sector: place.sector };
        let mut failed = Vec::new();
        for to in to.chunks(PLACES) {
            let spots: Vec<Spot<'_>> = to.iter().map(spot).collect();
            let copied = copying::copy(spot(&from), run.len, &spots).await;
            if copied.read_failed {
                return None;
            }
            let bad = (0..).zip(to).filter(|(nr, _)| copied.failed >> nr & 1 == 1);
            failed.extend(bad.map(|(_, place)| place.leg));
        }
        Some(failed)
    }
}
