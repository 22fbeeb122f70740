//! The write-intent bitmap as it is in memory: which regions may differ between legs, because they
//! are being written, or because a write did not reach all of them.
//!
//! A region's bit is durable on all legs before the region is written, and is cleared some time after
//! the last write of it, when every leg has been flushed. Regions that were left with a bit are
//! *stale*: the copies may differ until a resync has made them the same.
//!
//! (The kernel loads bits that a crash has left, and does nothing for them where the superblocks say
//! that the set is in sync; they are cleared at the next suspend. The copies go on to differ.)

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use sim_core::{Sector, Sectors};

use crate::parts::bits::Bits;
use crate::raid::bitmap::{Bitmap, Header};

/// How the bitmap is read and written, in bytes.
pub(super) const PAGE: usize = 4096;

/// A region with a bit that is in use.
#[derive(Debug)]
struct Region {
    writes: u32,
    /// Which commit makes the bit durable.
    mark: u64,
    idle_since: Duration,
}

pub(super) struct Intent {
    /// None without metadata devices: nothing is marked then.
    bitmap: Option<Bitmap>,
    region: Sectors,
    stale: Bits,
    in_use: BTreeMap<u64, Region>,
}

impl Intent {
    /// Makes what is known of a set of this length, with a bitmap that is new, or that was read.
    pub(super) fn new(len: Sectors, region: Sectors, bitmap: Option<Bitmap>) -> Intent {
        let stale = Bits::new(len.0.div_ceil(region.0), false);
        Intent { bitmap, region, stale, in_use: BTreeMap::new() }
    }

    pub(super) fn header(&self) -> Option<&Header> {
        self.bitmap.as_ref().map(|bitmap| &bitmap.header)
    }

    pub(super) fn header_mut(&mut self) -> Option<&mut Header> {
        self.bitmap.as_mut().map(|bitmap| &mut bitmap.header)
    }

    /// Puts a bitmap that was read in the place of the one that is there.
    pub(super) fn put_bitmap(&mut self, bitmap: Bitmap) {
        self.bitmap = Some(bitmap);
    }

    /// Returns how many regions there are.
    fn regions(&self) -> u64 {
        self.stale.len()
    }

    /// Returns the region that a sector lies in.
    pub(super) fn region_of(&self, at: Sector) -> u64 {
        at.0 / self.region.0
    }

    /// Returns the regions that a range touches.
    pub(super) fn regions_of(&self, range: &Range<Sector>) -> Range<u64> {
        self.region_of(range.start)..range.end.0.div_ceil(self.region.0)
    }

    /// Returns the sectors of the region that a sector lies in.
    pub(super) fn region_around(&self, at: Sector, len: Sectors) -> Range<Sector> {
        let start = self.region_of(at) * self.region.0;
        Sector(start)..Sector((start + self.region.0).min(len.0))
    }

    pub(super) fn is_dirty(&self, at: Sector) -> bool {
        self.bitmap.as_ref().is_some_and(|bitmap| bitmap.is_dirty(self.region_of(at)))
    }

    /// Returns the first sector of a stale region from `at` on.
    pub(super) fn next_stale(&self, at: Sector) -> Option<Sector> {
        let first = self.stale.next_one(self.region_of(at))?;
        Some(Sector(first * self.region.0).max(at))
    }

    /// Returns the first sector of a dirty region from `at` on.
    pub(super) fn next_dirty(&self, at: Sector) -> Option<Sector> {
        let first = self.bitmap.as_ref()?.next_dirty(self.region_of(at))?;
        Some(Sector(first * self.region.0).max(at))
    }

    /// Takes a write in: its regions are dirty from here on. Returns the commit that it has to wait
    /// for, where `began` have begun, and the pages that changed.
    pub(super) fn enter(&mut self, range: &Range<Sector>, began: u64, pages: &mut Vec<u64>) -> u64 {
        let mut last = 0;
        for nr in self.regions_of(range) {
            let mut is_new = false;
            if let Some(bitmap) = self.bitmap.as_mut().filter(|bitmap| !bitmap.is_dirty(nr)) {
                bitmap.set(nr..nr + 1, true);
                pages.push(Bitmap::block_of(nr, PAGE));
                is_new = true;
            }
            let region = self.in_use.entry(nr).or_insert(Region {
                writes: 0,
                mark: 0,
                idle_since: Duration::ZERO,
            });
            if is_new {
                region.mark = began + 1;
            }
            region.writes += 1;
            last = last.max(region.mark);
        }
        last
    }

