//! What makes copies the same in the background: resync, recovery, check and repair.
//!
//! A *resync* makes the copies of what may differ the same as the first leg that is in sync has it. A
//! *recovery* writes what a leg lacks. A *check* counts what differs, a *repair* mends it too. Each
//! goes through the set, or the legs, in steps of some windows side by side. Nobody writes in a window
//! meanwhile. How far it has got goes into the superblocks when the legs have been flushed.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Sector, Sectors};

use super::RaidSet;
use super::commit::Event;
use super::state::{Leg, Progress, State};
use crate::lines::raid::Action;
use crate::parts::background::{Round, yield_now};
use crate::parts::side_by_side;
use crate::raid::layout::{Layout, Place};

/// How much is copied at a time, in sectors: 1 MiB.
pub(super) const WINDOW: Sectors = Sectors(2048);

/// How many windows are copied at a time.
const AT_A_TIME: usize = 4;

/// After which time, at most, the superblocks are told how far it has got.
const CHECKPOINT: Duration = Duration::from_secs(180);

/// How a walk through the set ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// It came to the end.
    Over,
    /// It is to stop, or a leg is no more what it was: somebody looks anew.
    BrokenOff,
    /// Something could be read nowhere.
    GaveUp,
}

/// Where md tells the superblocks how far it has got: when it begins with something that is more than a
/// sixteenth of all behind the last time.
struct Checkpoints {
    last: Sector,
    apart: Sectors,
    /// There was one since something was done: it counts as soon as something is.
    waits: bool,
}

impl Checkpoints {
    /// Says how many there are where something is done, in steps of so many sectors.
    fn work(&mut self, window: &Range<Sector>, step: Sectors) -> u64 {
        let (mut at, mut passed) = (window.start, 0);
        while at < window.end {
            self.waits |= self.is_at(at);
            passed += u64::from(std::mem::take(&mut self.waits));
            at = Sector((at.0 / step.0 + 1) * step.0);
        }
        passed
    }

    /// Goes over what is left out, as far at a time as `next` says.
    fn skip(&mut self, range: Range<Sector>, next: impl Fn(Sector) -> Sector) {
        let mut at = range.start;
        while at < range.end {
            self.waits |= self.is_at(at);
            at = next(at);
        }
    }

    fn is_at(&mut self, at: Sector) -> bool {
        let is_here = at - self.last > self.apart;
        if is_here {
            self.last = at;
        }
        is_here
    }
}

impl RaidSet {
    /// Starts what is to be done in the background, if anything is.
    pub(super) fn start_sync(self: &Arc<Self>) {
        let running = {
            let mut state = self.state();
            let action = self.next_action(&state).filter(|_| !state.frozen);
            action.and_then(|action| {
                // Shown from here on, also where what went on before is not quite over: whoever has
                // asked for it waits until it is over.
                if state.progress.action == Action::Idle {
                    state.progress = Progress { action, done: 0 };
                }
                (!std::mem::replace(&mut state.is_syncing, true)).then(|| self.background.begin())
            })
        };
        if let Some(running) = running {
            let set = self.clone();
            running.spawn(&*self.runtime, |round| async move { set.sync(&round).await });
        }
    }

    /// Says what is to be done next.
    pub(super) fn next_action(&self, state: &State) -> Option<Action> {
        let is_behind = |leg: &Leg| matches!(leg, Leg::Behind(_));
        let end = self.len.to_sector();
        if state.gave_up || state.is_broken() || self.is_read_only {
            return None;
        }
        if state.moves.position.is_some() {
            let runs = self.reshape.as_ref().is_some_and(|reshape| !reshape.waits);
            runs.then_some(Action::Reshape)
        } else if state.legs.iter().any(is_behind) {
            Some(Action::Recover)
        } else if state.next_to_resync(Sector::ZERO, end).is_some() {
            Some(Action::Resync)
        } else {
            state.asked
        }
    }

