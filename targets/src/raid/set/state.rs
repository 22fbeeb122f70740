//! What is known of a set while it is in use: which legs have what, and what is under way.

use std::ops::Range;
use std::time::Duration;

use sim_core::Sector;

use super::commit::{Commits, Event, Events};
use super::intent::Intent;
use super::reshape::Moves;
use crate::lines::raid::Action;
use crate::parts::held_ranges::{HeldRanges, overlap};

/// A leg while the set is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    /// It has what the set has.
    InSync,
    /// It is rebuilt.
    Behind(Behind),
    /// It has failed, and this is what it lacked then: where it comes back, it lacks what was written
    /// since, too. All of it, where nobody knows.
    Failed(Behind),
    /// It has failed, and parity is not enough without it: the set is written no more. No superblock
    /// says so: where it is good again, the set can start with it.
    Broken,
    /// It is not there.
    Missing,
}

/// What a leg that is rebuilt lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    /// It has what lies before this sector of its own, durably.
    pub(super) from: Sector,
    /// The events of its superblock, where it had failed before the set started, and is back.
    pub(super) back: Option<u64>,
    /// Behind `from`, it lacks no more than what has a bit in the bitmap.
    pub(super) by_bitmap: bool,
}

impl Behind {
    /// What a leg lacks of which nobody knows anything.
    pub(super) const ALL: Behind = Behind { from: Sector::ZERO, back: None, by_bitmap: false };
}

impl Leg {
    /// Tells whether the leg is written.
    pub(super) fn is_alive(self) -> bool {
        matches!(self, Leg::InSync | Leg::Behind(_))
    }
}

/// Of what time `events_cleared` of the bitmap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleared {
    /// Since no leg lacks anything.
    Now,
    /// Before legs lacked something: what that was has its bits still.
    Before,
    /// Before, and these bits have been cleared: a leg that was out then lacks what they said.
    TooOld,
}

/// What is under way in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) action: Action,
    /// How far it has got, in the sectors that it goes through.
    pub(super) done: u64,
}

/// Whether the superblocks call a set clean while nobody writes, as md's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleanness {
    /// They have no word for it.
    Unsaid,
    Clean,
    /// It is being written, or was when it was left.
    Dirty {
        /// Which commit makes that durable.
        mark: u64,
    },
}

impl Cleanness {
    pub(super) fn is_dirty(self) -> bool {
        matches!(self, Cleanness::Dirty { .. })
    }
}

pub(super) struct State {
    pub(super) legs: Vec<Leg>,
    /// How many of them the set has: those after it were in it before a reshape.
    pub(super) width: usize,
    pub(super) moves: Moves,
    pub(super) events: Events,
    /// What the bitmap's `events_cleared` is of.
    pub(super) cleared: Cleared,
    /// From here on the copies may differ, as they were never made the same; nowhere for none.
    pub(super) resync_from: Option<Sector>,
    /// That is where a resync was cut off.
    pub(super) goes_on: bool,
    pub(super) intent: Intent,
    pub(super) commits: Commits,
    pub(super) cleanness: Cleanness,
    /// The superblocks have a word for that. (dm-raid's count only that it has changed.)
    pub(super) metadata_says_clean: bool,
    /// When the last write ended; none where nobody has written since the resume.
    pub(super) last_write: Option<Duration>,
    /// Sectors of the set that are being written.
    pub(super) writes: HeldRanges<Sector>,
    /// How many writes have ended that some legs do not have yet.
    pub(super) behind: u32,
    /// Sectors that some legs may have from a write that was given up, and others not, and when that
    /// was. A write of them mends it; what nobody writes becomes stale after a while.
    pub(super) torn: Vec<(Range<Sector>, Duration)>,
    /// Sectors of the set that are being copied from leg to leg.
    pub(super) copies: HeldRanges<Sector>,
    pub(super) progress: Progress,
    /// What a message asked for, and nobody has begun.
    pub(super) asked: Option<Action>,
    /// Sectors that the last check found different.
    pub(super) mismatches: u64,
    /// Nothing goes on in the background, until the next resume.
    pub(super) frozen: bool,
    /// What goes on in the background is to stop.
    pub(super) is_broken_off: bool,
    /// A task in the background synchronizes.
    pub(super) is_syncing: bool,
    /// What could not be mended: nothing begins by itself before the next resume.
    pub(super) gave_up: bool,
    /// A task in the background clears bits.
    pub(super) is_clearing: bool,
}

impl State {
    pub(super) fn new(
        legs: Vec<Leg>,
        events: Events,
        resync_from: Option<Sector>,
        intent: Intent,
    ) -> State {
        State {
            width: legs.len(),
            legs,
            moves: Moves::default(),
            events,
            cleared: Cleared::Now,
            resync_from,
            goes_on: resync_from.is_some_and(|from| from > Sector::ZERO),
            intent,
            commits: Commits::default(),
            cleanness: Cleanness::Unsaid,
            metadata_says_clean: true,
            last_write: None,
            writes: HeldRanges::default(),
            behind: 0,
            torn: Vec::new(),
            copies: HeldRanges::default(),
            progress: Progress { action: Action::Idle, done: 0 },
            asked: None,
            mismatches: 0,
            frozen: true,
            is_broken_off: false,
            is_syncing: false,
            gave_up: false,
            is_clearing: false,
        }
    }

    /// Tells whether a leg has what the set has.
    pub(super) fn is_in_sync(&self, leg: usize) -> bool {
        self.legs[leg] == Leg::InSync
    }

    /// Tells whether the set lacks a leg: what is written now some leg does not have.
    pub(super) fn is_degraded(&self) -> bool {
        self.legs[..self.width].iter().any(|leg| *leg != Leg::InSync)
    }

