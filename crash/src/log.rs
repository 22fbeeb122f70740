//! The log of dm-log-writes, version 1: a superblock, then an entry for each write, flush, discard and mark.
//!
//! Source of the format: the recording of a Linux 6.12 kernel, and what the replay programs of xfstests take. All
//! numbers are little-endian; the log's unit is the logical block of the device that was logged.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sim_core::{SECTOR_SIZE, Sectors};

/// `magic` of the superblock.
pub const MAGIC: u64 = 0x006a_7366_7773_6872;

/// The version of the format.
pub const VERSION: u64 = 1;

/// How long the superblock is, and an entry without its mark's text.
pub const HEADER: usize = 32;

const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
const METADATA: u64 = 1 << 4;

/// The units that a device's logical block may have, in bytes.
const UNITS: std::ops::RangeInclusive<u32> = 512..=65536;

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A write that has ended.
    Write {
        /// A flush came before the data.
        preflush: bool,
        /// It was durable when it ended.
        fua: bool,
        /// The file system called it metadata.
        metadata: bool,
        /// Where its data lie in the log, in bytes.
        data: u64,
    },
    /// A discard that has ended; it counts as a write of zeros.
    Discard,
    /// A flush that has ended: it covers the entries before it.
    Flush,
    /// A mark, with its text.
    Mark(String),
    /// An entry of no length, and no flush: nothing.
    Nothing,
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first sector of the device.
    pub sector: u64,
    /// The length in sectors; zero for flushes and marks.
    pub len: Sectors,
    /// What it says.
    pub what: What,
}

impl Entry {
    /// Tells whether it changes what is on the device.
    pub fn changes(&self) -> bool {
        matches!(self.what, What::Write { .. } | What::Discard) && self.len.0 > 0
    }

    /// Tells whether it covers the entries before it.
    pub fn flushes(&self) -> bool {
        matches!(self.what, What::Flush | What::Write { preflush: true, .. })
    }