    async fn sync(self: Arc<Self>, round: &Round) {
        round.earlier_are_gone().await;
        loop {
            let action = {
                let mut state = self.state();
                state.is_broken_off = false;
                let action = self.next_action(&state).filter(|_| !state.frozen && round.goes_on());
                let Some(action) = action else {
                    state.is_syncing = false;
                    // What is suspended shows so by itself; nothing may be left of it then.
                    state.progress = Progress { action: Action::Idle, done: 0 };
                    break;
                };
                state.progress = Progress { action, done: 0 };
                state.mismatches = 0;
                if matches!(action, Action::Check | Action::Repair) {
                    state.asked = None;
                }
                action
            };
            if matches!(action, Action::Check | Action::Repair) {
                self.make_clean(self.runtime.now(), false).await;
            }
            let walk = match (action, &self.reshape) {
                (Action::Reshape, Some(reshape)) => self.move_all(round, reshape).await,
                (Action::Recover, _) => self.recover(round).await,
                (Action::Check | Action::Repair, _) => self.check(round, action).await,
                _ => self.resync(round).await,
            };
            if walk != Walk::Over && action != Action::Reshape {
                // As md: that it has ended, and that it is looked into what is next, if anything is.
                let commit = {
                    let mut state = self.state();
                    let events = if state.frozen { 1 } else { 2 };
                    state.commit(Event::Change, events)
                };
                self.commit(commit).await;
            }
            {
                let mut state = self.state();
                state.gave_up |= walk == Walk::GaveUp;
                if action != Action::Check {
                    state.mismatches = 0;
                }
                if action == Action::Resync && walk == Walk::Over {
                    state.goes_on = false;
                }
                // Whoever is told of the event sees that it is over.
                let action = self.next_action(&state).unwrap_or(Action::Idle);
                state.progress = Progress { action, done: 0 };
            }
            self.events.raise();
            self.signal.notify();
            yield_now().await;
        }
        self.signal.notify();
        self.start_clearing();
        // Where the suspend was given up that has ended this.
        self.start_sync();
    }

    /// Makes what may differ the same on all legs that are in sync.
    async fn resync(self: &Arc<Self>, round: &Round) -> Walk {
        let end = self.len.to_sector();
        let next = |to: Sector| {
            let state = self.state();
            let at = state.next_to_resync(to, end)?;
            let region = state.intent.region_around(at, self.len);
            Some(match state.resync_from {
                Some(from) if at >= from => at..region.end.min(at + WINDOW),
                // As a whole: it is stale until all of it is the same.
                Some(_) | None => region,
            })
        };
        let work = |window: Range<Sector>| async move {
            let _held = self.hold_for_copy(&window).await;
            let walk = match &self.layout {
                Layout::Parity(parity) => {
                    self.compare_rows(parity, window.clone(), Action::Resync).await
                }
                _ => {
                    let is_target =
                        |state: &State, place: Place, _: Sector, _| state.is_in_sync(place.leg);
                    self.copy_range(&window, is_target).await
                }
            };
            if walk == Walk::Over {
                self.state().intent.resynced(&window, self.len);
            }
            walk
        };
        let reached = |at: Sector| async move {
            self.flush_legs().await.is_ok().then(|| {
                let mut state = self.state();
                // All of it where the legs were walked through to the end.
                state.resync_from =
                    state.resync_from.map(|from| from.max(at)).filter(|at| *at < end);
            })
        };
        let from = self.state().next_to_resync(Sector::ZERO, end).unwrap_or(end);
        self.walk(round, from, end, next, work, reached).await
    }

