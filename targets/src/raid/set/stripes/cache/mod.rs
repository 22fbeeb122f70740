//! What a journal in the mode `writeback` has, and the legs have not: pages of data, row by row.
//!
//! A write ends when the journal has its data; its pages are here from then on, and reads see them
//! first. What comes to the same rows meanwhile is one write of the legs later, and a row that has
//! become full needs nothing read. Rows are written out (`out.rs`) when they are full, when they have
//! been here for a while, when the cache or the journal has no room, when the set is suspended or
//! lacks a leg, and when the journal has failed, which then nobody has but the cache.
//!
//! One lock decides what the journal has and in which order, and what the cache has: whatever of a
//! row was logged before its parity is part of that. While a row is written out, writes to it wait.

mod out;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sim_core::{BlkError, Buffer, Locked, Sector};

use super::super::RaidSet;
use super::super::log::{Entry, Log};
use crate::parts::held_ranges::HeldRanges;
use crate::raid::journal::{BLOCK, PAGE};
use crate::raid::layout::Parity;
use out::Group;

/// How long a row is here at the most, while there is room.
const IDLE: Duration = Duration::from_secs(5);

/// A cache.
pub(in super::super) struct Cache {
    parity: Parity,
    log: Arc<Log>,
    /// How many rows it has at the most, unless one write has more.
    most: usize,
    state: Locked<CacheState>,
}

#[derive(Default)]
struct CacheState {
    /// By their first sector on the legs.
    rows: BTreeMap<Sector, Row>,
    /// Those that are full.
    full: BTreeSet<Sector>,
    /// All, by when they came.
    by_age: BTreeSet<(Duration, Sector)>,
    /// Pages of the set of which a write reads the rest.
    filled: HeldRanges<Sector>,
    /// How many rows a write needs that waits for room.
    wanted: usize,
    /// The journal is full: nothing comes in until nothing is here, and the log begins anew.
    makes_room: bool,
    /// Everything is to be written out.
    drains: bool,
    /// A leg was lost: nothing comes in any more.
    is_over: bool,
    /// The journal has failed, and the legs have all: it was told so, or cannot be.
    is_void: Option<bool>,
    /// A task writes out.
    is_running: bool,
}

/// A row of pages.
struct Row {
    /// By leg.
    pages: Vec<Option<Buffer>>,
    since: Duration,
    /// It is being written out.
    is_leaving: bool,
    /// It could not be, and waits for better times.
    is_stuck: bool,
}

/// What came of a write.
enum Taken {
    /// It is in the cache, and in the journal's queue with this number.
    Cached(u64),
    /// The legs are to be written, when they have what is here.
    Through,
}

impl Cache {
    pub(in super::super) fn new(parity: Parity, log: Arc<Log>, most: usize) -> Cache {
        Cache { parity, log, most, state: Locked::default() }
    }

    /// Takes whole pages in, and has them logged. None where they have to wait; `is_filled` says that
    /// the caller holds them.
    fn take(
        &self,
        set: &RaidSet,
        at: Sector,
        data: &[u8],
        is_filled: bool,
    ) -> Option<Result<Taken, BlkError>> {
        let (now, is_degraded) = (set.runtime.now(), set.state().is_degraded());
        let end = Sector(at.0 + data.len() as u64 / BLOCK as u64 * PAGE.0);
        let places: Vec<_> = (at.0..end.0)
            .step_by(PAGE.0 as usize)
            .map(|at| self.parity.place(Sector(at)))
            .collect();
        let rows: BTreeSet<Sector> = places.iter().map(|place| place.sector).collect();
        let mut state = self.state.lock();
        state.is_over |= is_degraded;
        if self.log.has_failed() || state.is_full_for_good() {
            return Some(Err(BlkError::Io));
        }
        if state.is_over {
            return Some(Ok(Taken::Through));
        }
        let is_leaving = |row: &Sector| state.rows.get(row).is_some_and(|row| row.is_leaving);
        if state.makes_room
            || !is_filled && !state.filled.leave_free(&(at..end))
            || rows.iter().any(is_leaving)
        {
            return None;
        }
        let new = rows.iter().filter(|row| !state.rows.contains_key(row)).count();
        if state.rows.len() + new > self.most && !state.rows.is_empty() {
            state.wanted = new;
            set.signal.notify();
            return None;
        }
        // Each row may be written out by itself.
        let spare = (state.rows.len() + new) * (1 + self.parity.parities());
        let entry = Entry::of_data(at, data);
        let Some(nr) = self.log.put(entry, spare as u64) else {
            state.makes_room = true;
            set.signal.notify();
            return None;
        };
        state.wanted = 0;
        let legs = self.parity.legs();
        for (place, page) in places.iter().zip(data.chunks_exact(BLOCK)) {
            state.put(place.sector, place.leg, page, legs, now);
        }
        for row in rows {
            let data = self.parity.data_legs();
            if state.rows[&row].pages.iter().flatten().count() == data {
                state.full.insert(row);
            }
        }
        Some(Ok(Taken::Cached(nr)))
    }

