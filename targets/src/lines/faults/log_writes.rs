//! `log-writes <dev> <log dev>`

use std::fmt;

use sim_core::{CtrError, Sector, Sectors, Words};

use crate::lines::words::{DeviceWord, Devices, from_text};

/// A table line of `log-writes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// What is written to.
    pub device: D,
    /// Where that is logged.
    pub log: D,
}

impl<D> Line<D> {
    /// Reads the words. Those after the second mean nothing.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const COUNT: &str = "Invalid argument count";
        words.at_least(2, COUNT)?;
        let device = devices.open(words.next(COUNT)?, "Device lookup failed")?;
        let log = devices.open(words.next(COUNT)?, "Log device lookup failed")?;
        Ok(Line { device, log })
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
        write!(f, "{} {}", self.device, self.log)
    }
}

/// A status line of `log-writes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// How many entries the log has.
    pub entries: u64,
    /// The last sector of the log device that is taken.
    pub last: Sector,
    /// The log was full, or failed: nothing is logged any more.
    pub disabled: bool,
}

impl Status {
    /// Reads the text; nothing where it is no status.
    pub fn parse(text: &str) -> Option<Status> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (entries, last, disabled) = match words[..] {
            [entries, last] => (entries, last, false),
            [entries, last, "logging_disabled"] => (entries, last, true),
            _ => return None,
        };
        Some(Status { entries: entries.parse().ok()?, last: Sector(last.parse().ok()?), disabled })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.entries, self.last)?;
        f.write_str(if self.disabled { " logging_disabled" } else { "" })
    }
}
