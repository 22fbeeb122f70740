//! The resync: regions that are not in sync are copied from the leg that has their data to all
//! others, several at a time.
//!
//! As in the kernel, the search for such regions goes over the target once for each resume: one
//! that could not be copied, or that fell out of sync since, waits for the next.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::mirror_set::MirrorSet;
use super::region_copy::Copied;
use super::state::{Condition, Region};
use crate::parts::background::{Round, yield_now};

/// How many regions are copied at a time. The kernel copies one.
const AT_A_TIME: usize = 4;

impl MirrorSet {
    /// Starts the resync, where there is something to do.
    pub(super) fn start_resync(self: &Arc<Self>) {
        self.look_whether_in_sync();
        let unsynced = {
            let state = self.state();
            state.sync.len() - state.sync.ones()
        };
        for _ in 0..(unsynced as usize).min(AT_A_TIME) {
            let set = self.clone();
            let task = |round| async move { set.resync(&round).await };
            self.background.begin().spawn(&*self.runtime, task);
        }
    }

    /// Recovers one region after another.
    async fn resync(self: &Arc<Self>, round: &Round) {
        let (mut used, mut took) = (self.pace.used(), Duration::ZERO);
        while round.goes_on() {
            let rate = self.pace.rate();
            let wait = self.pace.wait(&mut used, took, self.runtime.now(), self.region);
            match wait.is_zero() {
                // Others may come in between all the same.
                true => yield_now().await,
                false => {
                    let other_rate = || self.pace.rate() != rate;
                    let rate_is_set = self.signal.until(|| other_rate().then_some(()));
                    let sleep = Box::pin(round.sleep(&*self.runtime, wait));
                    match select(sleep, Box::pin(rate_is_set)).await {
                        Either::Left(((), _)) | Either::Right(((), _)) => {}
                    }
                    if other_rate() {
                        continue;
                    }
                }
            }
            let Some(region) = self.begin_recovery(round).await else { return };
            let started = self.runtime.now();
            self.recover(region).await;
            took = self.runtime.now().saturating_sub(started);
        }
    }

    /// Finds the next region that is not in sync, and keeps writes away from it.
    async fn begin_recovery(&self, round: &Round) -> Option<u64> {
        let next = || {
            let mut state = self.state();
            if !round.goes_on() {
                return Some(None);
            }
            let mut from = state.search;
            loop {
                let Some(region) = state.sync.next_zero(from) else {
                    state.search = self.regions;
                    return Some(None);
                };
                from = region + 1;
                let entry = state.regions.get(&region);
                if entry.is_some_and(|entry| entry.condition == Condition::Recovering) {
                    continue;
                }
                if !state.discards.leave_free(&self.range_of(region)) {
                    return None;
                }
                state.search = from;
                let entry = state.regions.entry(region);
                entry.or_insert_with(|| Region::new(Condition::Recovering)).condition =
                    Condition::Recovering;
                return Some(Some(region));
            }
        };
        self.signal.until(next).await
    }

    /// Copies a region as soon as no write is under way in it.
    async fn recover(self: &Arc<Self>, region: u64) {
        let quiet = || match self.state().regions.get(&region) {
            Some(entry) if entry.condition == Condition::Recovering => {
                entry.writes.is_empty().then_some(true)
            }
            // A write of it has failed: it stays as it is.
            Some(_) | None => Some(false),
        };
        if self.signal.until(quiet).await {
            let since = self.state().tick();
            let copied = self.copy(region, self.range_of(region)).await;
            self.recovered(region, copied, since);
        }
    }

    /// Takes in how the recovery of a region has ended.
    fn recovered(self: &Arc<Self>, region: u64, copied: Copied, since: u64) {
        let well = !copied.read_failed && copied.failed == 0;
        let (event, cleaning) = {
            let mut state = self.state();
            let event = self.copy_failed(&mut state, copied);
            if copied.read_failed {
                state.regions.remove(&region);
            } else {
                let lost = state.lost_since(since) & !(1 << copied.from);
                state.set_behind(region, copied.failed | lost);
            }
            let mut cleaning = None;
            match (well, self.log_device.is_some()) {
                (true, true) => {
                    let mark = state.log.unclean();
                    let now = state.tick();
                    let entry = state.regions.get_mut(&region).expect("kept while it recovers");
                    (entry.condition, entry.torn, entry.idle_since) =
                        (Condition::Dirty(mark), None, now);
                    cleaning = self.begin_cleaning(&mut state);
                }
                (true, false) | (false, _) => {
                    state.regions.remove(&region);
                }
            }
            // Without `handle_errors` the kernel takes it for in sync all the same.
            if well || !self.features.handle_errors {
                state.sync.set(region, true);
            }
            (event, cleaning)
        };
        self.raise_if(event);
        self.look_whether_in_sync();
        self.signal.notify();
        if let Some(running) = cleaning {
            self.clean_in_background(running);
        }
    }
}
