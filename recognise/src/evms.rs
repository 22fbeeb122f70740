//! EVMS, IBM's volume manager of 2001 to 2006: the header that it put at the end of an object.
//!
//! What is read is the feature header, as EVMS's engine and its driver for Linux 2.5 have it (version 3.0
//! and 3.1), as facts. It takes the last sector of an object and, as a copy, the one before it; the later of
//! two that are whole counts. It tells the object's and the volume's names, which feature made it, where
//! that feature's own data are, and how much was left free to align them.
//!
//! **What opens.** An EVMS volume with no feature (`passthru` of the driver): its data are the object but
//! for the two headers and the padding; that is [`Header::linear`].
//!
//! **What is named only.** Drive links, bad block relocation and snapshots: they are told apart by their
//! feature's id, but how their own data are laid out (the order of a link's children, the table of what was
//! relocated) was not to be found in a public source to the byte, and is not guessed. A drive link is most
//! often its children one after another, each without its headers and the feature's data; to put them
//! together so by hand, their order must be known.
//!
//! No object that EVMS made was at hand: the tests write headers by the same facts.

use std::fmt;

use serde::Serialize;

use crate::bytes::{le32, le64, text};
use crate::{Error, Source};

const SECTOR: u64 = 512;

/// What a header begins with: `FEAT`.
const SIGNATURE: &[u8] = b"FEAT";

/// Stands for a checksum that is not to be verified.
const NO_CHECKSUM: u32 = 0x3141_5926;

/// IBM's number among those who made plug-ins, and the kinds of plug-ins that have headers.
const IBM: u32 = 8112;
const FEATURE: u32 = 4;
const ASSOCIATIVE: u32 = 5;

/// A feature header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Header {
    /// What made it.
    pub feature: Feature,
    /// The object's name; empty where it has none.
    pub object: String,
    /// The name of the volume that the object is a part of; empty where it is of none.
    pub volume: String,
    /// The volume's serial number.
    pub serial: u64,
    /// Whether the volume is complete with this object: nothing is made of it.
    pub complete: bool,
    /// Whether the object is not to be looked into further.
    pub stop: bool,
    /// How many sectors are left free before the headers.
    #[serde(rename = "padding_sectors")]
    pub padding: u64,
    /// How many layers of features are below.
    pub depth: u32,
    /// How many sectors the object has.
    #[serde(rename = "len_sectors")]
    pub len: u64,
}

/// What made a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Nothing: it says that the object is a volume, and its name.
    Volume,
    /// Objects one after another.
    DriveLink,
    /// Sectors that are bad lie elsewhere.
    BadBlockRelocation,
    /// A snapshot, or what it is of.
    Snapshot,
    /// Another plug-in: its id.
    Other(u32),
}

/// Reads the header at the end of an object.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::DamagedHeader`] when there are headers but none whose
/// checksum is right, or one of another version.
pub fn read(source: &dyn Source) -> Result<Option<Header>, Error> {
    let len = source.len() / SECTOR;
    let Some(start) = len.checked_sub(2) else { return Ok(None) };
    let both = crate::source::read(source, start * SECTOR, 2 * SECTOR as usize)?;
    let (second, first) = both.split_at(SECTOR as usize);
    let there: Vec<&[u8]> =
        [first, second].into_iter().filter(|copy| copy.starts_with(SIGNATURE)).collect();
    if there.is_empty() {
        return Ok(None);
    }
    let whole = there.iter().filter(|copy| is_whole(copy));
    // Of two that are as new the last sector counts.
    let Some(copy) = whole.rev().max_by_key(|copy| le64(copy, 40)) else {
        return Err(Error::damaged(
            "EVMS: no header at the object's end has a checksum that is right",
        ));
    };
    let (major, minor) = (le32(copy, 8), le32(copy, 12));
    if major != 3 {
        return Err(Error::damaged(format!("EVMS: header of version {major}.{minor}, expected 3")));
    }
    let header = Header::of(copy, len);
    if header.padding.checked_add(2).is_none_or(|taken| taken >= len) {
        let padding = header.padding;
        return Err(Error::damaged(format!(
            "EVMS: {padding} sectors of padding in an object of {len}"
        )));
    }
    Ok(Some(header))
}

/// Says whether a copy's checksum is right: CRC-32 without the inversion at its end, of the sector with
/// zeros where it is kept.
fn is_whole(copy: &[u8]) -> bool {
    let stored = le32(copy, 4);
    let mut sum = crc32fast::Hasher::new();
    sum.update(&copy[..4]);
    sum.update(&[0; 4]);
    sum.update(&copy[8..]);
    stored == NO_CHECKSUM || stored == !sum.finalize()
}

impl Header {
    fn of(copy: &[u8], len: u64) -> Header {
        let (flags, id) = (le32(copy, 32), le32(copy, 36));
        Header {
            feature: Feature::of(id),
            object: text(&copy[104..232]),
            volume: text(&copy[232..360]),
            serial: le64(copy, 88),
            complete: flags & 1 << 1 != 0,
            stop: flags & 1 << 17 != 0,
            padding: le64(copy, 48),
            depth: le32(copy, 100),
            len,
        }
    }

    /// Returns the sectors that are the volume's data, from the object's first on; none where more must be
    /// known to find them.
    #[must_use]
    pub fn linear(&self) -> Option<u64> {
        match self.feature {
            // `read` has seen to it that there is something left.
            Feature::Volume if !self.stop => Some(self.len - 2 - self.padding),
            Feature::Volume => None,
            Feature::DriveLink
            | Feature::BadBlockRelocation
            | Feature::Snapshot
            | Feature::Other(_) => None,
        }
    }
}

impl Feature {
    fn of(id: u32) -> Feature {
        match (id >> 16, id >> 12 & 0xf, id & 0xfff) {
            (IBM, FEATURE, 0) => Feature::Volume,
            (IBM, FEATURE, 1) => Feature::DriveLink,
            (IBM, FEATURE, 6) => Feature::BadBlockRelocation,
            (IBM, ASSOCIATIVE, 104) => Feature::Snapshot,
            _ => Feature::Other(id),
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Feature::Volume => f.write_str("EVMS volume"),
            Feature::DriveLink => f.write_str("EVMS drive link"),
            Feature::BadBlockRelocation => f.write_str("EVMS bad block relocation"),
            Feature::Snapshot => f.write_str("EVMS snapshot"),
            Feature::Other(id) => write!(f, "EVMS feature {id:#010x}"),
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.feature)?;
        for (what, name) in [("object", &self.object), ("volume", &self.volume)] {
            if !name.is_empty() {
                write!(f, " {what} `{name}`")?;
            }
        }
        Ok(())
    }
}
