//! Which states to look at: all of them where they are few, those that matter first where they are not.

use std::collections::HashSet;
use std::sync::Arc;

use sim_core::Rng;

use crate::recording::Recording;
use crate::state::{Kept, Loss, State};
use crate::window::Window;

/// Up to so many volatile writes, each of their subsets is a state.
const EXHAUSTIVE: usize = 8;

/// How many random states are made at most that were there already, before one gives up on a window.
const MAX_SAME: u32 = 32;

/// Which states to look at.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// At most so many.
    pub states: u64,
    /// Chooses the random ones, and which are left out where there are too many.
    pub seed: u64,
    /// From the first window that has so many marks behind it.
    pub from_mark: usize,
    /// To the last that has no more than so many.
    pub to_mark: usize,
}

impl Plan {
    /// Tells whether a moment is looked at.
    pub fn has(&self, window: &Window) -> bool {
        (self.from_mark..=self.to_mark).contains(&window.marks)
    }
}

/// What was lost at least once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Writes that a power cut can lose, in the windows that were looked at.
    pub writes: usize,
    /// How many of them were lost in some state.
    pub lost: usize,
    /// How many of those that have several atomic units were torn in some state.
    pub torn: usize,
    /// How many of them there are.
    pub tearable: usize,
    /// States that were left out as their content was looked at before.
    pub same: u64,
}

/// How a state is made of the volatile writes of a window, counted from 0.
#[derive(Clone, Copy, Debug)]
enum Pick {
    /// Only the first so many are there.
    First(usize),
    /// All but this one.
    Drop(usize),
    /// Only this one.
    Only(usize),
    /// Those whose bit is set.
    Subset(u32),
    /// This one is torn; those after it are there, or not.
    Torn(usize, Kept, bool),
    /// By this number.
    Random(u64),
}

/// The states of a plan, no two with the same content and the same marks.
#[derive(Debug)]
pub struct States {
    recording: Arc<Recording>,
    windows: std::vec::IntoIter<(Window, Share)>,
    rng: Rng,
    sums: Sums,
    now: Option<Now>,
    seen: HashSet<u64>,
    can_lose: Marked,
    lost: Marked,
    torn: Marked,
    same: u64,
}

/// How many states of a window are looked at.
#[derive(Clone, Copy, Debug)]
struct Share {
    listed: u64,
    random: u64,
}

/// The window that states are made of.
#[derive(Debug)]
struct Now {
    window: Window,
    volatile: Vec<usize>,
    picks: std::vec::IntoIter<Pick>,
    random: u64,
    failed: u32,
}

/// Entries that something was done with.
#[derive(Debug, Default)]
struct Marked(Vec<bool>, usize);

impl Marked {
    fn new(len: usize) -> Marked {
        Marked(vec![false; len], 0)
    }

    fn mark(&mut self, entry: usize) {
        self.1 += usize::from(!std::mem::replace(&mut self.0[entry], true));
    }
}

impl States {
    /// Plans the states of a recording.
    pub fn new(recording: Arc<Recording>, plan: &Plan) -> States {
        let mut rng = Rng::new(plan.seed);
        let windows = recording.windows();
        let windows: Vec<Window> = windows.into_iter().filter(|window| plan.has(window)).collect();
        let shares = shares(&recording, &windows, plan.states, &mut rng);
        let entries = recording.entries().len();
        States {
            sums: Sums::new(&recording),
            windows: shares.into_iter(),
            recording,
            rng,
            now: None,
            seen: HashSet::new(),
            can_lose: Marked::new(entries),
            lost: Marked::new(entries),
            torn: Marked::new(entries),
            same: 0,
        }
    }

    /// Tells what the states so far have lost.
    pub fn coverage(&self) -> Coverage {
        let tearable = |entry: &usize| self.can_lose.0[*entry] && self.recording.units(*entry) > 1;
        Coverage {
            writes: self.can_lose.1,
            lost: self.lost.1,
            torn: self.torn.1,
            tearable: (0..self.can_lose.0.len()).filter(tearable).count(),
            same: self.same,
        }
    }

    /// Goes on to the next window.
    fn go_on(&mut self) -> Option<()> {
        let (window, share) = self.windows.next()?;
        let volatile = self.recording.volatile(window.cut);
        self.sums.go_to(&self.recording, window.cut);
        volatile.iter().for_each(|entry| self.can_lose.mark(*entry));
        let picks = picks(&self.recording, &volatile);
        let picks = chosen(picks, share.listed, &mut self.rng);
        let picks = picks.into_iter();
        self.now = Some(Now { window, volatile, picks, random: share.random, failed: 0 });
        Some(())
    }

