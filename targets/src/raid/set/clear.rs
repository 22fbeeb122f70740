//! Clears bits of the bitmap under which nobody has written for a while.
//!
//! A bit is cleared when all legs have been flushed after the last write under it, and when no leg
//! lacks anything: what a leg that comes back lacks is known by the bits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;

use super::RaidSet;
use super::commit::Event;
use super::state::{Cleanness, Cleared};
use crate::parts::background::{Round, finish};

/// How long after the last write a set is called clean, as md's `safe_mode_delay` begins with.
const SAFE_DELAY: Duration = Duration::from_millis(200);

impl RaidSet {
    /// Starts to clear bits, where there are any and nobody does.
    pub(super) fn start_clearing(self: &Arc<Self>) {
        let running = {
            let mut state = self.state();
            let wanted = !state.frozen
                && !state.is_clearing
                && !self.is_read_only
                && state.is_to_be_cleared();
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
            // Where nothing but bits waits, somebody may write meanwhile.
            let is_to_be_clean = || self.state().is_to_be_clean().then_some(());
            if is_to_be_clean().is_none() {
                let slept = round.sleep(&*self.runtime, self.daemon_sleep);
                select(pin!(slept), pin!(self.signal.until(is_to_be_clean))).await;
            }
            if is_to_be_clean().is_some() {
                let sleep = self.daemon_sleep.min(SAFE_DELAY);
                round.sleep(&*self.runtime, sleep).await;
            }
            if !round.goes_on() {
                break;
            }
            let now = self.runtime.now();
            let before = now.saturating_sub(self.daemon_sleep);
            if self.state().give_torn_up(before) {
                self.start_sync();
            }
            self.clear_bits(before).await;
            self.make_clean(now.saturating_sub(SAFE_DELAY), false).await;
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
            if state.cleared == Cleared::Before {
                state.cleared = Cleared::TooOld;
            }
            pages.push(0);
            state.commits.pages(pages)
        };
        self.commit(commit).await;
    }

    /// Has the superblocks call the set clean, where it is and nobody has written since `before`.
    pub(super) async fn make_clean(self: &Arc<Self>, before: Duration, is_left: bool) {
        if !self.state().may_be_clean(before, is_left) {
            return;
        }
        let says_clean = self.state().metadata_says_clean;
        if says_clean && self.flush_legs().await.is_err() {
            return;
        }
        let commit = {
            let mut state = self.state();
            // Somebody may have written meanwhile.
            if !state.may_be_clean(before, is_left) {
                return;
            }
            match is_left {
                true => {
                    state.cleanness = Cleanness::Clean;
                    state.commit(Event::Change, 1)
                }
                false => state.note_cleanness(Cleanness::Clean),
            }
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
            set.drain().await;
            let now = set.runtime.now();
            set.state().give_torn_up(now);
            set.clear_bits(now).await;
            set.make_clean(now, true).await;
            let commit = {
                let mut state = set.state();
                let events = u64::from(state.is_broken());
                let is_new = events > 0 || state.events.are_unwritten();
                is_new.then(|| state.commit(Event::Change, events))
            };
            if let Some(commit) = commit {
                set.commit(commit).await;
            }
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
