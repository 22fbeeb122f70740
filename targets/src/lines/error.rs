//! `error [<dev> <start>]`

use std::fmt;

use sim_core::{CtrError, Sectors, Words};

use super::place::Place;
use super::words::{DeviceWord, Devices, from_text};

/// A table line of `error`. Its words are not printed, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// What lends its limits.
    pub place: Option<Place<D>>,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        // One word alone, and words after the second, are taken and mean nothing.
        if words.count() < 2 {
            return Ok(Line { place: None });
        }
        let start = words.at(1, "")?.sector("Invalid device sector")?;
        let device = devices.open(words.at(0, "")?, "Device lookup failed")?;
        Ok(Line { place: Some(Place { device, start }) })
    }
}

impl Line<DeviceWord> {
    /// Reads the text after the type.
    pub fn from_text(text: &str, len: Sectors) -> Result<Line<DeviceWord>, CtrError> {
        from_text(text, len, Line::parse)
    }
}

impl<D> fmt::Display for Line<D> {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
