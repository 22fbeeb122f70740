//! The counters of an area, as `@stats_print` tells them.

use std::ops::AddAssign;

/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// What was counted. Times are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) reads: u64,
    pub(super) reads_merged: u64,
    pub(super) read_sectors: u64,
    pub(super) read_time: u64,
    pub(super) writes: u64,
    pub(super) writes_merged: u64,
    pub(super) write_sectors: u64,
    pub(super) write_time: u64,
    pub(super) in_progress: u64,
    pub(super) io_ticks: u64,
    pub(super) queue_ticks: u64,
    pub(super) read_ticks: u64,
    pub(super) write_ticks: u64,
    pub(super) bins: Vec<u64>,
}

impl Counters {
    /// Reads the lines of a region; one that is no line of counters is left out.
    pub(super) fn parse(text: &str, precise: bool) -> Vec<Counters> {
        text.lines().filter_map(|line| Counters::parse_line(line, precise)).collect()
    }

    fn parse_line(line: &str, precise: bool) -> Option<Counters> {
        let mut words = line.split(' ').skip(1);
        let mut number = || words.next()?.parse::<u64>().ok();
        let unit = if precise { 1 } else { MILLISECOND };
        let time = |time: u64| time.saturating_mul(unit);
        let mut counters = Counters {
            reads: number()?,
            reads_merged: number()?,
            read_sectors: number()?,
            read_time: time(number()?),
            writes: number()?,
            writes_merged: number()?,
            write_sectors: number()?,
            write_time: time(number()?),
            in_progress: number()?,
            io_ticks: time(number()?),
            queue_ticks: time(number()?),
            read_ticks: time(number()?),
            write_ticks: time(number()?),
            bins: Vec::new(),
        };
        if let Some(bins) = words.next() {
            counters.bins = bins.split(':').map(|bin| bin.parse().ok()).collect::<Option<_>>()?;
        }
        Some(counters)
    }
}

impl AddAssign<&Counters> for Counters {
    fn add_assign(&mut self, other: &Counters) {
        let pairs = [
            (&mut self.reads, other.reads),
            (&mut self.reads_merged, other.reads_merged),
            (&mut self.read_sectors, other.read_sectors),
            (&mut self.read_time, other.read_time),
            (&mut self.writes, other.writes),
            (&mut self.writes_merged, other.writes_merged),
            (&mut self.write_sectors, other.write_sectors),
            (&mut self.write_time, other.write_time),
            (&mut self.in_progress, other.in_progress),
            (&mut self.io_ticks, other.io_ticks),
            (&mut self.queue_ticks, other.queue_ticks),
            (&mut self.read_ticks, other.read_ticks),
            (&mut self.write_ticks, other.write_ticks),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
        if self.bins.len() < other.bins.len() {
            self.bins.resize(other.bins.len(), 0);
        }
        for (sum, more) in self.bins.iter_mut().zip(&other.bins) {
            *sum = sum.saturating_add(*more);
        }
    }
}
