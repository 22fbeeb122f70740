//! Addresses and lengths in 512-byte sectors: two types that do not mix.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// Bytes in a sector. The unit of every table line, whatever the logical block size of a device.
pub const SECTOR_SIZE: u64 = 512;

/// `log2` of [`SECTOR_SIZE`].
pub const SECTOR_SHIFT: u32 = 9;

/// An address: the number of the sector on its device, or within its target.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sector(pub u64);

/// A length: a count of sectors. Zero is an empty range.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sectors(pub u64);

impl Sector {
    /// The first sector.
    pub const ZERO: Sector = Sector(0);

    /// Returns the address as a byte offset, or `None` past 2^64 bytes.
    pub fn bytes(self) -> Option<u64> {
        self.0.checked_mul(SECTOR_SIZE)
    }

    /// Adds a length, or returns `None` past 2^64 sectors.
    pub fn checked_add(self, len: Sectors) -> Option<Sector> {
        self.0.checked_add(len.0).map(Sector)
    }

    /// Adds a length, and begins again at zero past 2^64 sectors, as the kernel's addresses do.
    pub fn wrapping_add(self, len: Sectors) -> Sector {
        Sector(self.0.wrapping_add(len.0))
    }

    /// Returns the length from here to the end of all addresses.
    pub fn to_wrap(self) -> Sectors {
        match self.0 {
            0 => Sectors::MAX,
            at => Sectors(at.wrapping_neg()),
        }
    }

    /// Returns the distance from the start of the device, or of the target.
    pub fn from_start(self) -> Sectors {
        Sectors(self.0)
    }
}

impl Sectors {
    /// The empty length.
    pub const ZERO: Sectors = Sectors(0);
    /// The longest length.
    pub const MAX: Sectors = Sectors(u64::MAX);

    /// Returns the whole sectors in `bytes`; a rest smaller than a sector is dropped.
    pub const fn in_bytes(bytes: u64) -> Sectors {
        Sectors(bytes / SECTOR_SIZE)
    }

    /// Returns the length in bytes.
    ///
    /// # Panics
    /// Past 2^64 bytes: no buffer and no image is that long.
    pub fn bytes(self) -> u64 {
        self.0.checked_mul(SECTOR_SIZE).expect("a length in bytes fits in 64 bits")
    }

    /// Tells whether the range is empty.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the address that lies this far from the start.
    pub const fn to_sector(self) -> Sector {
        Sector(self.0)
    }
}

impl Add<Sectors> for Sector {
    type Output = Sector;
    fn add(self, len: Sectors) -> Sector {
        Sector(self.0.checked_add(len.0).expect("an address fits in 64 bits"))
    }
}

impl AddAssign<Sectors> for Sector {
    fn add_assign(&mut self, len: Sectors) {
        *self = *self + len;
    }
}

impl Sub<Sectors> for Sector {
    type Output = Sector;
    fn sub(self, len: Sectors) -> Sector {
        Sector(self.0.checked_sub(len.0).expect("an address is not before the start"))
    }
}

impl Sub for Sector {
    type Output = Sectors;
    fn sub(self, start: Sector) -> Sectors {
        Sectors(self.0.checked_sub(start.0).expect("a range does not end before it starts"))
    }
}

impl Add for Sectors {
    type Output = Sectors;
    fn add(self, more: Sectors) -> Sectors {
        Sectors(self.0.checked_add(more.0).expect("a length fits in 64 bits"))
    }
}

impl AddAssign for Sectors {
    fn add_assign(&mut self, more: Sectors) {
        *self = *self + more;
    }
}

impl Sub for Sectors {
    type Output = Sectors;
    fn sub(self, less: Sectors) -> Sectors {
        Sectors(self.0.checked_sub(less.0).expect("a length is not negative"))
    }
}

impl SubAssign for Sectors {
    fn sub_assign(&mut self, less: Sectors) {
        *self = *self - less;
    }
}

impl Sum for Sectors {
    fn sum<I: Iterator<Item = Sectors>>(lengths: I) -> Sectors {
        lengths.fold(Sectors::ZERO, |sum, len| sum + len)
    }
}

impl fmt::Display for Sector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_length_add_to_an_address() {
        assert_eq!(Sector(8) + Sectors(2), Sector(10));
        assert_eq!(Sector(10) - Sector(8), Sectors(2));
        assert_eq!(Sectors::in_bytes(1025), Sectors(2));
        assert_eq!(Sectors(3).bytes(), 1536);
    }

    #[test]
    #[should_panic(expected = "fits in 64 bits")]
    fn an_address_past_the_end_of_all_addresses_is_a_bug() {
        let _ = Sector(u64::MAX) + Sectors(1);
    }

    #[test]
    fn a_sector_past_the_last_byte_has_no_offset() {
        assert_eq!(Sector(1 << 55).bytes(), None);
        assert_eq!(Sector(u64::MAX).checked_add(Sectors(1)), None);
    }
}
