//! `linear <dev> <start>`

use std::fmt;

use sim_core::{CtrError, Sectors, Words};

use crate::lines::place::Place;
use crate::lines::words::{DeviceWord, Devices, from_text};

/// A table line of `linear`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// Where the target's sectors lie.
    pub place: Place<D>,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const COUNT: &str = "Invalid argument count";
        words.exactly(2, COUNT)?;
        // The start first: where both words are wrong, the kernel names this one.
        let start = words.at(1, COUNT)?.sector("Invalid device sector")?;
        let device = devices.open(words.at(0, COUNT)?, "Device lookup failed")?;
        Ok(Line { place: Place { device, start } })
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
        self.place.fmt(f)
    }
}
