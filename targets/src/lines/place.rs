//! Where a range begins on a device: two words of many lines.

use std::fmt;

use sim_core::Sector;

/// A device, and a sector of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<D> {
    /// The device.
    pub device: D,
    /// Where the range begins.
    pub start: Sector,
}

impl<D: fmt::Display> fmt::Display for Place<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.device, self.start)
    }
}