    /// Writes what legs lack.
    async fn recover(self: &Arc<Self>, round: &Round) -> Walk {
        let legs: Vec<usize> = {
            let state = self.state();
            (0..self.legs.len()).filter(|leg| matches!(state.legs[*leg], Leg::Behind(_))).collect()
        };
        let legs = &legs;
        let from = legs.iter().filter_map(|leg| match self.state().legs[*leg] {
            Leg::Behind(behind) => Some(behind.from),
            _ => None,
        });
        let (from, end) = (from.min().unwrap_or_default(), self.layout.recovery_len().to_sector());
        let next = |to: Sector| {
            let at = self.next_to_recover(legs, to)?;
            let window = at..(at + WINDOW).min(end);
            Some(match self.is_by_rows() {
                // As far as a bit says the same.
                true => at..window.end.min(self.state().intent.region_around(at, self.len).end),
                false => window,
            })
            .filter(|_| at < end)
        };
        let work = |window: Range<Sector>| async move {
            if self.is_by_rows() {
                let _held = self.hold_for_copy(&window).await;
                return match &self.layout {
                    Layout::Parity(parity) => self.recover_rows(parity, window.clone()).await,
                    _ => self.copy_range(&window, lacks).await,
                };
            }
            for leg in legs {
                match self.recover_window(*leg, window.clone()).await {
                    Walk::Over => {}
                    broken => return broken,
                }
            }
            Walk::Over
        };
        let reached = |at: Sector| async move {
            self.flush_legs().await.is_ok().then(|| {
                let mut state = self.state();
                if self.has_none_to_spare(&state) {
                    state.intent.resynced(&(from..at), self.len);
                    let resync_from = state.resync_from.filter(|was| *was >= from);
                    if resync_from.is_some() {
                        state.resync_from =
                            resync_from.map(|was| was.max(at)).filter(|at| *at < end);
                    }
                }
                for leg in legs {
                    if let Leg::Behind(behind) = &mut state.legs[*leg] {
                        behind.from = behind.from.max(at);
                        if at >= end {
                            state.legs[*leg] = Leg::InSync;
                        }
                    }
                }
            })
        };
        self.walk(round, from, end, next, work, reached).await
    }

    /// Tells whether what the legs in sync have cannot differ: all else is made of it.
    pub(super) fn has_none_to_spare(&self, state: &State) -> bool {
        let in_sync = (0..state.width).filter(|leg| state.is_in_sync(*leg)).count();
        match &self.layout {
            Layout::Raid1 { .. } => in_sync == 1,
            Layout::Parity(parity) => in_sync == parity.data_legs(),
            Layout::Raid0 { .. } | Layout::Raid10(_) => false,
        }
    }

    /// Finds the next sector of the legs that one of these lacks, as far as that is known at once.
    fn next_to_recover(&self, legs: &[usize], at: Sector) -> Option<Sector> {
        let state = self.state();
        let mut behind = legs.iter().filter_map(|leg| match state.legs[*leg] {
            Leg::Behind(behind) => Some(behind),
            _ => None,
        });
        match self.is_by_rows() && behind.all(|behind| behind.by_bitmap) {
            true => state.intent.next_dirty(at),
            false => Some(at),
        }
    }

    /// Tells whether what the bitmap and a resync go by lies at the same sectors of all legs.
    fn is_by_rows(&self) -> bool {
        matches!(self.layout, Layout::Raid1 { .. } | Layout::Parity(_))
    }

    /// Writes what a leg lacks in a window of it, from another leg.
    async fn recover_window(self: &Arc<Self>, leg: usize, window: Range<Sector>) -> Walk {
        // Places are counted from where a leg begins, and what it lacks from where its data does.
        let offset = self.layout.offset();
        let mut sector = window.start;
        while sector < window.end {
            let place = Place { leg, sector: sector + offset };
            let Some((at, _)) = self.layout.sector_at(place) else {
                // The set has nothing there, up to the end of that chunk.
                let Layout::Raid10(raid10) = &self.layout else { break };
                let chunk = raid10.chunk();
                sector = Sector((sector.0 / chunk.0 + 1) * chunk.0).min(window.end);
                continue;
            };
            let len = (self.layout.run_end(at) - at).min(window.end - sector);
            sector += len;
            // Each leg has its turn.
            let lacks = |state: &State, place: Place, at: Sector, len: Sectors| {
                let own = Place { leg, sector: Sector(place.sector.0.saturating_sub(offset.0)) };
                place.leg == leg && lacks(state, own, at, len)
            };
            if !lacks(&self.state(), place, at, len) {
                continue;
            }
            let range = at..at + len;
            let _held = self.hold_for_copy(&range).await;
            match self.copy_range(&range, lacks).await {
                Walk::Over => {}
                broken => return broken,
            }
        }
        Walk::Over
    }

