//! `snapshot-origin <dev>`

use std::fmt;

use sim_core::{CtrError, Sectors, Words};

use super::words::{DeviceWord, Devices, from_text};

/// A table line of `snapshot-origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// The device whose old content is kept.
    pub device: D,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const COUNT: &str = "origin: incorrect number of arguments";
        words.exactly(1, COUNT)?;
        Ok(Line { device: devices.open(words.next(COUNT)?, "Cannot get target device")? })
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
        self.device.fmt(f)
    }
}
