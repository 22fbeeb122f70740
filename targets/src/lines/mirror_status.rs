//! What a mirror tells of itself: its status line, and its answer to the message `behind`.

use std::fmt;
use std::ops::Range;

use super::words::DeviceWord;

pub use crate::parts::dirty_log::LogHealth;

/// A status line of `mirror`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status<D> {
    /// What is said of each leg.
    pub legs: Vec<LegStatus<D>>,
    /// How many regions are in sync, as the log counts them.
    pub in_sync: u64,
    /// How many regions there are.
    pub regions: u64,
    /// What is said of a log on a device; nothing of one in memory.
    pub log: Option<LogStatus<D>>,
}

/// What is said of a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegStatus<D> {
    /// Its device.
    pub device: D,
    /// What it went through.
    pub health: LegHealth,
}

/// What a leg went through since the mirror was last in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegHealth {
    /// Nothing (`A`).
    Good,
    /// A flush has failed (`F`).
    FlushFailed,
    /// A write has failed (`D`).
    WriteFailed,
    /// The resync could not write or read it (`S`).
    SyncFailed,
    /// A read has failed (`R`).
    ReadFailed,
}

/// What is said of a log's device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStatus<D> {
    /// The device.
    pub device: D,
    /// What it went through.
    pub health: LogHealth,
}

impl LegHealth {
    const ALL: [LegHealth; 5] = [
        LegHealth::Good,
        LegHealth::FlushFailed,
        LegHealth::WriteFailed,
        LegHealth::SyncFailed,
        LegHealth::ReadFailed,
    ];

    /// Returns the letter that status lines have for it.
    pub fn letter(self) -> char {
        match self {
            LegHealth::Good => 'A',
            LegHealth::FlushFailed => 'F',
            LegHealth::WriteFailed => 'D',
            LegHealth::SyncFailed => 'S',
            LegHealth::ReadFailed => 'R',
        }
    }
}

impl Status<DeviceWord> {
    /// Reads the text; nothing where it is no status.
    pub fn parse(text: &str) -> Option<Status<DeviceWord>> {
        let mut words = text.split_whitespace();
        let count: usize = words.next()?.parse().ok()?;
        let devices: Vec<&str> = words.by_ref().take(count).collect();
        let (in_sync, regions) = words.next()?.split_once('/')?;
        let (in_sync, regions) = (in_sync.parse().ok()?, regions.parse().ok()?);
        let (Some("1"), Some(letters)) = (words.next(), words.next()) else { return None };
        if (devices.len(), letters.len()) != (count, count) {
            return None;
        }
        let leg = |(device, letter): (&str, char)| {
            let health = LegHealth::ALL.into_iter().find(|health| health.letter() == letter)?;
            Some(LegStatus { device: device.into(), health })
        };
        let legs = devices.into_iter().zip(letters.chars()).map(leg).collect::<Option<_>>()?;
        let log = match (words.next()?, words.next()?) {
            ("1", "core") => None,
            ("3", "disk") => {
                let (device, letter) = (words.next()?.into(), words.next()?);
                let shown = |health: &LogHealth| letter == health.letter().encode_utf8(&mut [0; 4]);
                Some(LogStatus { device, health: LogHealth::ALL.into_iter().find(shown)? })
            }
            _ => return None,
        };
        words.next().is_none().then_some(Status { legs, in_sync, regions, log })
    }
}

impl<D> Status<D> {
    /// Tells whether all regions are in sync.
    pub fn is_in_sync(&self) -> bool {
        self.in_sync == self.regions
    }

    /// Tells whether no leg has failed since all was in sync.
    pub fn legs_are_good(&self) -> bool {
        self.legs.iter().all(|leg| leg.health == LegHealth::Good)
    }

    /// Tells whether the log has not failed.
    pub fn log_is_good(&self) -> bool {
        self.log.as_ref().is_none_or(|log| log.health == LogHealth::Good)
    }
}

impl<D: fmt::Display> fmt::Display for Status<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.legs.len())?;
        self.legs.iter().try_for_each(|leg| write!(f, " {}", leg.device))?;
        write!(f, " {}/{} 1 ", self.in_sync, self.regions)?;
        self.legs.iter().try_for_each(|leg| write!(f, "{}", leg.health.letter()))?;
        match &self.log {
            None => f.write_str(" 1 core"),
            Some(LogStatus { device, health }) => write!(f, " 3 disk {device} {}", health.letter()),
        }
    }
}

/// The answer to `behind`: for each leg, the runs of regions in which it lacks what another has, in
/// order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind(pub Vec<Vec<Range<u64>>>);

impl Behind {
    /// Reads the text; nothing where it is no such answer.
    pub fn parse(text: &str) -> Option<Behind> {
        let run = |run: &str| {
            let (first, count) = run.split_once('+')?;
            let first: u64 = first.parse().ok()?;
            Some(first..first.checked_add(count.parse().ok()?)?)
        };
        let leg = |word: &str| match word {
            "-" => Some(Vec::new()),
            runs => runs.split(',').map(run).collect(),
        };
        text.split_whitespace().map(leg).collect::<Option<Vec<_>>>().map(Behind)
    }

    /// Tells whether a leg has everything.
    pub fn has_all(&self, leg: usize) -> bool {
        self.0.get(leg).is_some_and(Vec::is_empty)
    }

    /// Tells whether every leg has everything.
    pub fn is_none(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    /// Returns the regions that are not the same on all legs, as runs in order.
    pub fn regions(&self) -> Vec<Range<u64>> {
        let mut all: Vec<Range<u64>> = self.0.iter().flatten().cloned().collect();
        all.sort_unstable_by_key(|run| run.start);
        all.dedup_by(|next, run| {
            let joins = next.start <= run.end;
            if joins {
                run.end = run.end.max(next.end);
            }
            joins
        });
        all
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nr, runs) in self.0.iter().enumerate() {
            f.write_str(if nr == 0 { "" } else { " " })?;
            if runs.is_empty() {
                f.write_str("-")?;
            }
            for (nr, run) in runs.iter().enumerate() {
                let comma = if nr == 0 { "" } else { "," };
                write!(f, "{comma}{}+{}", run.start, run.end - run.start)?;
            }
        }
        Ok(())
    }
}