    /// Takes a write out.
    pub(super) fn leave(&mut self, range: &Range<Sector>, now: Duration) {
        for nr in self.regions_of(range) {
            let region = self.in_use.get_mut(&nr).expect("a region with a write is in use");
            region.writes -= 1;
            region.idle_since = now;
            if region.writes == 0 && self.bitmap.is_none() {
                self.in_use.remove(&nr);
            }
        }
    }

    /// Marks what a range touches as stale.
    pub(super) fn make_stale(&mut self, range: &Range<Sector>) {
        self.stale.set_range(self.regions_of(range), true);
    }

    /// Takes in that a range has been made the same on all legs that are in sync: regions that lie
    /// in it whole are stale no more.
    pub(super) fn resynced(&mut self, range: &Range<Sector>, len: Sectors) {
        let first = range.start.0.div_ceil(self.region.0);
        let last = if range.end.0 == len.0 { self.regions() } else { self.region_of(range.end) };
        if first < last {
            self.stale.set_range(first..last, false);
        }
    }

    /// Sets every bit.
    pub(super) fn set_all(&mut self) {
        if let Some(bitmap) = &mut self.bitmap {
            bitmap.set_all();
        }
    }

    /// Takes the bits before `end` for what a crash has left.
    pub(super) fn distrust(&mut self, end: Option<Sector>) {
        let end = end.map_or(self.regions(), |end| self.region_of(end));
        for run in self.bitmap.iter().flat_map(Bitmap::dirty) {
            self.stale.set_range(run.start.min(end)..run.end.min(end), true);
        }
    }

    /// Lists the runs of regions whose bits may be cleared: no write since `before`, not stale, and
    /// before `end`.
    pub(super) fn clearable(&self, before: Duration, end: Option<Sector>) -> Vec<Range<u64>> {
        let end = end.map_or(self.regions(), |end| self.region_of(end));
        let mut runs = Vec::new();
        for run in self.bitmap.iter().flat_map(Bitmap::dirty) {
            let mut at = run.start;
            while at < run.end.min(end) {
                let good = |nr: u64| {
                    let free = |region: &Region| region.writes == 0 && region.idle_since <= before;
                    !self.stale.get(nr) && self.in_use.get(&nr).is_none_or(free)
                };
                let from = at;
                while at < run.end.min(end) && good(at) {
                    at += 1;
                }
                if from < at {
                    runs.push(from..at);
                }
                at += 1;
            }
        }
        runs
    }

    /// Clears the bits of a run of regions, as far as they may be cleared still. Returns the pages
    /// that changed.
    pub(super) fn clear(&mut self, run: Range<u64>, before: Duration, pages: &mut Vec<u64>) {
        let Some(bitmap) = &mut self.bitmap else { return };
        for nr in run {
            let free = |region: &Region| region.writes == 0 && region.idle_since <= before;
            if !self.in_use.get(&nr).is_none_or(free) || self.stale.get(nr) {
                continue;
            }
            self.in_use.remove(&nr);
            bitmap.set(nr..nr + 1, false);
            let page = Bitmap::block_of(nr, PAGE);
            if pages.last() != Some(&page) {
                pages.push(page);
            }
        }
    }

    /// Tells whether any bit is set.
    pub(super) fn has_bits(&self) -> bool {
        self.bitmap.iter().flat_map(Bitmap::dirty).next().is_some()
    }

    /// Returns every page.
    pub(super) fn pages(&self) -> Range<u64> {
        0..self.bitmap.as_ref().map_or(0, |bitmap| bitmap.blocks(PAGE))
    }

    /// Gives out a page as the metadata devices are to have it.
    pub(super) fn page(&self, page: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE];
        if let Some(bitmap) = &self.bitmap {
            bitmap.write_block(page, &mut bytes);
        }
        bytes
    }
}
