//! `delay <dev> <start> <ms> [<write dev> <start> <ms> [<flush dev> <start> <ms>]]`

use std::fmt;

use sim_core::{CtrError, Sectors, Words};

use crate::lines::place::Place;
use crate::lines::words::{DeviceWord, Devices, from_text};

/// A table line of `delay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// What reads do, and all else that the line does not tell apart.
    pub read: Class<D>,
    /// What writes and flushes do, where the line says so.
    pub write: Option<(Class<D>, FlushClass<D>)>,
}

/// What flushes do, where the line tells them from writes.
pub type FlushClass<D> = Option<Class<D>>;

/// What one kind of bio does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class<D> {
    /// Where it goes.
    pub place: Place<D>,
    /// How long it is held before, in milliseconds.
    pub delay_ms: u32,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const COUNT: &str = "Requires exactly 3, 6 or 9 arguments";
        let count = words.count();
        if !matches!(count, 3 | 6 | 9) {
            let whole = count - count % 3;
            let detail = format!("expected 3, 6 or 9 arguments, found {count}");
            return Err(CtrError::new(COUNT).arg(whole.min(9)).detail(detail));
        }
        let mut class = |first: usize| {
            let start = words.at(first + 1, COUNT)?.sector("Invalid device sector")?;
            let delay_ms = words.at(first + 2, COUNT)?.wrapping_u32("Invalid delay")?;
            let device = devices.open(words.at(first, COUNT)?, "Device lookup failed")?;
            Ok(Class { place: Place { device, start }, delay_ms })
        };
        let read = class(0)?;
        let write = if count > 3 {
            let write = class(3)?;
            Some((write, if count > 6 { Some(class(6)?) } else { None }))
        } else {
            None
        };
        Ok(Line { read, write })
    }
}

impl Line<DeviceWord> {
    /// Reads the text after the type.
    pub fn from_text(text: &str, len: Sectors) -> Result<Line<DeviceWord>, CtrError> {
        from_text(text, len, Line::parse)
    }
}

impl<D: fmt::Display> fmt::Display for Line<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.read)?;
        let Some((write, flush)) = &self.write else { return Ok(()) };
        write!(f, " {write}")?;
        flush.iter().try_for_each(|flush| write!(f, " {flush}"))
    }
}

impl<D: fmt::Display> fmt::Display for Class<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.delay_ms)
    }
}

/// A status line of `delay`: how many bios are held just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Reads.
    pub reads: u32,
    /// Writes and discards.
    pub writes: u32,
    /// Flushes.
    pub flushes: u32,
}

impl Status {
    /// Reads the text; nothing where it is no status.
    pub fn parse(text: &str) -> Option<Status> {
        let numbers: Option<Vec<u32>> =
            text.split_whitespace().map(|word| word.parse().ok()).collect();
        let [reads, writes, flushes] = numbers?[..] else { return None };
        Some(Status { reads, writes, flushes })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.reads, self.writes, self.flushes)
    }
}
