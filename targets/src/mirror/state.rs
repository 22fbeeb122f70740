//! What is known of legs and regions.
//!
//! A region that no write is under way in takes two bits: whether it is in sync, and (on disk)
//! whether it is clean. The others are in a map. Beyond what the kernel keeps, each leg has a set
//! of the regions in which it is *behind*: others have data there that it lacks. Nothing is ever
//! read from a leg that is behind, and never are all of them. The kernel has the default leg and
//! the count of a leg's errors for that, which are told apart from what a leg has only as long as
//! nobody resumes the device.

use std::collections::BTreeMap;
use std::ops::Range;

use sim_core::Sector;

use crate::lines::mirror::{Behind, LegHealth};
use crate::parts::bits::Bits;
use crate::parts::dirty_log::DirtyLog;
use crate::parts::held_ranges::HeldRanges;

/// The most runs of regions that are said of a leg.
const MOST_RUNS: usize = 10_000;

/// A set of legs, a bit for each.
pub(super) type Legs = u16;

/// What went wrong on a leg, in the kernel's words: the first that a leg has had is what shows in
/// its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// `DM_RAID1_WRITE_ERROR`.
    Write = 1,
    /// `DM_RAID1_FLUSH_ERROR`.
    Flush = 2,
    /// `DM_RAID1_SYNC_ERROR`: a write of the resync, or its read.
    Sync = 4,
    /// `DM_RAID1_READ_ERROR`.
    Read = 8,
}

/// What a leg went through since the mirror was last in sync.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    faults: u8,
}

impl Health {
    pub(super) fn is_good(self) -> bool {
        self.faults == 0
    }

    /// Adds a fault, and tells whether it is the first of its kind.
    pub(super) fn add(&mut self, fault: Fault) -> bool {
        let new = self.faults & fault as u8 == 0;
        self.faults |= fault as u8;
        new
    }

    /// Returns what the status line says.
    pub(super) fn shown(self) -> LegHealth {
        let had = |fault: Fault| self.faults & fault as u8 != 0;
        match self {
            _ if self.is_good() => LegHealth::Good,
            _ if had(Fault::Flush) => LegHealth::FlushFailed,
            _ if had(Fault::Write) => LegHealth::WriteFailed,
            _ if had(Fault::Sync) => LegHealth::SyncFailed,
            _ => LegHealth::ReadFailed,
        }
    }
}

/// What a region is to those who come to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// In sync, and nobody writes.
    Clean,
    /// In sync, and marked in the log by this commit.
    Dirty(u64),
    /// Out of sync: written on one leg alone.
    OutOfSync,
    /// Being copied, or about to be: writes wait.
    Recovering,
}

/// A region in which something goes on.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) condition: Condition,
    /// Writes under way.
    pub(super) writes: HeldRanges<Sector>,
    /// What legs may differ in because a write was given up half way.
    pub(super) torn: Option<Torn>,
    /// When the last write ended.
    pub(super) idle_since: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Torn {
    pub(super) range: Range<Sector>,
    /// Writes with a larger id began when the last of those that left this was over.
    pub(super) until: u64,
}

impl Region {
    pub(super) fn new(condition: Condition) -> Region {
        Region { condition, writes: HeldRanges::default(), torn: None, idle_since: 0 }
    }

    /// Tells whether it is marked for writes that are over.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.condition, Condition::Dirty(_)) && self.writes.is_empty()
    }
}

pub(super) struct State {
    pub(super) health: Vec<Health>,
    /// The leg that is read first, and that the others are made like.
    pub(super) default: usize,
    /// All regions were in sync, and no write has failed since (`ms->in_sync`).
    pub(super) in_sync: bool,
    /// A leg has failed since (`ms->leg_failure`).
    pub(super) leg_failed: bool,
    /// The log could not be marked, ever (`ms->log_failure`).
    pub(super) log_failed: bool,
    /// A flush from above has failed, ever (`rh->flush_failure`): no region becomes clean any more.
    pub(super) flush_failed: bool,
    /// Regions that are in sync as the log counts them.
    pub(super) sync: Bits,
    /// For each leg, where it is behind; nothing where it never was.
    pub(super) behind: Vec<Option<Bits>>,
    /// It is known where: the target has been in use.
    known: bool,
    pub(super) regions: BTreeMap<u64, Region>,
    /// Discards under way, and those that wait for a recovery.
    pub(super) discards: HeldRanges<Sector>,
    /// Where the resync goes on looking; it does not look back before the next resume.
    pub(super) search: u64,
    pub(super) log: DirtyLog,
    /// From presuspend to the next resume: nothing is held.
    pub(super) suspending: bool,
    /// A task in the background makes regions clean.
    pub(super) cleaning: bool,
    /// When the last flush of each leg failed.
    lost_at: Vec<u64>,
    /// Numbers whatever begins or ends.
    clock: u64,
}

