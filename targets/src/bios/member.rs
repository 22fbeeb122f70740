//! A disk of a set, and what is wrong with it.

use std::fmt;

use sim_core::Sectors;

use super::pieces::{Pieces, Stop};
use super::{ddf, imsm};

/// What a disk says of its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// It is one of Intel's.
    Imsm(imsm::Mpb),
    /// It has the Disk Data Format.
    Ddf(Box<ddf::Disk>),
}

/// What is wrong with what a disk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is that is wrong.
    pub what: &'static str,
    /// How.
    pub how: String,
}

impl Fault {
    pub(super) fn of(what: &'static str, how: impl Into<String>) -> Fault {
        Fault { what, how: how.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.how)
    }
}

/// Reads what a disk so long says of its set; nothing where it says nothing.
pub fn read(len: Sectors, pieces: &Pieces) -> Result<Option<Member>, Stop> {
    if let Some(mpb) = imsm::read(len, pieces)? {
        return Ok(Some(Member::Imsm(mpb)));
    }
    Ok(ddf::read(len, pieces)?.map(|disk| Member::Ddf(Box::new(disk))))
}

impl Member {
    /// Returns what people call such a set.
    pub fn kind(&self) -> &'static str {
        match self {
            Member::Imsm(_) => "an Intel RAID set (imsm)",
            Member::Ddf(_) => "a DDF RAID set",
        }
    }

    /// Returns by what the disks of one set know each other.
    pub fn set_id(&self) -> Vec<u8> {
        match self {
            Member::Imsm(mpb) => mpb.family().to_le_bytes().to_vec(),
            Member::Ddf(disk) => disk.guid().to_vec(),
        }
    }

    /// Tells what the disks of its set are known by, and whether they have failed.
    pub(super) fn disks(&self) -> Vec<(String, bool)> {
        match self {
            Member::Imsm(mpb) => mpb.disks().collect(),
            Member::Ddf(disk) => disk.disks().collect(),
        }
    }

    /// Tells whether it is of a disk that is in no set yet.
    pub(super) fn is_spare(&self) -> bool {
        match self {
            Member::Imsm(mpb) => mpb.is_spare(),
            Member::Ddf(_) => false,
        }
    }

    /// Returns the serial numbers that its set has, where it goes by these.
    pub fn serials(&self) -> Vec<String> {
        match self {
            Member::Imsm(mpb) => mpb.disks().map(|(serial, _)| serial).collect(),
            Member::Ddf(_) => Vec::new(),
        }
    }

    /// Returns how many times what it says was changed.
    pub fn generation(&self) -> u32 {
        match self {
            Member::Imsm(mpb) => mpb.generation(),
            Member::Ddf(disk) => disk.sequence(),
        }
    }
}