    /// Goes from `at` on to the end, some windows at a time, which `next` gives out from a sector on,
    /// and `work` does something about. `reached` makes durable that all before a sector is done: now
    /// and then, and at the end.
    pub(super) async fn walk<W, R>(
        self: &Arc<Self>,
        round: &Round,
        mut at: Sector,
        end: Sector,
        next: impl Fn(Sector) -> Option<Range<Sector>>,
        work: impl Fn(Range<Sector>) -> W,
        reached: impl Fn(Sector) -> R,
    ) -> Walk
    where
        W: Future<Output = Walk> + Send,
        R: Future<Output = Option<()>>,
    {
        let mut used = self.pace.used();
        let (mut took, mut told) = (Duration::ZERO, self.runtime.now());
        let action = self.state().progress.action;
        // What lies between is left out as a whole.
        let skip = |at: Sector| self.state().intent.region_around(at, self.len).end;
        let mut checkpoints = Checkpoints { last: at, apart: Sectors(end.0 / 16), waits: false };
        loop {
            let mut windows: Vec<Range<Sector>> = Vec::new();
            while windows.len() < AT_A_TIME
                && let Some(window) = next(windows.last().map_or(at, |last| last.end))
            {
                windows.push(window);
            }
            let is_over = windows.is_empty();
            let mut passed = 0;
            for window in &windows {
                checkpoints.skip(at..window.start, skip);
                passed += checkpoints.work(window, self.layout.sync_step());
                at = window.end;
            }
            let len: u64 = windows.iter().map(|window| window.end.0 - window.start.0).sum();
            if !is_over {
                if !self.keep_pace(round, Sectors(len), &mut used, took).await {
                    return Walk::BrokenOff;
                }
                let started = self.runtime.now();
                let steps = windows.into_iter().map(&work).collect();
                let (ended, left) = side_by_side::begin(&*self.runtime, steps);
                let mut steps: FuturesUnordered<_> = left.into_iter().collect();
                let broken = ended.into_iter().find(|step| *step != Walk::Over);
                let mut walk = broken.unwrap_or(Walk::Over);
                while let Some(step) = steps.next().await {
                    if step != Walk::Over {
                        walk = step;
                    }
                }
                drop(steps);
                took = self.runtime.now().saturating_sub(started);
                if walk != Walk::Over {
                    return walk;
                }
                self.state().progress.done = at.0;
            } else {
                at = end;
            }
            let is_late = self.runtime.now().saturating_sub(told) >= CHECKPOINT;
            if !is_over && passed == 0 && !is_late {
                continue;
            }
            told = self.runtime.now();
            if reached(at).await.is_none() {
                return Walk::GaveUp;
            }
            if is_over {
                // That it has ended, and then what follows from it.
                let commit = self.state().commit(Event::Change, 2);
                self.commit(commit).await;
                return Walk::Over;
            }
            let notes = passed.max(1);
            // How far a check has got is in no superblock.
            if matches!(action, Action::Check | Action::Repair) {
                self.state().count(Event::Note, notes);
                continue;
            }
            // One at a time: who is cut off from the last of them is not far behind the others.
            for _ in 0..notes {
                let commit = self.state().commit(Event::Note, 1);
                self.commit(commit).await;
            }
        }
    }

    /// Waits as the pace asks for it; tells whether the work is to go on.
    pub(super) async fn keep_pace(
        &self,
        round: &Round,
        len: Sectors,
        used: &mut u64,
        took: Duration,
    ) -> bool {
        let wait = self.pace.wait(used, took, self.runtime.now(), len);
        match wait.is_zero() {
            // Others may come in between all the same.
            true => yield_now().await,
            false => round.sleep(&*self.runtime, wait).await,
        }
        round.goes_on() && !self.state().is_broken_off
    }
}

/// Tells whether a leg that is rebuilt lacks any of some sectors of the set, which it has from this
/// place on.
pub(super) fn lacks(state: &State, place: Place, at: Sector, len: Sectors) -> bool {
    match state.legs[place.leg] {
        Leg::Behind(behind) => state.lacks(behind, place.sector + len, at),
        Leg::InSync | Leg::Failed(_) | Leg::Broken | Leg::Missing => false,
    }
}