impl State {
    pub(super) fn new(legs: usize, sync: Bits, log: DirtyLog) -> State {
        let in_sync = sync.is_full();
        State {
            health: vec![Health::default(); legs],
            default: 0,
            in_sync,
            leg_failed: false,
            log_failed: false,
            flush_failed: false,
            sync,
            behind: vec![None; legs],
            known: false,
            regions: BTreeMap::new(),
            discards: HeldRanges::default(),
            search: 0,
            log,
            suspending: false,
            cleaning: false,
            lost_at: vec![0; legs],
            clock: 0,
        }
    }

    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Tells whether nothing has been written since, and nothing is being written.
    pub(super) fn is_quiet_since(&self, since: u64) -> bool {
        self.clock == since && self.regions.values().all(|region| region.writes.is_empty())
    }

    fn legs(&self) -> usize {
        self.health.len()
    }

    pub(super) fn all_legs(&self) -> Legs {
        (1 << self.legs()) - 1
    }

    /// Keeps what is not in sync from being read from any leg but the default, when the target comes
    /// into use for the first time. After that it is known better which legs have what.
    pub(super) fn distrust_unsynced(&mut self) {
        if std::mem::replace(&mut self.known, true) {
            return;
        }
        let unsynced = self.sync.complement();
        for (leg, behind) in self.behind.iter_mut().enumerate() {
            let others = leg != self.default && unsynced.ones() > 0;
            *behind = others.then(|| unsynced.clone());
        }
    }

    /// Takes regions in which a leg is behind for out of sync: those that the log counts in sync
    /// all the same, as a copy that failed is to the kernel without `handle_errors`.
    pub(super) fn unsync_behind(&mut self) {
        for behind in self.behind.iter().flatten() {
            self.sync.remove(behind);
        }
    }

    /// Returns what a region is.
    pub(super) fn condition_of(&self, region: u64) -> Condition {
        match self.regions.get(&region) {
            Some(region) => region.condition,
            None if !self.sync.get(region) => Condition::OutOfSync,
            None => Condition::Clean,
        }
    }

    /// Returns the legs that have everything that a region should have; at least one.
    pub(super) fn good(&self, region: u64) -> Legs {
        let good = self.behind.iter().enumerate().map(|(leg, behind)| {
            let behind = behind.as_ref().is_some_and(|behind| behind.get(region));
            Legs::from(!behind) << leg
        });
        good.fold(0, |all, leg| all | leg)
    }

    /// Returns the leg that a region is read and copied from while it is out of sync: the default
    /// where it has the data, unless another does that has had no error.
    pub(super) fn authority(&self, region: u64) -> usize {
        let good = self.good(region);
        let fallback = || match good & 1 << self.default {
            0 => good.trailing_zeros() as usize,
            _ => self.default,
        };
        self.choose(region).unwrap_or_else(fallback)
    }

    /// Says that some legs lack what others have. Where that would be all that were good, one of
    /// them stays: what was written is lost then, and whoever wrote it is told.
    pub(super) fn fall_behind(&mut self, region: u64, legs: Legs) {
        let good = self.good(region);
        let stay = match good & !legs {
            0 => 1 << self.authority(region),
            stay => stay,
        };
        self.set_behind(region, self.all_legs() & !stay);
    }

    /// Says which legs are behind in a region.
    pub(super) fn set_behind(&mut self, region: u64, legs: Legs) {
        debug_assert_ne!(legs, self.all_legs(), "a region is good on one leg at least");
        let len = self.sync.len();
        for (leg, behind) in self.behind.iter_mut().enumerate() {
            match (legs >> leg & 1 == 1, behind) {
                (false, None) => {}
                (value, Some(behind)) => behind.set(region, value),
                (true, none) => none.insert(Bits::new(len, false)).set(region, true),
            }
        }
    }

    /// Tells whether some region is good on no other legs than these.
    pub(super) fn rests_on(&self, legs: Legs) -> bool {
        let others = self.behind.iter().enumerate().filter(|(leg, _)| legs >> leg & 1 == 0);
        Bits::any_in_all(others.map(|(_, behind)| behind.as_ref()))
    }

    /// Returns the default leg, or the next one below it, that has the data of a region and has had
    /// no error (`choose_mirror`).
    pub(super) fn choose(&self, region: u64) -> Option<usize> {
        let good = self.good(region);
        let legs = self.legs();
        let order = (0..legs).map(|step| (self.default + legs - step) % legs);
        let mut order = order.filter(|leg| good >> leg & 1 == 1);
        order.find(|leg| self.health[*leg].is_good())
    }

    /// Returns a leg that has had no error (`get_valid_mirror`).
    pub(super) fn valid(&self) -> Option<usize> {
        self.health.iter().position(|health| health.is_good())
    }

