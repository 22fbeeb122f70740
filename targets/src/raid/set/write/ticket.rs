//! The place of a write among others, and what it leaves behind.

use std::ops::Range;
use std::sync::Arc;

use sim_core::{BlkError, Sector};

use crate::raid::set::RaidSet;

/// A write under way; its range is given back when dropped.
pub(in crate::raid::set) struct Ticket {
    set: Arc<RaidSet>,
    range: Range<Sector>,
    pub(in crate::raid::set) progress: Progress,
}

/// How far a write has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::raid::set) enum Progress {
    /// No leg was sent anything.
    Untouched,
    /// Some legs may have it, and others not.
    Torn,
    /// All legs that are alive have it.
    Over,
}

impl RaidSet {
    /// Takes a write in, unless it has to wait for others in its range. Returns the commit that is to
    /// make its bits durable, where they are not.
    ///
    /// Two writes of one sector come one after the other, so that no leg has them in another order.
    /// (The kernel leaves that to those above.)
    ///
    /// The range is of the sectors that a resync goes through.
    pub(in crate::raid::set) fn admit(
        self: &Arc<Self>,
        range: &Range<Sector>,
    ) -> Option<(Ticket, Option<u64>)> {
        let mut state = self.state();
        if !state.writes.leave_free(range) || !state.copies.leave_free(range) {
            return None;
        }
        state.writes.add(range.clone());
        let (mut pages, began) = (Vec::new(), state.commits.began);
        let mut commit = state.intent.enter(range, began, &mut pages);
        if !pages.is_empty() {
            commit = commit.max(state.commits.pages(pages));
        }
        commit = commit.max(state.make_dirty());
        let commit = (!state.commits.has_ended(commit)).then_some(commit);
        Some((
            Ticket { set: self.clone(), range: range.clone(), progress: Progress::Untouched },
            commit,
        ))
    }
}

impl Ticket {
    /// Takes in that all legs have answered, with errors from these, and returns how the write ends.
    pub(in crate::raid::set) async fn ended(
        &mut self,
        failed: Vec<(usize, BlkError)>,
    ) -> Result<(), BlkError> {
        let result = self.set.lost(failed).await;
        self.progress = if result.is_ok() { Progress::Over } else { Progress::Torn };
        result
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let set = &self.set;
        {
            let Some(mut state) = set.state_if_whole() else { return };
            let now = set.runtime.now();
            state.writes.remove(&self.range);
            state.last_write = Some(now);
            state.intent.leave(&self.range, now);
            let Range { start, end } = self.range;
            match self.progress {
                Progress::Untouched => {}
                Progress::Torn => state.torn.push((start..end, now)),
                // What an earlier one had left here is written over.
                Progress::Over => {
                    state.torn.retain(|(torn, _)| torn.start < start || end < torn.end);
                }
            }
            if self.progress != Progress::Torn {
                state.is_on_all_legs();
            }
        }
        set.signal.notify();
        set.start_clearing();
    }
}