    /// Tells whether it was durable when it ended.
    pub fn is_fua(&self) -> bool {
        matches!(self.what, What::Write { fua: true, .. })
    }
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system says so.
    #[error("{0}")]
    System(#[from] io::Error),
    /// It is something else.
    #[error("no log of dm-log-writes: expected the magic number {MAGIC:#x}, found {found:#x}")]
    Magic {
        /// The first eight bytes.
        found: u64,
    },
    /// It is of another version.
    #[error("version: expected {VERSION}, found {found}")]
    Version {
        /// What it says.
        found: u64,
    },
    /// Its unit is none.
    #[error("sector size: expected a power of two from 512 to 65536, found {found}")]
    Unit {
        /// What it says.
        found: u32,
    },
    /// An entry reaches where it cannot.
    #[error("entry {entry} at byte {at}: {why}")]
    Entry {
        /// Which one, from 0.
        entry: u64,
        /// Where it begins.
        at: u64,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Reads all entries of a log, and its unit in bytes. What follows them is of no matter.
///
/// # Errors
/// [`LogError`]. A log may say anything: no more is allocated than the file has room for entries.
pub fn read(file: &File) -> Result<(Vec<Entry>, u32), LogError> {
    let len = file.metadata()?.len();
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let [magic, version, count, _] = words(&header);
    let unit = u32::from_le_bytes([header[24], header[25], header[26], header[27]]);
    match (magic, version) {
        (MAGIC, VERSION) => {}
        (MAGIC, found) => return Err(LogError::Version { found }),
        (found, _) => return Err(LogError::Magic { found }),
    }
    if !UNITS.contains(&unit) || !unit.is_power_of_two() {
        return Err(LogError::Unit { found: unit });
    }
    let mut entries = Vec::new();
    let mut at = u64::from(unit);
    for number in 0..count {
        let broken = |why| LogError::Entry { entry: number, at, why };
        if at.checked_add(HEADER as u64).is_none_or(|end| end > len) {
            return Err(broken("the log ends before it"));
        }
        let (entry, data_len) = read_entry(file, at, unit, len).map_err(|wrong| match wrong {
            Wrong::Io(error) => LogError::System(error),
            Wrong::Entry(why) => broken(why),
        })?;
        entries.push(entry);
        at += u64::from(unit) + data_len;
    }
    Ok((entries, unit))
}

/// Tells where a log ends that has these entries, in bytes.
pub fn end(entries: &[Entry], unit: u32) -> u64 {
    let data = entries.iter().map(|entry| match entry.what {
        What::Write { .. } => entry.len.bytes(),
        What::Discard | What::Flush | What::Mark(_) | What::Nothing => 0,
    });
    data.sum::<u64>() + u64::from(unit) * (1 + entries.len() as u64)
}

enum Wrong {
    Io(io::Error),
    Entry(&'static str),
}

/// Reads the entry at `at`, and how many bytes of data follow its own unit.
fn read_entry(file: &File, at: u64, unit: u32, len: u64) -> Result<(Entry, u64), Wrong> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, at).map_err(Wrong::Io)?;
    let [sector, count, flags, text_len] = words(&header);
    let per_unit = u64::from(unit) / SECTOR_SIZE;
    if flags & MARK != 0 {
        let room = u64::from(unit) - HEADER as u64;
        let text_len = usize::try_from(text_len.min(room)).expect("less than a unit");
        let mut text = vec![0; text_len];
        file.read_exact_at(&mut text, at + HEADER as u64).map_err(Wrong::Io)?;
        let what = What::Mark(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned());
        return Ok((Entry { sector: 0, len: Sectors(0), what }, 0));
    }
    let sectors = |units: u64| units.checked_mul(per_unit);
    let end = sector.checked_add(count).and_then(sectors).and_then(|end| end.checked_mul(512));
    let (Some(_), Some(first), Some(sector_count)) = (end, sectors(sector), sectors(count)) else {
        return Err(Wrong::Entry("it ends past all devices"));
    };
    if count == 0 {
        let what = if flags & FLUSH != 0 { What::Flush } else { What::Nothing };
        return Ok((Entry { sector: first, len: Sectors(0), what }, 0));
    }
    let entry = |what| Entry { sector: first, len: Sectors(sector_count), what };
    if flags & DISCARD != 0 {
        return Ok((entry(What::Discard), 0));
    }
    let (data, data_len) = (at + u64::from(unit), sector_count * SECTOR_SIZE);
    if data.checked_add(data_len).is_none_or(|end| end > len) {
        return Err(Wrong::Entry("the log ends before its data do"));
    }
    let what = What::Write {
        preflush: flags & FLUSH != 0,
        fua: flags & FUA != 0,
        metadata: flags & METADATA != 0,
        data,
    };
    Ok((entry(what), data_len))
}

fn words(header: &[u8; HEADER]) -> [u64; 4] {
    std::array::from_fn(|n| {
        let bytes = header[n * 8..][..8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    })
}

/// Makes the superblock of a log.
pub fn superblock(entries: u64, unit: u32) -> [u8; HEADER] {
    header([MAGIC, VERSION, entries, u64::from(unit)])
}

/// Makes the header of an entry of the log; `data_len` is the length of a mark's text, or of the data, in bytes.
pub fn entry_header(entry: &Entry, unit: u32, data_len: u64) -> [u8; HEADER] {
    let per_unit = u64::from(unit) / SECTOR_SIZE;
    let flags = match &entry.what {
        What::Write { preflush, fua, metadata, .. } => {
            let flag = |is_set: bool, flag: u64| u64::from(is_set) * flag;
            flag(*preflush, FLUSH) | flag(*fua, FUA) | flag(*metadata, METADATA)
        }
        What::Discard => DISCARD,
        What::Flush => FLUSH,
        What::Mark(_) => MARK,
        What::Nothing => 0,
    };
    header([entry.sector / per_unit, entry.len.0 / per_unit, flags, data_len])
}

fn header(words: [u64; 4]) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