    /// Tells whether some of a range is here.
    pub(super) fn has_some(&self, range: &Range<Sector>) -> bool {
        let state = self.state.lock();
        !state.rows.is_empty() && self.pages(range).any(|page| state.page(self, page).is_some())
    }

    /// Copies what is here of a range. Returns the parts that are not.
    fn copy_to(&self, range: &Range<Sector>, buffer: &mut [u8]) -> Vec<Range<Sector>> {
        let state = self.state.lock();
        let mut rest: Vec<Range<Sector>> = Vec::new();
        for page in self.pages(range) {
            let part = page.max(range.start)..(page + PAGE).min(range.end);
            match (state.page(self, page), rest.last_mut()) {
                (Some(bytes), _) => {
                    let to = (part.start - range.start).bytes() as usize;
                    let from = (part.start - page).bytes() as usize;
                    let len = (part.end - part.start).bytes() as usize;
                    buffer[to..to + len].copy_from_slice(&bytes[from..from + len]);
                }
                (None, Some(last)) if last.end == part.start => last.end = part.end,
                (None, _) => rest.push(part),
            }
        }
        rest
    }

    /// Returns where the pages begin that a range lies in.
    fn pages(&self, range: &Range<Sector>) -> impl Iterator<Item = Sector> + use<> {
        (range.start.0 / PAGE.0..range.end.0.div_ceil(PAGE.0)).map(|nr| Sector(nr * PAGE.0))
    }

    /// Tells whether the legs are written from now on; an error where something cannot be written
    /// out.
    fn is_through(&self) -> Option<Result<(), BlkError>> {
        let state = self.state.lock();
        match () {
            () if !state.rows.is_empty() && state.is_settled() => Some(Err(BlkError::Io)),
            () if state.rows.is_empty() && !state.makes_room => Some(Ok(())),
            () => None,
        }
    }

    /// Says what is to be written out next.
    fn pick(self: &Arc<Self>, now: Duration, is_urgent: bool) -> Option<Group> {
        let mut state = self.state.lock();
        let is_urgent = is_urgent || state.drains || state.makes_room || state.is_over;
        let is_short = state.rows.len() * 4 > self.most * 3
            || state.wanted > 0 && state.rows.len() + state.wanted > self.most;
        // Some at once, as what lies side by side is one write of a leg.
        let batch = (self.parity.chunk().0 / PAGE.0).min(out::MOST as u64) as usize;
        let is_due = is_urgent || is_short || state.full.len() >= batch;
        let full = state.full.iter().find(|row| is_due && state.rows[row].may_leave());
        let old = || {
            let mut old = state.by_age.iter().filter(|(_, row)| state.rows[row].may_leave());
            old.next().filter(|(since, _)| is_urgent || is_short || *since + IDLE <= now)
        };
        let row = full.copied().or_else(|| old().map(|(_, row)| *row))?;
        Some(Group::around(self, &mut state, row))
    }

    /// Tells whether nothing is here any more, and what the journal has is in the way.
    fn is_to_begin_anew(&self, state: &CacheState) -> bool {
        let is_in_the_way = state.makes_room || self.log.has_failed() && state.is_void.is_none();
        is_in_the_way && state.rows.is_empty()
    }

    /// Says how long it is until a row has been here for long; none where nothing can be written out,
    /// and nobody looks after the cache from then on.
    fn rest(&self, now: Duration) -> Option<Duration> {
        let mut state = self.state.lock();
        if self.is_to_begin_anew(&state) {
            return Some(Duration::ZERO);
        }
        let next = state.by_age.iter().find(|(_, row)| !state.rows[row].is_stuck);
        let rest = next.map(|(since, _)| (*since + IDLE).saturating_sub(now));
        state.is_running = rest.is_some();
        rest
    }
}

impl CacheState {
    fn put(&mut self, row: Sector, leg: usize, page: &[u8], legs: usize, now: Duration) {
        let by_age = &mut self.by_age;
        let row = self.rows.entry(row).or_insert_with(|| {
            by_age.insert((now, row));
            let pages = (0..legs).map(|_| None).collect();
            Row { pages, since: now, is_leaving: false, is_stuck: false }
        });
        row.pages[leg] = Some(Buffer::copy_of(page));
        row.is_stuck = false;
    }

    fn remove(&mut self, row: Sector) {
        if let Some(gone) = self.rows.remove(&row) {
            self.by_age.remove(&(gone.since, row));
            self.full.remove(&row);
        }
    }

    fn page(&self, cache: &Cache, at: Sector) -> Option<&[u8]> {
        let place = cache.parity.place(at);
        self.rows.get(&place.sector)?.pages[place.leg].as_deref()
    }

    /// Tells whether nothing is here but what cannot be written out.
    fn is_settled(&self) -> bool {
        self.rows.values().all(|row| row.is_stuck)
    }

    /// Tells whether nothing can come in as something cannot go out.
    fn is_full_for_good(&self) -> bool {
        (self.makes_room || self.is_over) && !self.rows.is_empty() && self.is_settled()
    }
}

impl Row {
    fn may_leave(&self) -> bool {
        !self.is_leaving && !self.is_stuck
    }
}
