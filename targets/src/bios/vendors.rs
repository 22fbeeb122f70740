//! By what the sets of BIOSes and controllers are known that are not opened here, and where that lies.
//!
//! The places and magic numbers are public: libblkid and dmraid go by the same.

use sim_core::{Sector, Sectors};

use super::pieces::{Pieces, Stop};
use crate::parts::bytes::{le16, le32};

/// A kind of set.
#[derive(Debug)]
pub struct Vendor {
    /// Who makes such sets.
    pub name: &'static str,
    /// What dmraid calls them.
    pub format: &'static str,
    /// Where the metadata lies.
    places: &'static [Place],
    /// What it begins with, or has at a byte: one of them.
    magic: &'static [(usize, &'static [u8])],
    /// What else is to be right.
    check: fn(&[u8]) -> bool,
}

/// A sector.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// So many from the end; 1 is the last.
    End(u64),
    /// From the beginning.
    Start(u64),
}
use Place::{End, Start};

/// A disk has so many sectors at least.
const LEAST: Sectors = Sectors(128);

/// All that are known.
#[rustfmt::skip]
pub const VENDORS: [Vendor; 9] = [
    Vendor { name: "Adaptec HostRAID", format: "asr", places: &[End(1)],
        magic: &[(0, b"\x37\xfc\x4d\x1e")], check: |bytes| bytes[0x100..0x104] == *b"DPTM" },
    Vendor { name: "HighPoint HPT37x", format: "hpt37x", places: &[Start(9)],
        magic: &[(32, b"\xf0\x16\x78\x5a"), (32, b"\xfd\x16\x78\x5a")], check: |_| true },
    Vendor { name: "HighPoint HPT45x", format: "hpt45x", places: &[End(11)],
        magic: &[(0, b"\xf3\x16\x78\x5a"), (0, b"\xfd\x16\x78\x5a")], check: |_| true },
    Vendor { name: "JMicron", format: "jmicron", places: &[End(1)],
        magic: &[(0, b"JM")], check: |bytes| matches!(sum16(&bytes[..128]), 0 | 1) && bytes[48] <= 5 },
    Vendor { name: "LSI Logic MegaRAID", format: "lsi", places: &[End(1)],
        magic: &[(0, b"$XIDE$")], check: |_| true },
    Vendor { name: "NVidia", format: "nvidia", places: &[End(2)],
        magic: &[(0, b"NVIDIA  ")], check: nvidia },
    Vendor { name: "Promise FastTrack", format: "pdc",
        places: &[End(63), End(255), End(256), End(16), End(399), End(591), End(675), End(735), End(911),
            End(974), End(991), End(951), End(3087)],
        magic: &[(0, b"Promise Technology, Inc.")], check: |_| true },
    Vendor { name: "Silicon Image Medley", format: "sil", places: &[End(1)],
        magic: &[(0x60, b"\x00\x00\x00\x2f")], check: silicon },
    Vendor { name: "VIA", format: "via", places: &[End(1)],
        magic: &[(0, b"\x55\xaa")], check: via },
];

/// Looks whether a disk so long is of one of these; a place at a time.
pub fn find(len: Sectors, pieces: &Pieces) -> Result<Option<&'static Vendor>, Stop> {
    if len < LEAST {
        return Ok(None);
    }
    for vendor in &VENDORS {
        for place in vendor.places {
            let at = match place {
                End(back) => len.0.checked_sub(*back),
                Start(at) => Some(*at),
            };
            let Some(at) = at else { continue };
            let sector = pieces.sectors(Sector(at), Sectors(1))?;
            let has = |(at, magic): &(usize, &[u8])| sector[*at..].starts_with(magic);
            if vendor.magic.iter().any(has) && (vendor.check)(sector) {
                return Ok(Some(vendor));
            }
        }
    }
    Ok(None)
}

/// Adds 16-bit words up.
fn sum16(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| le16(word, 0));
    words.fold(0, u16::wrapping_add)
}

/// The sum of all words, with the checksum as 0, is the checksum's negative.
fn nvidia(bytes: &[u8]) -> bool {
    const LEN: usize = 120;
    let words = bytes[..LEN].chunks_exact(4).map(|bytes| le32(bytes, 0));
    le32(bytes, 8) as usize == LEN / 4 && words.fold(0_u32, u32::wrapping_add) == 0
}

fn silicon(bytes: &[u8]) -> bool {
    const SUM: usize = 0x13e;
    bytes[0x116] < 8 && sum16(&bytes[..SUM]).wrapping_neg() == le16(bytes, SUM)
}

fn via(bytes: &[u8]) -> bool {
    const SUM: usize = 50;
    let sum = bytes[..SUM].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[2] <= 2 && sum == bytes[SUM]
}
