//! `switch <#paths> <region sectors> <#optional args> [<dev> <start>]+`

use std::fmt;

use sim_core::{CtrError, Sectors, Words};

use crate::lines::place::Place;
use crate::lines::words::{DeviceWord, Devices, from_text};

/// The most paths: as many as the kernel has room for in one piece of memory.
const MAX_PATHS: u32 = 262_141;

/// A table line of `switch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// The length of a region.
    pub region: Sectors,
    /// Where each path leads.
    pub paths: Vec<Place<D>>,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const PATHS: &str = "Incorrect number of path arguments";
        let (_, count) = words.number(1..=MAX_PATHS, "Invalid number of paths")?;
        let (_, region) = words.number(1..=u32::MAX, "Invalid region size")?;
        words.number(0..=0, "Invalid number of optional args")?;
        words.exactly(3 + 2 * count as usize, PATHS)?;
        let mut paths = Vec::new();
        for _ in 0..count {
            let device = devices.open(words.next(PATHS)?, "Device lookup failed")?;
            let start = words.next(PATHS)?.sector_u64("Invalid device starting offset")?;
            paths.push(Place { device, start });
        }
        Ok(Line { region: Sectors(region.into()), paths })
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
        write!(f, "{} {} 0", self.paths.len(), self.region)?;
        self.paths.iter().try_for_each(|path| write!(f, " {path}"))
    }
}
