//! One region: a range of a device in areas of one length.

use std::fmt::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::area::{Area, take};
use super::{Counted, Way};
use crate::{Errno, Sector, Sectors};

/// The most memory that the counters of all devices of a process may take, in bytes. The kernel
/// allows a quarter of the machine's.
const MAX_BYTES: u64 = 1 << 30;

/// What they take now.
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// What a region is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(super) start: u64,
    /// The sector after the last one.
    pub(super) end: u64,
    /// The length of an area, in sectors; the last one may be cut short.
    pub(super) step: u64,
    /// Times are counted and told in nanoseconds, not in milliseconds of a coarse clock.
    pub(super) precise: bool,
    /// Where the histogram of how long bios took is cut, ascending, in the unit of the times.
    pub(super) bounds: Vec<u64>,
    pub(super) program: String,
    pub(super) aux: String,
}

/// A region with its counters.
pub(super) struct Region {
    pub(super) id: u32,
    shape: Shape,
    /// What its owner has it keep.
    aux: Mutex<String>,
    areas: Vec<Area>,
    /// For each area one more than there are bounds; empty without bounds.
    histogram: Vec<AtomicU64>,
    _room: Room,
}

/// Memory that is counted as taken.
struct Room(u64);

impl Room {
    fn take(bytes: u64) -> Result<Room, Errno> {
        let more = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= MAX_BYTES);
        BYTES.fetch_update(Relaxed, Relaxed, more).map_err(|_| Errno::NOMEM)?;
        Ok(Room(bytes))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        BYTES.fetch_sub(self.0, Relaxed);
    }
}

impl Region {
    /// Makes a region, without a number yet. [`Errno::NOMEM`] where there is no room for so many
    /// areas, [`Errno::OVERFLOW`] where nobody could have it.
    pub(super) fn new(shape: Shape) -> Result<Region, Errno> {
        let count = (shape.end - shape.start).div_ceil(shape.step);
        let bins = if shape.bounds.is_empty() { 0 } else { shape.bounds.len() as u64 + 1 };
        let each = size_of::<Area>() as u64 + bins * 8;
        let bytes = count.checked_mul(each).ok_or(Errno::OVERFLOW)?;
        let room = Room::take(bytes)?;
        // Fits: both are less than the most bytes.
        let (count, bins) = (count as usize, (count * bins) as usize);
        let (areas, histogram) = (zeros(count)?, zeros(bins)?);
        let aux = Mutex::new(shape.aux.clone());
        Ok(Region { id: 0, shape, aux, areas, histogram, _room: room })
    }

    pub(super) fn is_precise(&self) -> bool {
        self.shape.precise
    }

    pub(super) fn program(&self) -> &str {
        &self.shape.program
    }

    pub(super) fn set_aux(&self, text: String) {
        *self.aux.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Calls `each` with the index of every area that a range touches, and how many of its sectors
    /// lie there.
    pub(super) fn touched(
        &self,
        sector: Sector,
        len: Sectors,
        mut each: impl FnMut(usize, Sectors),
    ) {
        let Shape { start, end, step, .. } = self.shape;
        let mut from = sector.0.max(start);
        let to = sector.0.saturating_add(len.0).min(end);
        while from < to {
            let index = (from - start) / step;
            let next = (index + 1).saturating_mul(step).saturating_add(start).min(to);
            each(index as usize, Sectors(next - from));
            from = next;
        }
    }

    pub(super) fn begin(&self, index: usize, way: Way, now: Duration) {
        self.areas[index].begin(way, now);
    }

    pub(super) fn take_back(&self, index: usize, way: Way) {
        self.areas[index].take_back(way);
    }

    pub(super) fn end(
        &self,
        index: usize,
        bio: &Counted,
        len: Sectors,
        now: Duration,
        took: Duration,
    ) {
        self.areas[index].end(bio.way, bio.merged, len.0, now, took);
        if !self.shape.bounds.is_empty() {
            let took = took.as_nanos() as u64 / self.unit();
            let bin = self.shape.bounds.partition_point(|bound| *bound <= took);
            self.histogram[index * self.bins() + bin].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn clear(&self, now: Duration) {
        for area in &self.areas {
            let _counts = area.read(true, now);
        }
        self.histogram.iter().for_each(|bin| bin.store(0, Relaxed));
    }

    /// Writes a line for each of the areas, and with `clear` sets their counters back.
    pub(super) fn print(&self, areas: Range<u64>, clear: bool, now: Duration) -> String {
        let count = self.areas.len() as u64;
        let end = areas.end.min(count);
        let mut text = String::new();
        for index in areas.start.min(end)..end {
            let (start, index) = (self.shape.start + index * self.shape.step, index as usize);
            let counts = self.areas[index].read(clear, now);
            let line = |text: &mut String| {
                write!(text, "{start}+{} ", self.shape.step)?;
                counts.write(text, self.unit())?;
                for bin in 0..self.bins() {
                    let bio_count = take(&self.histogram[index * self.bins() + bin], clear);
                    write!(text, "{}{bio_count}", if bin == 0 { ' ' } else { ':' })?;
                }
                writeln!(text)
            };
            line(&mut text).expect("a text takes everything");
        }
        text
    }

    /// Returns the line of a list of regions.
    pub(super) fn line(&self) -> String {
        let Shape { start, end, step, precise, bounds, program, .. } = &self.shape;
        let aux = self.aux.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = format!("{}: {start}+{} {step} {program} {aux}", self.id, end - start);
        line.push_str(if *precise { " precise_timestamps" } else { "" });
        if !bounds.is_empty() {
            let bounds: Vec<String> = bounds.iter().map(u64::to_string).collect();
            line.push_str(" histogram:");
            line.push_str(&bounds.join(","));
        }
        line.push('\n');
        line
    }

    /// Returns how many nanoseconds the unit of the times has.
    fn unit(&self) -> u64 {
        if self.shape.precise { 1 } else { MILLISECOND }
    }

    /// Returns how many bins the histogram of an area has.
    fn bins(&self) -> usize {
        self.histogram.len() / self.areas.len().max(1)
    }
}

fn zeros<T: Default>(count: usize) -> Result<Vec<T>, Errno> {
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| Errno::NOMEM)?;
    all.resize_with(count, T::default);
    Ok(all)
}