    /// Takes in that some legs may have lost what was written since they were last flushed: regions
    /// with such writes are all in the map.
    pub(super) fn flush_has_failed(&mut self, legs: Legs) {
        let now = self.tick();
        for leg in (0..self.legs()).filter(|leg| legs >> leg & 1 == 1) {
            self.lost_at[leg] = now;
        }
        let active: Vec<u64> = self.regions.keys().copied().collect();
        active.into_iter().for_each(|region| self.fall_behind(region, legs));
    }

    /// Returns the legs of which a flush has failed since.
    pub(super) fn lost_since(&self, since: u64) -> Legs {
        let lost = self.lost_at.iter().enumerate();
        lost.fold(0, |legs, (leg, at)| legs | Legs::from(*at > since) << leg)
    }

    /// Takes a region out of what is in sync, as a write of it has failed somewhere.
    pub(super) fn lose_sync(&mut self, region: u64) {
        self.in_sync = false;
        self.sync.set(region, false);
        if let Some(region) = self.regions.get_mut(&region) {
            // A recovery that waited for this write gives up.
            region.condition = Condition::OutOfSync;
            region.torn = None;
        }
    }

    /// Says for each leg in which regions it is behind. Past [`MOST_RUNS`] the last run goes on to
    /// the end: more is said to be behind than is, and the answer stays short.
    pub(super) fn behind(&self) -> Behind {
        let regions = self.sync.len();
        let leg = |behind: &Option<Bits>| {
            let mut runs: Vec<Range<u64>> =
                behind.iter().flat_map(Bits::runs).take(MOST_RUNS + 1).collect();
            if runs.len() > MOST_RUNS {
                runs.truncate(MOST_RUNS);
                runs.last_mut().expect("many runs").end = regions;
            }
            runs
        };
        Behind(self.behind.iter().map(leg).collect())
    }

    /// Tells whether no region is copied any more before the next resume.
    pub(super) fn resync_is_over(&self, regions: u64) -> bool {
        let searched = self.search >= regions && !self.recovers_in(0..regions);
        self.sync.is_full() || searched
    }

    /// Tells whether a region in this range is being recovered.
    pub(super) fn recovers_in(&self, regions: Range<u64>) -> bool {
        self.regions.range(regions).any(|(_, region)| region.condition == Condition::Recovering)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_core::Sectors;

    /// Regions of 512 KiB in a terabyte.
    const MANY: u64 = 1 << 21;

    #[test]
    fn a_terabyte_takes_a_few_megabytes_whatever_becomes_of_it() {
        let log = DirtyLog::disk(MANY, Sectors(1));
        let mut state = State::new(9, Bits::new(MANY, false), log);
        state.distrust_unsynced();
        for region in (0..MANY).step_by(3) {
            state.set_behind(region, 0b101);
        }
        assert!(state.regions.is_empty());
        let bits = state.behind.iter().flatten().chain([&state.sync, state.log.clean_regions()]);
        let bytes: usize = bits.map(Bits::heap_bytes).sum();
        assert!(bytes < 3 << 20, "{bytes} bytes of sets");
    }

    #[test]
    fn what_is_said_of_a_leg_is_short_and_leaves_nothing_out() {
        let mut state = State::new(2, Bits::new(MANY, true), DirtyLog::core());
        (0..MANY).step_by(2).for_each(|region| state.set_behind(region, 0b10));
        let text = state.behind().to_string();
        let (first, other) = text.split_once(' ').expect("a word for each leg");
        assert_eq!((first, other.len() < 200_000), ("-", true));
        let last = format!("{}+{}", 2 * (MOST_RUNS - 1), MANY - 2 * (MOST_RUNS as u64 - 1));
        assert!(other.starts_with("0+1,2+1,") && other.ends_with(&last), "{last}");
    }

    #[test]
    fn a_region_is_good_on_one_leg_whatever_fails() {
        let mut state = State::new(3, Bits::new(10, true), DirtyLog::core());
        assert_eq!((state.good(4), state.authority(4)), (0b111, 0));
        state.fall_behind(4, 0b001);
        assert_eq!((state.good(4), state.authority(4)), (0b110, 2));
        // Both that were good fail: one of them stays.
        state.fall_behind(4, 0b111);
        assert_eq!((state.good(4), state.authority(4)), (0b100, 2));
        assert!(state.rests_on(0b100) && !state.rests_on(0b010));
        state.set_behind(4, 0);
        assert_eq!((state.good(4), state.good(5)), (0b111, 0b111));
        assert!(!state.rests_on(0b100));
    }

    #[test]
    fn a_leg_whose_flush_failed_has_lost_what_was_written_before_and_no_other() {
        let mut state = State::new(3, Bits::new(10, true), DirtyLog::core());
        state.regions.insert(4, Region::new(Condition::Dirty(0)));
        let before = state.tick();
        state.flush_has_failed(0b101);
        assert_eq!((state.good(4), state.good(5)), (0b010, 0b111));
        assert_eq!(state.lost_since(before), 0b101);
        let after = state.tick();
        assert_eq!(state.lost_since(after), 0);
    }
}
