//! Reads, each from one leg, and discards, each to all.
//!
//! A region that is in sync is read from the default leg, or from the next one below it that had no
//! error; one that is not, from the leg that has its data. A read that fails is tried again on
//! another leg.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Bio, BlkError, BlkResult, Mapped, Sector, Signal};

use super::line_limit::Repeated;
use super::mirror_set::MirrorSet;
use super::state::{Fault, Legs, State};
use crate::parts::held_ranges::{HeldRanges, Hold, Holder};

/// Where a read goes.
#[derive(Clone, Copy)]
struct Source {
    leg: usize,
    /// The region is in sync, as the log counts.
    in_sync: bool,
}

impl MirrorSet {
    /// Carries out a read, on the spot where nothing waits.
    pub(super) fn read<'a>(self: &'a Arc<Self>, mut bio: Bio<'a>) -> Mapped<'a> {
        let region = self.region_of(bio.sector);
        let (from, in_sync) = {
            let state = self.state();
            (self.choose_source(&state, region), state.sync.get(region))
        };
        let Some(from) = from else {
            // The kernel has asked its worker, unless the region is in sync.
            if !in_sync && !bio.flags.readahead {
                self.log_repeated(Repeated::ReadFailed, "Mirror read failed.");
            }
            return Mapped::Completed(Err(BlkError::Io));
        };
        match self.legs[from.leg].submit(bio.sector, bio.reborrow()).now().ok() {
            None => Mapped::InFlight(Box::pin(self.read_later(bio, from, None))),
            Some(Ok(())) => Mapped::Completed(Ok(())),
            Some(Err(error)) => Mapped::InFlight(Box::pin(self.read_later(bio, from, Some(error)))),
        }
    }

    /// Chooses a leg for a read of a region.
    fn choose_source(&self, state: &State, region: u64) -> Option<Source> {
        if state.sync.get(region) {
            return state.choose(region).map(|leg| Source { leg, in_sync: true });
        }
        let leg = state.authority(region);
        // The kernel asks the default leg alone, and not where that has failed. Where another has
        // the data it is asked, be it one that has failed.
        let asked = state.health[leg].is_good() || state.health[state.default].is_good();
        asked.then_some(Source { leg, in_sync: false })
    }

    /// Goes on with a read that waits, or that has failed on a leg.
    async fn read_later(
        self: &Arc<Self>,
        mut bio: Bio<'_>,
        mut from: Source,
        mut failed: Option<BlkError>,
    ) -> BlkResult {
        let (region, mut tried): (_, Legs) = (self.region_of(bio.sector), 0);
        loop {
            let result = match failed.take() {
                Some(error) => Err(error),
                None => self.legs[from.leg].submit(bio.sector, bio.reborrow()).await,
            };
            let Err(error) = result else { return Ok(()) };
            // The kernel's worker takes what is out of sync, and what is tried again.
            let direct = from.in_sync && tried == 0;
            if direct && (error == BlkError::NotSupported || bio.flags.readahead) {
                return Err(error);
            }
            tried |= 1 << from.leg;
            from = match self.another(region, from.leg, direct) {
                Some(from) if tried >> from.leg & 1 == 0 => from,
                Some(_) | None => return Err(BlkError::Io),
            };
        }
    }

    /// Takes in that a read has failed on a leg, and chooses another, in the kernel's words.
    fn another(&self, region: u64, leg: usize, direct: bool) -> Option<Source> {
        let name = self.name(leg);
        let trying = match direct {
            true => format!("Mirror read failed from {name}. Trying alternative device."),
            false => format!("Read failure on mirror device {name}.  Trying alternative device."),
        };
        if direct {
            self.log.line(&trying);
        }
        let (event, next) = {
            let mut state = self.state();
            let event = self.fail(&mut state, 1 << leg, Fault::Read);
            let next = self.choose_source(&state, region).filter(|from| from.leg != leg);
            // Without another leg the kernel hands the read to its worker, which finds none
            // either, where the default is good.
            let tries = next.is_some() || state.health[state.default].is_good();
            let next = tries.then_some(next);
            (event, next)
        };
        self.raise_if(event);
        match (next, direct) {
            (Some(_), true) => {}
            (Some(_), false) => self.log_repeated(Repeated::ReadFailure, trying),
            (None, true) => self.log.line("All replicated volumes dead, failing I/O"),
            (None, false) => {
                let failing = format_args!("Read failure on mirror device {name}.  Failing I/O.");
                self.log_repeated(Repeated::ReadFailure, failing);
            }
        }
        // The worker has the last word, but for a read that it never had.
        if next.flatten().is_none() && !(direct && next.is_none()) {
            self.log_repeated(Repeated::ReadFailed, "Mirror read failed.");
        }
        next.flatten()
    }

    /// Discards on all legs. Regions and log know nothing of it, as in the kernel; but none of the
    /// range is copied meanwhile, which would bring back on one leg what is gone on another.
    pub(super) async fn discard(self: &Arc<Self>, bio: Bio<'_>) -> BlkResult {
        let (sector, len) = (bio.sector, bio.len());
        if self.legs.iter().any(|leg| leg.limits().max_discard_sectors == 0) {
            return Err(BlkError::NotSupported);
        }
        let range = sector..sector + len;
        let _held = {
            let mut state = self.state();
            // Whoever waits for a pause of the writes takes it for one.
            state.tick();
            Hold::new(&**self, &mut state.discards, range.clone())
        };
        let regions = self.regions_of(&range);
        let quiet = || (!self.state().recovers_in(regions.clone())).then_some(());
        self.signal.until(quiet).await;
        let discards = self.legs.iter().map(|leg| leg.submit(sector, Bio::discard(sector, len)));
        let mut discards: FuturesUnordered<_> = discards.collect();
        let mut result = Ok(());
        while let Some(end) = discards.next().await {
            // No leg is worse for it.
            result = result.and(end.map_err(|_| BlkError::NotSupported));
        }
        result
    }
}

/// The discards of a mirror, which no recovery may come between.
impl Holder for MirrorSet {
    type At = Sector;

    fn if_whole(&self, change: impl FnOnce(&mut HeldRanges<Sector>)) {
        if let Some(mut state) = self.state_if_whole() {
            change(&mut state.discards);
        }
    }

    fn freed(&self) -> &Signal {
        &self.signal
    }
}