    /// Tells whether the set lacks more legs than parity makes up for.
    pub(super) fn is_broken(&self) -> bool {
        self.legs.contains(&Leg::Broken)
    }

    /// Tells whether the copies of a range may differ.
    pub(super) fn may_differ(&self, range: &Range<Sector>) -> bool {
        self.resync_from.is_some_and(|from| range.end > from)
            || self.torn.iter().any(|(torn, _)| overlap(torn, range))
            || self.intent.next_stale(range.start).is_some_and(|at| at < range.end)
    }

    /// Tells whether there are bits to be cleared, or torn writes to be given up, or the set is to be
    /// called clean.
    pub(super) fn is_to_be_cleared(&self) -> bool {
        !self.torn.is_empty()
            || !self.is_degraded() && self.intent.has_bits()
            || self.is_to_be_clean()
    }

    /// Tells whether the set is to be called clean as soon as nobody has written for a while.
    pub(super) fn is_to_be_clean(&self) -> bool {
        self.cleanness.is_dirty()
            && match self.metadata_says_clean {
                true => self.is_the_same(),
                false => self.last_write.is_some() && !self.is_broken(),
            }
    }

    /// Tells whether nothing is to be synchronized.
    fn is_the_same(&self) -> bool {
        self.resync_from.is_none()
            && self.torn.is_empty()
            && self.intent.next_stale(Sector::ZERO).is_none()
            && !self.is_broken()
    }

    /// Has the superblocks say that the set is being written. Returns the commit that does so, 0 where
    /// they have no word for it.
    pub(super) fn make_dirty(&mut self) -> u64 {
        match self.cleanness {
            Cleanness::Unsaid => 0,
            Cleanness::Dirty { mark } => mark,
            Cleanness::Clean => {
                let mark = if self.metadata_says_clean { self.commits.began + 1 } else { 0 };
                self.note_cleanness(Cleanness::Dirty { mark })
            }
        }
    }

    /// Takes in that the set is called clean, or dirty, and counts that. Returns the commit that says so; 0
    /// where superblocks have no word for it, and have the count with what they are written for next: what
    /// goes back need never be written.
    pub(super) fn note_cleanness(&mut self, now: Cleanness) -> u64 {
        self.cleanness = now;
        match self.metadata_says_clean {
            true => self.commit(Event::Note, 1),
            false => {
                self.count(Event::Note, 1);
                0
            }
        }
    }

    /// Tells whether a leg with a superblock of so many events lacks no more than what has a bit, by the
    /// bitmap's `events_cleared`. What is counted and not written yet, a leg does not have.
    pub(super) fn has_all_but_bits(&self, events: u64, cleared: u64) -> bool {
        /// That it was called clean, and dirty again.
        const UNWRITTEN: u64 = 2;
        let unwritten = if self.metadata_says_clean { 0 } else { UNWRITTEN };
        events.saturating_add(unwritten) >= cleared
    }

    /// Tells whether the superblocks may call the set clean: nobody has written since `before`, and
    /// nothing is to be synchronized. As it is left, what a resync has not come to does not matter: the
    /// superblocks say up to where it came.
    pub(super) fn may_be_clean(&self, before: Duration, is_left: bool) -> bool {
        let is_the_same = match self.resync_from {
            // Where it is no more than counted, this says nothing of the legs.
            _ if !self.metadata_says_clean => {
                (is_left || self.last_write.is_some()) && !self.is_broken()
            }
            Some(_) if is_left => self.torn.is_empty() && !self.is_broken(),
            Some(_) | None => self.is_the_same(),
        };
        self.cleanness.is_dirty()
            && self.writes.is_empty()
            && self.last_write.is_none_or(|at| at <= before)
            && is_the_same
    }

    /// Takes in that the set is in use from here on, as it may be written now.
    pub(super) fn reopen(&mut self) {
        if !self.metadata_says_clean {
            self.cleanness = Cleanness::Dirty { mark: 0 };
        }
        self.last_write = None;
    }

    /// Takes in that all legs have what has been written: a leg that has failed by now, or fails
    /// later, lacks what has a bit.
    pub(super) fn is_on_all_legs(&mut self) {
        let events = self.events.now();
        if !self.is_degraded()
            && let Some(header) = self.intent.header_mut()
        {
            header.events_cleared = header.events_cleared.max(events);
            self.cleared = Cleared::Now;
        }
    }

    /// Makes what was torn before some time stale; tells whether there was any.
    pub(super) fn give_torn_up(&mut self, before: Duration) -> bool {
        let (old, young) =
            std::mem::take(&mut self.torn).into_iter().partition(|(_, at)| *at <= before);
        self.torn = young;
        let old: Vec<(Range<Sector>, Duration)> = old;
        old.iter().for_each(|(range, _)| self.intent.make_stale(range));
        !old.is_empty()
    }

    /// Says where the next sector is that copies may differ in, from `at` on, and up to where it goes
    /// on.
    pub(super) fn next_to_resync(&self, at: Sector, end: Sector) -> Option<Sector> {
        let stale = self.intent.next_stale(at).filter(|at| *at < end);
        let unsynced = self.resync_from.map(|from| from.max(at)).filter(|at| *at < end);
        stale.into_iter().chain(unsynced).min()
    }

    /// Tells whether sectors of a leg that is rebuilt, up to `end`, are to be written there; they lie
    /// in one region, with `at` as the set counts.
    pub(super) fn lacks(&self, behind: Behind, end: Sector, at: Sector) -> bool {
        end > behind.from && (!behind.by_bitmap || self.intent.is_dirty(at))
    }
}
