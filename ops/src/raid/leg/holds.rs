//! What an image holds, for people who are about to overwrite it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use daemon::{About, Fault};
use sim_core::{SECTOR_SIZE, Sectors};
use targets::raid::superblock::Superblock;

use super::super::level::level_of;
use super::super::{bios, md};
use super::{heads, journal};
use crate::files::first_byte;

/// What an image is found to hold.
pub(in super::super) enum Holds {
    /// A leg of a set, which `raid assemble` knows.
    Leg(String),
    /// What is known by its bytes.
    Known(String),
    /// Something, from this byte on.
    Unknown(u64),
}

impl Holds {
    /// Says what it is, after the image's name: `is leg 1 of a raid5 of 3 legs`.
    pub(in super::super) fn told(&self) -> String {
        match self {
            Holds::Leg(told) | Holds::Known(told) => told.clone(),
            Holds::Unknown(at) => format!("is not empty, with something at byte {at}"),
        }
    }
}

/// What is known by a few bytes at some place, as `file` and `blkid` know it.
const KNOWN: [(u64, &[u8], &str); 10] = [
    (0, b"LUKS\xba\xbe", "holds a LUKS container"),
    (0, b"XFSB", "holds an XFS file system"),
    (0, b"SnAp", "is a snapshot's store"),
    (3, b"NTFS    ", "holds an NTFS file system"),
    (512, b"LABELONE", "is a physical volume of LVM"),
    (512, b"EFI PART", "has a GPT partition table"),
    (510, &[0x55, 0xaa], "has a partition table or a boot sector"),
    (0x438, &[0x53, 0xef], "holds an ext2, ext3 or ext4 file system"),
    (4086, b"SWAPSPACE2", "is swap space"),
    (0x10040, b"_BHRfS_M", "holds a btrfs file system"),
];

/// Looks what an image holds; nothing where its start and its end are zeros.
pub(in super::super) fn holds(path: &Path, about: &str) -> Result<Option<Holds>, Fault> {
    let Some((file, bytes)) = heads(path)? else { return Ok(None) };
    if let Some(superblock) = Superblock::read(&bytes) {
        let (position, of) = (superblock.position, superblock.devices);
        let told = format!("is leg {position} of a {} of {of} legs", level_of(&superblock));
        return Ok(Some(Holds::Leg(told)));
    }
    if let Some(told) = journal::told(&bytes) {
        return Ok(Some(Holds::Known(told.to_owned())));
    }
    let len = Sectors(file_len(&file).about(about)? / SECTOR_SIZE);
    // Some of md's superblocks lie farther from the end than is looked for anything at all.
    let told = md::member_told(path, len).or_else(|| bios::member_told(path, len));
    match told.or_else(|| known(&file).map(str::to_owned)) {
        Some(told) => Ok(Some(Holds::Known(told))),
        None => Ok(first_byte(&file).about(about)?.map(Holds::Unknown)),
    }
}

fn known(file: &File) -> Option<&'static str> {
    let is_there = |(at, magic, _): &&(u64, &[u8], &str)| {
        let mut bytes = vec![0; magic.len()];
        file.read_exact_at(&mut bytes, *at).is_ok() && bytes == *magic
    };
    KNOWN.iter().find(is_there).map(|(_, _, what)| *what)
}

/// Returns the length of a file, of a block device too.
fn file_len(mut file: &File) -> std::io::Result<u64> {
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))
}