    /// Makes a state, if it is not one that was made before.
    fn make(&mut self, pick: Pick) -> Option<State> {
        let now = self.now.as_ref()?;
        let losses = losses(&self.recording, &now.volatile, pick);
        let state = State { cut: now.window.cut, losses };
        let sum = self.sums.of(&self.recording, &state, &now.volatile);
        if !self.seen.insert(sum ^ Rng::mix(now.window.marks as u64)) {
            self.same += 1;
            return None;
        }
        for Loss { entry, kept } in &state.losses {
            match kept {
                Kept::Nothing => self.lost.mark(*entry),
                Kept::Head(_) | Kept::Tail(_) | Kept::Some(_) => self.torn.mark(*entry),
            }
        }
        Some(state)
    }
}

impl Iterator for States {
    type Item = State;

    fn next(&mut self) -> Option<State> {
        loop {
            let Some(now) = &mut self.now else {
                self.go_on()?;
                continue;
            };
            if let Some(pick) = now.picks.next() {
                if let Some(state) = self.make(pick) {
                    return Some(state);
                }
            } else if now.random > 0 && now.failed < MAX_SAME {
                let pick = Pick::Random(self.rng.number());
                let state = self.make(pick);
                let now = self.now.as_mut().expect("it was there");
                match state {
                    Some(state) => {
                        (now.random, now.failed) = (now.random - 1, 0);
                        return Some(state);
                    }
                    None => now.failed += 1,
                }
            } else {
                self.now = None;
            }
        }
    }
}

/// Shares the states out between the windows: what is listed first, where there is room for all of it, and random
/// ones where there are more than are listed.
fn shares(
    recording: &Recording,
    windows: &[Window],
    states: u64,
    rng: &mut Rng,
) -> Vec<(Window, Share)> {
    let counts: Vec<(u64, bool)> = windows
        .iter()
        .map(|window| {
            let volatile = recording.volatile(window.cut);
            (picks(recording, &volatile).len() as u64, volatile.len() > EXHAUSTIVE)
        })
        .collect();
    let listed: u64 = counts.iter().map(|(count, _)| count).sum();
    if listed <= states {
        let more: u64 = counts.iter().filter(|(_, more)| *more).map(|(count, _)| count).sum();
        let rest = u128::from(states - listed);
        let share = |(count, has_more): &(u64, bool)| Share {
            listed: *count,
            random: match has_more {
                true => (rest * u128::from(*count) / u128::from(more.max(1))) as u64,
                false => 0,
            },
        };
        return windows.iter().copied().zip(counts.iter().map(share)).collect();
    }
    // Too many: each window its part of them, and where there are more windows than states, some of the windows.
    let step = (windows.len() as u64 * 2).div_ceil(states.max(1)).max(1) as usize;
    let first = rng.below(step);
    let some = windows.iter().zip(&counts).skip(first).step_by(step);
    // The first two of each, and of the rest its part.
    let first = |count: u64| count.min(2);
    let total: u64 = some.clone().map(|(_, (count, _))| count - first(*count)).sum();
    let left = states.saturating_sub(some.clone().map(|(_, (count, _))| first(*count)).sum());
    let share = |(window, (count, _)): (&Window, &(u64, bool))| {
        let rest = count - first(*count);
        let part = u128::from(rest) * u128::from(left) / u128::from(total.max(1));
        (*window, Share { listed: first(*count) + part as u64, random: 0 })
    };
    some.map(share).collect()
}

/// Lists what is looked at first of a window: everything is there, nothing is; then the rest.
fn picks(recording: &Recording, volatile: &[usize]) -> Vec<Pick> {
    let count = volatile.len();
    let mut picks = vec![Pick::First(count)];
    if count == 0 {
        return picks;
    }
    picks.push(Pick::First(0));
    if count <= EXHAUSTIVE {
        // Of those with the same content, the one with the fewest losses comes first.
        let mut subsets: Vec<u32> = (1..(1 << count) - 1).collect();
        subsets.sort_by_key(|bits| std::cmp::Reverse(bits.count_ones()));
        picks.extend(subsets.into_iter().map(Pick::Subset));
    } else {
        picks.extend((0..count).map(Pick::Drop));
        picks.extend((1..count).map(Pick::First));
        picks.extend((0..count).map(Pick::Only));
    }
    for (at, entry) in volatile.iter().enumerate() {
        let units = recording.units(*entry);
        let mut places = vec![1, units / 2, units.saturating_sub(1)];
        places.retain(|place| (1..units).contains(place));
        places.sort_unstable();
        places.dedup();
        for place in places {
            for kept in [Kept::Head(place), Kept::Tail(place)] {
                picks.push(Pick::Torn(at, kept, true));
                if at + 1 < count {
                    picks.push(Pick::Torn(at, kept, false));
                }
            }
        }
    }
    picks
}

/// Chooses some of the picks, evenly; the first two always.
fn chosen(picks: Vec<Pick>, count: u64, rng: &mut Rng) -> Vec<Pick> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if picks.len() <= count {
        return picks;
    }
    let always = picks.len().min(2);
    let step = (picks.len() - always).div_ceil(count.saturating_sub(always).max(1));
    let first = rng.below(step.max(1));
    let rest = picks[always..].iter().skip(first).step_by(step.max(1));
    picks[..always].iter().chain(rest).copied().take(count.max(always)).collect()
}

