//! The place of a write among those of its region, and what it leaves behind.

use std::ops::Range;
use std::sync::Arc;

use sim_core::Sector;

use super::mirror_set::MirrorSet;
use super::state::{Condition, Region, State, Torn};
use crate::parts::background::Running;

/// The place of a write among those of its region; given back when dropped.
pub(super) struct Ticket<'a> {
    set: &'a Arc<MirrorSet>,
    pub(super) region: u64,
    id: u64,
    range: Range<Sector>,
    pub(super) progress: Progress,
}

/// How far a write has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// No leg was touched.
    Untouched,
    /// Some legs may have it, others not.
    Begun,
    /// All legs have it.
    Over,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let cleaning = self.set.leave(self);
        self.set.signal.notify();
        if let Some(running) = cleaning {
            self.set.clean_in_background(running);
        }
    }
}

impl MirrorSet {
    pub(super) fn ticket<'a>(
        self: &'a Arc<Self>,
        state: &mut State,
        region: u64,
        condition: Condition,
        range: &Range<Sector>,
    ) -> Ticket<'a> {
        let id = state.tick();
        let entry = state.regions.entry(region).or_insert_with(|| Region::new(condition));
        entry.condition = condition;
        entry.writes.add(range.clone());
        Ticket { set: self, region, id, range: range.clone(), progress: Progress::Untouched }
    }

    /// Takes a write out of its region; counts the task that is to look after that, where none does.
    fn leave(&self, ticket: &Ticket<'_>) -> Option<Running> {
        let mut state = self.state_if_whole()?;
        let now = state.tick();
        let entry = state.regions.get_mut(&ticket.region).expect("a region with a write is kept");
        entry.writes.remove(&ticket.range);
        match ticket.progress {
            Progress::Untouched => {}
            Progress::Begun if matches!(entry.condition, Condition::Dirty(_)) => {
                entry.tear(&ticket.range, now)
            }
            Progress::Begun => {}
            Progress::Over => entry.mend(&ticket.range, ticket.id),
        }
        if !entry.writes.is_empty() {
            return None;
        }
        entry.idle_since = now;
        match entry.condition {
            Condition::Dirty(_) if self.log_device.is_none() && entry.torn.is_none() => {
                state.regions.remove(&ticket.region);
                None
            }
            Condition::Dirty(_) => self.begin_cleaning(&mut state),
            Condition::OutOfSync => {
                state.regions.remove(&ticket.region);
                None
            }
            // Whoever recovers it has waited for this.
            Condition::Recovering => None,
            Condition::Clean => unreachable!("a clean region is not kept"),
        }
    }
}

impl Region {
    /// Takes in that a write of this range was given up, and that legs may differ in it.
    fn tear(&mut self, range: &Range<Sector>, now: u64) {
        let before = self.torn.as_ref().map_or(range, |torn| &torn.range);
        let range = before.start.min(range.start)..before.end.max(range.end);
        self.torn = Some(Torn { range, until: now });
    }

    /// Takes in that all legs have a write of this range.
    fn mend(&mut self, range: &Range<Sector>, id: u64) {
        self.torn = self.torn.take().filter(|torn| {
            torn.range.start < range.start || range.end < torn.range.end || id < torn.until
        });
    }
}
