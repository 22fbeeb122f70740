//! The counters of one area.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Way;

/// What has happened to one area. Times are in nanoseconds.
#[derive(Default)]
pub(super) struct Area {
    reads: Counters,
    writes: Counters,
    /// Up to when the times are counted in which something was in flight.
    stamp: AtomicU64,
    busy: AtomicU64,
    /// As `busy`, for each bio that was in flight.
    queued: AtomicU64,
}

/// The counters of reads, or of writes.
#[derive(Default)]
struct Counters {
    /// What has begun and is not cleared: those in flight are what has not ended of them.
    begun: AtomicU64,
    ended: AtomicU64,
    merged: AtomicU64,
    sectors: AtomicU64,
    /// How long those that have ended took, all together.
    took: AtomicU64,
    busy: AtomicU64,
}

/// What the counters said at one moment.
pub(super) struct Counts {
    reads: WayCounts,
    writes: WayCounts,
    in_flight: u64,
    busy: u64,
    queued: u64,
}

struct WayCounts {
    ended: u64,
    merged: u64,
    sectors: u64,
    took: u64,
    busy: u64,
}

impl Area {
    fn way(&self, way: Way) -> &Counters {
        match way {
            Way::Read => &self.reads,
            Way::Write => &self.writes,
        }
    }

    pub(super) fn begin(&self, way: Way, now: Duration) {
        self.pass(now);
        self.way(way).begun.fetch_add(1, Relaxed);
    }

    pub(super) fn take_back(&self, way: Way) {
        self.way(way).begun.fetch_sub(1, Relaxed);
    }

    pub(super) fn end(&self, way: Way, merged: bool, sectors: u64, now: Duration, took: Duration) {
        self.pass(now);
        let counters = self.way(way);
        counters.ended.fetch_add(1, Relaxed);
        counters.sectors.fetch_add(sectors, Relaxed);
        if merged {
            counters.merged.fetch_add(1, Relaxed);
        }
        if !took.is_zero() {
            counters.took.fetch_add(nanos(took), Relaxed);
        }
    }

    /// Counts the time up to now, where something was in flight.
    fn pass(&self, now: Duration) {
        let (now, stamp) = (nanos(now), self.stamp.load(Relaxed));
        if now <= stamp || self.stamp.compare_exchange(stamp, now, Relaxed, Relaxed).is_err() {
            return;
        }
        let passed = now - stamp;
        let in_flight = [&self.reads, &self.writes].map(|counters| {
            let in_flight = counters.in_flight();
            if in_flight > 0 {
                counters.busy.fetch_add(passed, Relaxed);
            }
            in_flight
        });
        let in_flight = in_flight[0] + in_flight[1];
        if in_flight > 0 {
            self.busy.fetch_add(passed, Relaxed);
            self.queued.fetch_add(in_flight.saturating_mul(passed), Relaxed);
        }
    }

    /// Reads the counters, and with `clear` sets them back by what was read; what is in flight
    /// stays.
    pub(super) fn read(&self, clear: bool, now: Duration) -> Counts {
        self.pass(now);
        let take = |counter: &AtomicU64| take(counter, clear);
        let reads = self.reads.read(clear);
        let writes = self.writes.read(clear);
        let in_flight = self.reads.in_flight() + self.writes.in_flight();
        Counts { reads, writes, in_flight, busy: take(&self.busy), queued: take(&self.queued) }
    }
}

impl Counters {
    fn in_flight(&self) -> u64 {
        // In this order: what ends between the two looks is not counted twice.
        let ended = self.ended.load(Relaxed);
        self.begun.load(Relaxed).saturating_sub(ended)
    }

    fn read(&self, clear: bool) -> WayCounts {
        let ended = take(&self.ended, clear);
        if clear {
            self.begun.fetch_sub(ended, Relaxed);
        }
        let [merged, sectors, took, busy] =
            [&self.merged, &self.sectors, &self.took, &self.busy].map(|all| take(all, clear));
        WayCounts { ended, merged, sectors, took, busy }
    }
}

impl Counts {
    /// Writes the thirteen numbers of an area, with times in units of so many nanoseconds.
    pub(super) fn write(&self, out: &mut String, unit: u64) -> fmt::Result {
        for way in [&self.reads, &self.writes] {
            let WayCounts { ended, merged, sectors, took, .. } = way;
            write!(out, "{ended} {merged} {sectors} {} ", took / unit)?;
        }
        let [busy, queued] = [self.busy, self.queued].map(|time| time / unit);
        let [reads, writes] = [&self.reads, &self.writes].map(|way| way.busy / unit);
        write!(out, "{} {busy} {queued} {reads} {writes}", self.in_flight)
    }
}

/// Reads a counter, and sets it back by what was read.
pub(super) fn take(counter: &AtomicU64, clear: bool) -> u64 {
    if clear { counter.swap(0, Relaxed) } else { counter.load(Relaxed) }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
