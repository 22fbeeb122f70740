//! Makes regions clean in which nobody writes any more: their legs are flushed, then their bits
//! set, many at a time.
//!
//! It also mends what a write that was given up has left behind, where another write of the same
//! sectors has not done so.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sim_core::Sector;

use super::mirror_set::MirrorSet;
use super::state::{Condition, Fault, Region, State};
use crate::parts::background::{Round, Running, finish};
use crate::parts::dirty_log;

/// How long a region keeps its mark after a write, at least, while others are written: the next
/// write of it then costs nothing.
const REST: Duration = Duration::from_millis(200);

/// How long nobody writes before regions are made clean at once: about as long as the flush of the
/// legs takes that comes with it. The kernel does not wait at all.
const PAUSE: Duration = Duration::from_millis(3);

impl MirrorSet {
    /// Counts the task that makes regions clean, unless there is one.
    pub(super) fn begin_cleaning(&self, state: &mut State) -> Option<Running> {
        let begins = !std::mem::replace(&mut state.cleaning, true);
        begins.then(|| self.background.begin())
    }

    pub(super) fn clean_in_background(self: &Arc<Self>, running: Running) {
        let set = self.clone();
        running.spawn(&*self.runtime, |round| async move { set.clean_up(&round).await });
    }

    /// Starts to make regions clean if there are any without writes and nobody does.
    pub(super) fn go_on_cleaning(self: &Arc<Self>) {
        let cleaning = {
            let mut state = self.state();
            let is_left = state.regions.values().any(Region::is_idle);
            let wanted = is_left && !state.suspending;
            wanted.then(|| self.begin_cleaning(&mut state)).flatten()
        };
        if let Some(running) = cleaning {
            self.clean_in_background(running);
        }
    }

    /// Makes regions clean as long as there are any that are not.
    async fn clean_up(self: &Arc<Self>, round: &Round) {
        while round.goes_on() {
            let since = self.wait_for_a_pause(round).await;
            self.clean_round(since).await;
            let mut state = self.state();
            // A region with writes asks for it again when they are over.
            if !state.regions.values().any(Region::is_idle) {
                state.cleaning = false;
                return;
            }
        }
        self.state().cleaning = false;
        // Where the suspend was given up that has ended this.
        self.go_on_cleaning();
    }

    /// Waits until nobody has written for [`PAUSE`], or for [`REST`] where somebody always does, and
    /// returns since when a region must not have been written.
    async fn wait_for_a_pause(&self, round: &Round) -> u64 {
        let first = self.state().tick();
        let mut last = first;
        for _ in 0..=REST.as_millis() / PAUSE.as_millis() {
            round.sleep(&*self.runtime, PAUSE).await;
            let mut state = self.state();
            if state.is_quiet_since(last) || !round.goes_on() {
                return last;
            }
            last = state.tick();
        }
        first
    }

    /// Makes regions clean that nobody writes now. Unknown to a core log.
    pub(super) async fn clean_now(self: &Arc<Self>) {
        if self.log_device.is_none() {
            return;
        }
        let (running, set) = (self.background.begin(), self.clone());
        finish(&*self.runtime, async move {
            let _running = running;
            let since = set.state().tick();
            set.clean_round(since).await;
            // What it has mended was too young for it.
            set.go_on_cleaning();
        })
        .await;
    }

    /// Makes regions clean that nobody has written since.
    async fn clean_round(self: &Arc<Self>, since: u64) {
        self.mend(since).await;
        let idle = self.idle(since);
        if idle.is_empty() {
            return;
        }
        // A core log knows no clean regions: they are only let go of.
        if self.log_device.is_some() {
            let failed = self.flush_legs().await;
            if failed != 0 {
                let event = {
                    let mut state = self.state();
                    state.flush_has_failed(failed);
                    state.log.distrust_copies();
                    self.fail(&mut state, failed, Fault::Flush)
                };
                self.raise_if(event);
            }
        }
        {
            let mut state = self.state();
            for region in idle {
                let good = state.good(region) == state.all_legs() && !state.flush_failed;
                let Some(entry) = state.regions.get(&region) else { continue };
                let still = entry.writes.is_empty() && entry.idle_since <= since;
                match entry.condition {
                    Condition::Dirty(mark) if still && entry.torn.is_none() => {
                        state.regions.remove(&region);
                        if good && state.log.is_durable(mark) {
                            state.log.clean(region);
                        } else {
                            state.log.leave(mark);
                        }
                    }
                    Condition::Dirty(_)
                    | Condition::Clean
                    | Condition::OutOfSync
                    | Condition::Recovering => {}
                }
            }
        }
        // A hint: where it cannot be written, it is later.
        let _ = dirty_log::commit_changes(self).await;
    }

    /// Lists regions that are marked, and that nobody has written since.
    fn idle(&self, since: u64) -> Vec<u64> {
        let state = self.state();
        let idle = state.regions.iter().filter(|(_, region)| {
            region.is_idle() && region.torn.is_none() && region.idle_since <= since
        });
        idle.map(|(at, _)| *at).collect()
    }

    /// Makes legs equal again where a write was given up.
    async fn mend(&self, since: u64) {
        while let Some((region, mark, range)) = self.begin_mending(since) {
            let copied = self.copy(region, range).await;
            let well = !copied.read_failed && copied.failed == 0;
            let event = {
                let mut state = self.state();
                let event = self.copy_failed(&mut state, copied);
                let now = state.tick();
                if let Some(entry) = state.regions.get_mut(&region) {
                    (entry.condition, entry.torn, entry.idle_since) =
                        (Condition::Dirty(mark), None, now);
                }
                if !well {
                    // Whichever leg answers has all that was acknowledged.
                    let from = 1 << copied.from;
                    let failed = if copied.read_failed { from } else { copied.failed };
                    state.fall_behind(region, failed);
                    state.lose_sync(region);
                    state.regions.remove(&region);
                }
                event
            };
            self.raise_if(event);
            self.signal.notify();
        }
    }

    fn begin_mending(&self, since: u64) -> Option<(u64, u64, Range<Sector>)> {
        let mut state = self.state();
        let mut regions = state.regions.iter_mut();
        regions.find_map(|(at, region)| match (region.condition, &region.torn) {
            (Condition::Dirty(mark), Some(torn))
                if region.writes.is_empty() && region.idle_since <= since =>
            {
                let range = torn.range.clone();
                region.condition = Condition::Recovering;
                Some((*at, mark, range))
            }
            _ => None,
        })
    }

    /// Ends what goes on in the background, and leaves every region clean that can be; nobody
    /// writes any more. Ends well where the log has all of that.
    pub(super) async fn settle(self: &Arc<Self>) {
        // Here, as by the time of the task the suspend may be given up and others have begun.
        self.end_background();
        let set = self.clone();
        finish(&*self.runtime, async move { set.settle_all().await }).await;
    }

    async fn settle_all(self: &Arc<Self>) {
        self.background.settled().await;
        loop {
            let since = self.state().tick();
            self.clean_round(since).await;
            let state = self.state();
            let mut left = state.regions.values();
            let is_left = |region: &Region| {
                matches!(region.condition, Condition::Dirty(_)) && region.writes.is_empty()
            };
            // Where the suspend was given up there are writes again, and somebody cleans up.
            if !state.suspending || !left.any(is_left) {
                break;
            }
        }
        if dirty_log::commit_changes(self).await.is_err() {
            self.log.line("log postsuspend failed");
        }
        self.go_on_cleaning();
    }
}
