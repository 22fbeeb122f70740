//! What lies where: which sectors of which legs hold a sector of the set, and the other way round.
//!
//! A sector of the set has one place (raid0, and raid4 to raid6, which have parity besides) or
//! several copies, each on a leg of its own (raid1, raid10). The places of neighbouring sectors are
//! neighbours too up to the end of a chunk, so a range is mapped in [`Run`]s.

mod far_sets;
mod moving;
mod parity;
mod raid10;
mod rows;
#[cfg(test)]
mod tests;

use std::ops::Range;

use sim_core::{Sector, Sectors};
use smallvec::{SmallVec, smallvec};

pub use moving::Moving;
pub use parity::{Parity, Role, Stripe};
pub use raid10::{Format, MAX_COPIES, Raid10};

/// Where a sector, or the first of several, lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The leg, counted from 0.
    pub leg: usize,
    /// The sector of its data device.
    pub sector: Sector,
}

/// The places of a sector, one for each copy; the usual few take no memory of their own.
pub type Places = SmallVec<[Place; 2]>;

/// Sectors of the set whose places go on side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first sector of the set.
    pub at: Sector,
    /// How many they are.
    pub len: Sectors,
    /// Where the first of them lies: one place for each copy, on different legs, in the kernel's
    /// order.
    pub copies: Places,
}

/// How the sectors of a set lie on its legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Chunks dealt out in turn, one copy.
    Raid0 {
        /// How many legs there are.
        legs: usize,
        /// The length of a chunk, a power of two.
        chunk: Sectors,
        /// The sectors of each leg that are in use.
        device: Sectors,
    },
    /// The same on each leg.
    Raid1 {
        /// How many legs there are.
        legs: usize,
        /// The sectors of each leg that are in use.
        device: Sectors,
    },
    /// Several copies of each chunk, dealt out in turn.
    Raid10(Raid10),
    /// Chunks dealt out in turn, one copy, and parity beside them.
    Parity(Parity),
}

impl Layout {
    /// Returns how many legs there are.
    pub fn legs(&self) -> usize {
        match self {
            Layout::Raid0 { legs, .. } | Layout::Raid1 { legs, .. } => *legs,
            Layout::Raid10(raid10) => raid10.legs(),
            Layout::Parity(parity) => parity.legs(),
        }
    }

    /// Returns how many copies there are of each sector.
    pub fn copies(&self) -> usize {
        match self {
            Layout::Raid0 { .. } | Layout::Parity(_) => 1,
            Layout::Raid1 { legs, .. } => *legs,
            Layout::Raid10(raid10) => raid10.copies(),
        }
    }

    /// Returns the length of the set. Where the table's length is no whole number of chunks, this
    /// is less: the kernel gives the mapped device this size.
    pub fn len(&self) -> Sectors {
        match self {
            Layout::Raid0 { legs, chunk, device } => {
                Sectors(device.0 / chunk.0 * chunk.0 * *legs as u64)
            }
            Layout::Raid1 { device, .. } => *device,
            Layout::Raid10(raid10) => raid10.len(),
            Layout::Parity(parity) => parity.len(),
        }
    }

    /// Tells whether a set is too short for a single chunk.
    pub fn is_empty(&self) -> bool {
        self.len().is_zero()
    }

    /// Tells whether legs that are not `lost` have all of the data.
    pub fn has_all(&self, lost: impl Fn(usize) -> bool) -> bool {
        match self {
            Layout::Raid0 { legs, .. } => !(0..*legs).any(lost),
            Layout::Raid1 { legs, .. } => (0..*legs).any(|leg| !lost(leg)),
            Layout::Raid10(raid10) => raid10.has_all(lost),
            Layout::Parity(parity) => {
                (0..parity.legs()).filter(|leg| lost(*leg)).count() <= parity.parities()
            }
        }
    }

    /// Returns what a resync goes through and a write-intent bitmap covers: the sectors of the set
    /// for raid10, of a leg for the others. Raid0 has neither.
    pub fn resync_len(&self) -> Sectors {
        match self {
            Layout::Parity(parity) => parity.device_len(),
            Layout::Raid0 { .. } | Layout::Raid1 { .. } | Layout::Raid10(_) => self.len(),
        }
    }

    /// Returns what the recovery of one leg goes through: the sectors of that leg.
    pub fn recovery_len(&self) -> Sectors {
        match self {
            Layout::Raid0 { device, .. } | Layout::Raid1 { device, .. } => *device,
            Layout::Raid10(raid10) => raid10.device_len(),
            Layout::Parity(parity) => parity.device_len(),
        }
    }

    /// Returns how much of what a resync, a recovery or a check goes through md does at a time: 64 KiB, or
    /// a page of each leg where there is parity. Each begins at a multiple of it.
    pub fn sync_step(&self) -> Sectors {
        const MOST: Sectors = Sectors(128);
        match self {
            Layout::Raid0 { .. } | Layout::Raid1 { .. } => MOST,
            Layout::Raid10(raid10) => raid10.chunk().min(MOST),
            Layout::Parity(_) => Sectors(8),
        }
    }

    /// Returns where the places of a sector stop going on side by side: the end of its chunk, or
    /// of the set.
    pub fn run_end(&self, at: Sector) -> Sector {
        let chunk = match self {
            Layout::Raid0 { chunk, .. } => chunk.0,
            Layout::Raid1 { .. } => return Sector(self.len().0),
            Layout::Raid10(raid10) => raid10.chunk().0,
            Layout::Parity(parity) => parity.chunk().0,
        };
        Sector((at.0 / chunk + 1) * chunk)
    }

    /// Returns the places of a sector, which is one of the set.
    pub fn places(&self, at: Sector) -> Places {
        debug_assert!(at.0 < self.len().0, "sector {at} of a set of {}", self.len());
        match self {
            Layout::Raid0 { legs, chunk, .. } => {
                let (nr, within) = (at.0 / chunk.0, at.0 % chunk.0);
                let (row, leg) = (nr / *legs as u64, nr % *legs as u64);
                smallvec![Place { leg: leg as usize, sector: Sector(row * chunk.0 + within) }]
            }
            Layout::Raid1 { legs, .. } => (0..*legs).map(|leg| Place { leg, sector: at }).collect(),
            Layout::Raid10(raid10) => raid10.places(at),
            Layout::Parity(parity) => smallvec![parity.place(at)],
        }
    }

    /// Maps a range, which lies in the set, run by run in order.
    pub fn runs(&self, range: Range<Sector>) -> impl Iterator<Item = Run> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let end = self.run_end(at).min(range.end);
            let run = Run { at, len: end - at, copies: self.places(at) };
            at = end;
            Some(run)
        })
    }

    /// Returns which sector of the set lies at a place, and as which of its copies; none where
    /// there is no sector of the set.
    pub fn sector_at(&self, place: Place) -> Option<(Sector, usize)> {
        let Place { leg, sector } = place;
        let found = match self {
            Layout::Raid0 { legs, chunk, .. } => {
                let (row, within) = (sector.0 / chunk.0, sector.0 % chunk.0);
                (Sector((row * *legs as u64 + leg as u64) * chunk.0 + within), 0)
            }
            Layout::Raid1 { .. } => (sector, leg),
            Layout::Raid10(raid10) => raid10.sector_at(place)?,
            Layout::Parity(parity) => (parity.sector_at(place)?, 0),
        };
        (found.0.0 < self.len().0).then_some(found)
    }
}
