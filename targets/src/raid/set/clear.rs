//! Clears bits of the bitmap under which nobody has written for a while.
//!
//! A bit is cleared when all legs have been flushed after the last write under it, and when no leg
//! lacks anything: what a leg that comes back lacks is known by the bits.

use std::sync::Arc;
use std::time::Duration;

use super::RaidSet;
use crate::parts::background::{Round, finish};

impl RaidSet {
    /// Starts to clear bits, where there are any and nobody does.
    pub(super) fn start_clearing(self: &Arc<Self>) {
        let running = {
            let mut state = self.state();
            let wanted = !state.frozen && !state.is_clearing && state.is_to_be_cleared();
            wanted.then(|| {
                state.is_clearing = true;
                self.background.begin()
            })
        };
        if let Some(running) = running {
            let set = self.clone();
            running.spawn(&*self.runtime, |round| async move { set.clear_up(&round).await });
        }
    }

    async fn clear_up(self: &Arc<Self>, round: &Round) {
        while round.goes_on() {
            let before = self.runtime.now();
            round.sleep(&*self.runtime, self.daemon_sleep).await;
            if !round.goes_on() {
                break;
            }
            if self.state().give_torn_up(before) {
                self.start_sync();
            }
            self.clear_bits(before).await;
            let mut state = self.state();
            if !state.is_to_be_cleared() {
                state.is_clearing = false;
                return;
            }
        }
        self.state().is_clearing = false;
        // Where the suspend was given up that has ended this.
        self.start_clearing();
    }

    /// Clears bits under which nobody has written since `before`.
    async fn clear_bits(self: &Arc<Self>, before: Duration) {
        let runs = {
            let state = self.state();
            match state.is_degraded() {
                true => Vec::new(),
                false => state.intent.clearable(before, state.resync_from),
            }
        };
        if runs.is_empty() || self.flush_legs().await.is_err() {
            return;
        }
        let commit = {
            let mut state = self.state();
            // A leg may have failed meanwhile.
            if state.is_degraded() {
                return;
            }
            let mut pages = Vec::new();
            runs.into_iter().for_each(|run| state.intent.clear(run, before, &mut pages));
            let events = state.events;
            if let Some(header) = state.intent.header_mut() {
                header.events_cleared = events;
            }
            pages.push(0);
            state.commits.pages(pages)
        };
        self.commit(commit).await;
    }

    /// Ends what goes on in the background, and clears every bit that can be; nobody writes any more.
    pub(super) async fn settle(self: &Arc<Self>) {
        // Here, as by the time of the task the suspend may be given up and others have begun.
        self.end_background();
        let set = self.clone();
        finish(&*self.runtime, async move {
            set.background.settled().await;
            let now = set.runtime.now();
            set.state().give_torn_up(now);
            set.clear_bits(now).await;
            let commit = set.state().commits.superblocks();
            set.commit(commit).await;
        })
        .await;
    }

    /// Makes the tasks of the background end as soon as they can.
    pub(super) fn end_background(&self) {
        self.state().frozen = true;
        self.background.end();
        self.signal.notify();
    }
}
