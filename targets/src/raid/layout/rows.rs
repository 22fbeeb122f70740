//! Rows: how far on the legs a part of the set reaches, counted from where its data begins.
//!
//! What moves must not be written where something lies yet that moves later. So much of it is known
//! by the rows alone, whatever the legs: a part of the set lies before a row on all legs, or behind it.

use sim_core::{Sector, Sectors};

use super::{Format, Layout, Parity, Raid10};

impl Layout {
    /// Returns where on each leg the first row lies.
    pub fn offset(&self) -> Sectors {
        match self {
            Layout::Raid0 { .. } | Layout::Raid1 { .. } => Sectors::ZERO,
            Layout::Raid10(raid10) => raid10.offset(),
            Layout::Parity(parity) => parity.offset(),
        }
    }

    /// Returns the layout with its data so far from where a leg begins.
    #[must_use]
    pub fn at(self, offset: Sectors) -> Layout {
        match self {
            Layout::Raid0 { .. } | Layout::Raid1 { .. } => self,
            Layout::Raid10(raid10) => Layout::Raid10(raid10.at(offset)),
            Layout::Parity(parity) => Layout::Parity(parity.at(offset)),
        }
    }

    /// Returns the length of a chunk; of a raid1, which has none, that of a leg.
    pub fn chunk(&self) -> Sectors {
        match self {
            Layout::Raid0 { chunk, .. } => *chunk,
            Layout::Raid1 { device, .. } => *device,
            Layout::Raid10(raid10) => raid10.chunk(),
            Layout::Parity(parity) => parity.chunk(),
        }
    }

    /// Returns a row before which nothing lies of the set from `at` on.
    pub(super) fn first_row(&self, at: Sector) -> Sector {
        let (group, rows) = self.group();
        let chunk = self.chunk().0;
        Sector(self.slots(at.0 / chunk) / group * rows * chunk)
    }

    /// Returns a row before which all lies of the set that is before `at`.
    pub(super) fn end_row(&self, at: Sector) -> Sector {
        let (group, rows) = self.group();
        let chunk = self.chunk().0;
        Sector(self.slots(at.0.div_ceil(chunk)).div_ceil(group) * rows * chunk)
    }

    /// Returns up to where all of the set lies before a row.
    pub(super) fn fits_before(&self, row: Sector) -> Sector {
        let (group, rows) = self.group();
        let chunk = self.chunk().0;
        let chunks = (row.0 / chunk / rows).saturating_mul(group) / self.slots(1);
        Sector(chunks.saturating_mul(chunk)).min(self.len().to_sector())
    }

    /// Returns from where on all of the set lies behind a row.
    pub(super) fn begins_behind(&self, row: Sector) -> Sector {
        let (group, rows) = self.group();
        let chunk = self.chunk().0;
        let slots = row.0.div_ceil(chunk).div_ceil(rows).saturating_mul(group);
        Sector(slots.div_ceil(self.slots(1)).saturating_mul(chunk))
    }

    /// Returns how many places chunks take, dealt out in turn.
    fn slots(&self, chunks: u64) -> u64 {
        match self {
            Layout::Raid10(raid10) if raid10.format() == Format::Near => {
                chunks.saturating_mul(raid10.copies() as u64)
            }
            _ => chunks,
        }
    }

    /// Returns how many places for chunks lie side by side, and in how many rows of chunks: those that
    /// copies and parity take besides are no places.
    fn group(&self) -> (u64, u64) {
        let legs = self.legs() as u64;
        match self {
            Layout::Raid0 { .. } => (legs, 1),
            Layout::Raid1 { .. } => (1, 1),
            Layout::Parity(parity) => (parity.data_legs() as u64, 1),
            Layout::Raid10(raid10) => match raid10.format() {
                // A far copy lies in another part of the legs: nothing is known by the rows.
                Format::Near | Format::Far => (legs, 1),
                Format::Offset => (legs, raid10.copies() as u64),
            },
        }
    }
}

/// Two layouts between which data can move.
impl Layout {
    /// Returns how many rows are filled together.
    pub(super) fn step(&self) -> u64 {
        let rows = match self {
            // Copies of some chunks lie in two rows of chunks.
            Layout::Raid10(raid10)
                if raid10.format() == Format::Near
                    && !raid10.legs().is_multiple_of(raid10.copies()) =>
            {
                2
            }
            _ => self.group().1,
        };
        rows * self.chunk().0
    }

    /// Returns what every position between two layouts is a multiple of.
    pub(super) fn grain(&self, old: &Layout) -> u64 {
        /// A part of a larger chunk moves, as in the kernel.
        const PART: u64 = 128;
        match self {
            Layout::Parity(parity) => parity.stripe_len().0,
            _ => self.chunk().0.min(old.chunk().0).min(PART),
        }
    }

    /// Returns what a position between two layouts had better be a multiple of.
    pub(super) fn even(&self, old: &Layout) -> u64 {
        match (self, old) {
            (Layout::Parity(new), Layout::Parity(old)) => {
                lcm(new.stripe_len().0, old.stripe_len().0)
            }
            _ => self.chunk().0.max(old.chunk().0),
        }
    }

    /// Returns how many sectors of each leg a part of the set takes, on average.
    pub(super) fn share(&self, len: Sectors) -> Sectors {
        match self {
            Layout::Raid0 { legs, .. } => Sectors(len.0 / *legs as u64),
            Layout::Raid1 { .. } => len,
            Layout::Raid10(raid10) => {
                Sectors(len.0 * raid10.copies() as u64 / raid10.legs() as u64)
            }
            Layout::Parity(parity) => Sectors(len.0 / parity.data_legs() as u64),
        }
    }

    /// Returns the layout as one with parity.
    pub fn parity(&self) -> Option<&Parity> {
        match self {
            Layout::Parity(parity) => Some(parity),
            _ => None,
        }
    }

    /// Returns the layout as one of raid10.
    pub fn raid10(&self) -> Option<&Raid10> {
        match self {
            Layout::Raid10(raid10) => Some(raid10),
            _ => None,
        }
    }
}

fn lcm(one: u64, other: u64) -> u64 {
    one / gcd(one, other) * other
}

pub(super) fn gcd(one: u64, other: u64) -> u64 {
    let (mut a, mut b) = (one, other);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
