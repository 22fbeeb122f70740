//! The superblock of a member, as md writes it: version 0.90 near the end of the member, 1.0 at its
//! end, 1.1 at its beginning, and 1.2 4 KiB behind that; little-endian.
//!
//! What was read is kept as it is, and only what changes is written over: the name, the identifier of
//! the member, counters of errors and what newer kernels put in stay. So does the time of the last
//! update, as nothing here has a clock; md does nothing by it.

mod v0;
mod v1;

use std::fmt;

use sim_core::{Sector, Sectors};

use crate::parts::bytes::le32;

/// How many bytes a superblock takes at most; so many are read.
pub const LEN: usize = 4096;

const MAGIC: u32 = 0xa92b_4efc;

/// What a 64-bit field holds for "nowhere": nothing is left to be done.
pub const DONE: u64 = u64::MAX;

/// Where a superblock lies, and how it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// In the last 64 KiB that are whole ones.
    V0_90,
    /// In the last 8 KiB, or a little before.
    V1_0,
    /// At the beginning.
    V1_1,
    /// 4 KiB from the beginning.
    V1_2,
}

/// What is wrong with a superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is none of this version.
    None,
    /// Its checksum is another.
    Checksum,
    /// It is of a version that nobody knows, or lies elsewhere than it says.
    Version,
    /// What it says cannot be.
    Impossible(&'static str),
}

/// What a member is in its array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It has this place.
    Active(usize),
    /// It is there for when another fails.
    Spare,
    /// It has failed, or is no member any more.
    Faulty,
    /// It keeps a journal.
    Journal,
}

/// What a superblock says. Sectors are of 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The array's identifier.
    pub uuid: [u8; 16],
    /// The array's name; empty in version 0.90.
    pub name: String,
    /// 0, 1, 4, 5, 6 or 10; -1 for linear, less for others.
    pub level: i32,
    /// What it means depends on the level.
    pub layout: u32,
    /// The length of a chunk.
    pub chunk: Sectors,
    /// How many places the array has.
    pub places: usize,
    /// How much of each member is in use; 0 for linear and raid0, where each has its own length.
    pub size: Sectors,
    /// Counts the changes of state of the array.
    pub events: u64,
    /// Up to where the array was synchronized; [`DONE`] where it is clean.
    pub resync_offset: u64,
    /// The number that this member has in the table of roles.
    pub number: usize,
    /// What it is.
    pub role: Role,
    /// Up to where it has what the array has; [`DONE`] where that is all.
    pub recovery_offset: u64,
    /// What it lacks behind that has bits in the bitmap.
    pub recovers_by_bitmap: bool,
    /// Where the data begins.
    pub data_offset: Sector,
    /// How much of it there is.
    pub data_len: Sectors,
    /// Where the write-intent bitmap is.
    pub bitmap: Option<Sector>,
    /// It is read where no other can be.
    pub write_mostly: bool,
    /// How a raid0 of members that differ is laid out: 1 or 2, 0 where nobody said.
    pub raid0_layout: u32,
    /// What it is used for that nothing here keeps up.
    pub unsupported: Option<&'static str>,
}

/// What becomes of a place in an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A member with this number has it, and all that the array has.
    InSync(usize),
    /// A member with this number has it, and what lies before a sector.
    Behind {
        /// Its number.
        number: usize,
        /// What it has durably.
        from: u64,
        /// Behind that, it lacks what has bits in the bitmap.
        by_bitmap: bool,
    },
    /// Nobody has it.
    Empty,
}

/// A new state of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Counts it.
    pub events: u64,
    /// Up to where the array is synchronized; [`DONE`] where it is clean.
    pub resync_offset: u64,
    /// It is being written, or was when nobody ended that.
    pub dirty: bool,
    /// Who has which place.
    pub places: Vec<Place>,
}

/// A superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    version: Version,
    /// Where it lies.
    at: Sector,
    bytes: Vec<u8>,
}

impl Version {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Version; 4] = [Version::V1_1, Version::V1_2, Version::V1_0, Version::V0_90];

    /// Returns where the superblock of a member of this length lies; none where there is no room.
    pub fn place(self, len: Sectors) -> Option<Sector> {
        let at = match self {
            Version::V0_90 => (len.0 & !127).checked_sub(128)?,
            Version::V1_0 => len.0.checked_sub(16)? & !7,
            Version::V1_1 => 0,
            Version::V1_2 => 8,
        };
        (at + 8 <= len.0).then_some(Sector(at))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V0_90 => "0.90",
            Version::V1_0 => "1.0",
            Version::V1_1 => "1.1",
            Version::V1_2 => "1.2",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::None => f.write_str("no superblock of md"),
            Fault::Checksum => f.write_str("a superblock of md with a wrong checksum"),
            Fault::Version => f.write_str("a superblock of md that lies where it does not belong"),
            Fault::Impossible(what) => write!(f, "a superblock of md that cannot be: {what}"),
        }
    }
}

impl Superblock {
    /// Reads a superblock of a version: [`LEN`] bytes that lie at `at`, where that is for a member so
    /// long.
    pub fn read(version: Version, at: Sector, bytes: &[u8]) -> Result<Superblock, Fault> {
        assert!(bytes.len() >= LEN, "a superblock has {LEN} bytes at most");
        if le32(bytes, 0) != MAGIC {
            return Err(Fault::None);
        }
        let len = match version {
            Version::V0_90 => v0::check(bytes)?,
            Version::V1_0 | Version::V1_1 | Version::V1_2 => v1::check(bytes, at)?,
        };
        Ok(Superblock { version, at, bytes: bytes[..len].to_vec() })
    }

    /// Returns the version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns where it lies.
    pub fn place(&self) -> Sector {
        self.at
    }

    /// Returns its bytes, as they are to be written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Says what it tells.
    pub fn facts(&self) -> Facts {
        match self.version {
            Version::V0_90 => v0::facts(&self.bytes, self.at),
            _ => v1::facts(&self.bytes, self.at),
        }
    }

    /// Tells what this superblock has for the member with a number.
    pub fn role_of(&self, number: usize) -> Role {
        match self.version {
            Version::V0_90 => v0::role_of(&self.bytes, number),
            _ => v1::role_of(&self.bytes, number),
        }
    }

    /// Tells whether some member has this place, and has not failed, as far as this one knows.
    pub fn counts_on(&self, place: usize) -> bool {
        (0..v1::MOST).any(|number| self.role_of(number) == Role::Active(place))
    }

    /// Takes in a new state of the array; this member is the one with a place, or what it was before.
    pub fn change(&mut self, change: &Change, place: Option<usize>) {
        match self.version {
            Version::V0_90 => v0::change(&mut self.bytes, change, place),
            _ => v1::change(&mut self.bytes, change, place),
        }
    }

    /// Makes a member that was a spare one of the array's, as another of its members has it.
    pub fn join(&mut self, other: &Superblock) {
        if self.version == Version::V0_90 {
            v0::join(&mut self.bytes, &other.bytes);
        } else {
            v1::join(&mut self.bytes, &other.bytes);
        }
    }
}

/// Adds up words as md does: 32 bits, and what was carried over added once more.
fn sum(words: impl Iterator<Item = u32>) -> u32 {
    let sum: u64 = words.map(u64::from).sum();
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|word| le32(word, 0))
}