fn losses(recording: &Recording, volatile: &[usize], pick: Pick) -> Vec<Loss> {
    let lost = |entry: &usize| Loss { entry: *entry, kept: Kept::Nothing };
    let without = |gone: &dyn Fn(usize) -> bool| -> Vec<Loss> {
        let gone = volatile.iter().enumerate().filter(|(at, _)| gone(*at));
        gone.map(|(_, entry)| lost(entry)).collect()
    };
    match pick {
        Pick::First(count) => without(&|at| at >= count),
        Pick::Drop(one) => without(&|at| at == one),
        Pick::Only(one) => without(&|at| at != one),
        Pick::Subset(bits) => without(&|at| bits & (1 << at) == 0),
        Pick::Torn(one, kept, has_later) => {
            let torn = Loss { entry: volatile[one], kept };
            let later = volatile[one + 1..].iter().filter(|_| !has_later).map(lost);
            [torn].into_iter().chain(later).collect()
        }
        Pick::Random(seed) => random(recording, volatile, seed),
    }
}

/// A few are lost, or a few are left, or half of them; some are torn.
fn random(recording: &Recording, volatile: &[usize], seed: u64) -> Vec<Loss> {
    let mut rng = Rng::new(seed);
    let count = volatile.len();
    let few = 1 + rng.below(4);
    let style = rng.below(4);
    let mut losses = Vec::new();
    for entry in volatile {
        let is_lost = match style {
            0 => rng.below(count) < few,
            1 => rng.below(count) >= few,
            _ => rng.number() & 1 == 0,
        };
        if !is_lost {
            continue;
        }
        let kept = match recording.units(*entry) > 1 && rng.below(4) == 0 {
            true => Kept::Some(rng.number() >> 48),
            false => Kept::Nothing,
        };
        losses.push(Loss { entry: *entry, kept });
    }
    losses
}

/// Sums of states: two of the same content have the same one.
#[derive(Debug)]
struct Sums {
    /// The sum of what is durable.
    durable: u64,
    /// Which version of each group is durable, by the entry's number and one.
    winners: Vec<u32>,
    /// What came to be durable so far: entries before this one, and those with FUA before the second.
    flushed: usize,
    cut: usize,
    /// What a state has of each group that it changes, likewise; 0 for nothing.
    changed: Vec<u32>,
}

impl Sums {
    fn new(recording: &Recording) -> Sums {
        let groups = recording.group_count();
        Sums { durable: 0, winners: vec![0; groups], flushed: 0, cut: 0, changed: vec![0; groups] }
    }

    /// Takes over what is durable at a cut, which is not before the last.
    fn go_to(&mut self, recording: &Recording, cut: usize) {
        let flushed = recording.flushed(cut);
        for entry in self.flushed.min(self.cut)..cut {
            let is_new = recording.is_durable(entry, cut, flushed)
                && !(entry < self.cut && recording.is_durable(entry, self.cut, self.flushed));
            if !is_new || !recording.entries()[entry].changes() {
                continue;
            }
            for group in recording.groups_of(entry) {
                let turn = entry as u32 + 1;
                if self.winners[group] < turn {
                    self.durable ^= term(recording, group, self.winners[group]);
                    self.durable ^= term(recording, group, turn);
                    self.winners[group] = turn;
                }
            }
        }
        (self.flushed, self.cut) = (flushed, cut);
    }

    /// The sum of a state at the cut where this is.
    fn of(&mut self, recording: &Recording, state: &State, volatile: &[usize]) -> u64 {
        let mut groups = Vec::new();
        for entry in volatile {
            let kept = state.kept(*entry);
            if kept == Some(Kept::Nothing) {
                continue;
            }
            for group in recording.groups_of(*entry) {
                // Of what is there in whole, nobody asks where.
                let unit = || recording.unit_of(*entry, recording.sector_of(group));
                let is_there = kept.is_none_or(|kept| kept.has(unit()));
                if is_there && self.winners[group] < *entry as u32 + 1 {
                    if self.changed[group] == 0 {
                        groups.push(group);
                    }
                    self.changed[group] = *entry as u32 + 1;
                }
            }
        }
        let mut sum = self.durable;
        for group in groups {
            let turn = std::mem::take(&mut self.changed[group]);
            sum ^= term(recording, group, self.winners[group]) ^ term(recording, group, turn);
        }
        sum
    }
}

/// What a sector adds to a sum: nothing while it holds what was there before.
fn term(recording: &Recording, group: usize, turn: u32) -> u64 {
    let before = recording.group(group)[0].hash;
    let hash = match (turn as usize).checked_sub(1) {
        Some(entry) => recording.version_of(group, entry).hash,
        None => before,
    };
    Rng::mix(Rng::mix(group as u64) ^ hash) ^ Rng::mix(Rng::mix(group as u64) ^ before)
}
