//! What is on a log device: as written by dm-log-writes of Linux, version 1.
//!
//! Everything is in units of a logical block of the device that is logged, and little-endian. The
//! first unit is the superblock, which says how many entries follow. Each entry begins with a unit of
//! its own; the data of a write follows in the next ones, as many as the entry says. The text of a mark
//! is in the entry's first unit, after the numbers.

use std::fmt;

use crate::bytes::{le32, le64, put};

/// What the superblock begins with.
pub const MAGIC: u64 = 0x006a_7366_7773_6872;

/// The version of the format.
pub const VERSION: u64 = 1;

/// How many bytes the numbers of a superblock take.
const SUPERBLOCK_LEN: usize = 28;

/// How many bytes the numbers of an entry take.
pub const ENTRY_LEN: usize = 32;

/// The text of the mark that ends a log.
pub const END_MARK: &str = "dm-log-writes-end";

/// The first unit of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// How many entries there are.
    pub entries: u64,
    /// The length of a unit in bytes.
    pub unit: u32,
}

/// What kind of entry it is; a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(pub u64);

impl Kinds {
    /// A flush has ended: all entries before it that were logged since the last one had, too, when it
    /// was sent.
    pub const FLUSH: Kinds = Kinds(1);
    /// The write was durable when it ended.
    pub const FUA: Kinds = Kinds(1 << 1);
    /// A discard, which has no data.
    pub const DISCARD: Kinds = Kinds(1 << 2);
    /// A mark, whose text somebody has sent.
    pub const MARK: Kinds = Kinds(1 << 3);
    /// A file system's metadata. Nothing here says so of a bio.
    pub const METADATA: Kinds = Kinds(1 << 4);

    /// Tells whether it has a bit of these.
    pub fn has(self, kinds: Kinds) -> bool {
        self.0 & kinds.0 != 0
    }
}

/// The numbers that an entry begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryHead {
    /// The first unit of the device that it is about.
    pub at: u64,
    /// How many.
    pub len: u64,
    /// What kind of entry it is.
    pub kinds: Kinds,
    /// How many bytes the text of a mark has.
    pub text_len: u64,
}

/// An entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its numbers.
    pub head: EntryHead,
    /// What was written; nothing but of a write.
    pub data: &'a [u8],
    /// The text of a mark.
    pub text: &'a [u8],
}

/// Why bytes are no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLog {
    /// It is too short for a superblock, or has another magic.
    Magic,
    /// Another version.
    Version(u64),
    /// A unit of this length is none.
    Unit(u32),
    /// The entry with this number, counted from 0, is cut off, or its text is longer than a unit.
    Entry(u64),
}

impl fmt::Display for BadLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadLog::Magic => write!(f, "no log of log-writes"),
            BadLog::Version(found) => {
                write!(f, "expected version {VERSION} of the log, found {found}")
            }
            BadLog::Unit(found) => {
                write!(f, "expected units of a power of two, 512 or more, found {found}")
            }
            BadLog::Entry(number) => write!(f, "entry {number} is cut off"),
        }
    }
}

impl std::error::Error for BadLog {}

impl Superblock {
    /// Writes it over the first bytes of a unit.
    ///
    /// # Panics
    /// When the unit is shorter than the numbers.
    pub fn write(&self, unit: &mut [u8]) {
        put(unit, 0, &MAGIC.to_le_bytes());
        put(unit, 8, &VERSION.to_le_bytes());
        put(unit, 16, &self.entries.to_le_bytes());
        put(unit, 24, &self.unit.to_le_bytes());
    }

    /// Reads it.
    pub fn parse(bytes: &[u8]) -> Result<Superblock, BadLog> {
        if bytes.len() < SUPERBLOCK_LEN || le64(bytes, 0) != MAGIC {
            return Err(BadLog::Magic);
        }
        match (le64(bytes, 8), le32(bytes, 24)) {
            (VERSION, unit) if unit >= 512 && unit.is_power_of_two() => {
                Ok(Superblock { entries: le64(bytes, 16), unit })
            }
            (VERSION, unit) => Err(BadLog::Unit(unit)),
            (version, _) => Err(BadLog::Version(version)),
        }
    }
}

impl EntryHead {
    /// Writes it over the first bytes of a unit.
    ///
    /// # Panics
    /// When the unit is shorter than the numbers.
    pub fn write(&self, unit: &mut [u8]) {
        let numbers = [self.at, self.len, self.kinds.0, self.text_len];
        for (nr, number) in numbers.into_iter().enumerate() {
            put(unit, nr * 8, &number.to_le_bytes());
        }
    }

    /// Reads it from the first bytes of a unit.
    ///
    /// # Panics
    /// When the unit is shorter than the numbers.
    pub fn parse(unit: &[u8]) -> EntryHead {
        let [at, len, kinds, text_len] = [0, 8, 16, 24].map(|at| le64(unit, at));
        EntryHead { at, len, kinds: Kinds(kinds), text_len }
    }

    /// How many units of data follow the entry's first.
    pub fn data_units(&self) -> u64 {
        if self.kinds.has(Kinds::DISCARD) { 0 } else { self.len }
    }
}

/// The entries of a log, one after the other.
#[derive(Clone, Debug)]
pub struct Log<'a> {
    /// The first unit.
    pub superblock: Superblock,
    rest: &'a [u8],
    next: u64,
}

impl<'a> Log<'a> {
    /// Reads the superblock of what is on a log device.
    pub fn parse(bytes: &'a [u8]) -> Result<Log<'a>, BadLog> {
        let superblock = Superblock::parse(bytes)?;
        let rest = bytes.get(superblock.unit as usize..).unwrap_or_default();
        Ok(Log { superblock, rest, next: 0 })
    }

    fn read(&mut self) -> Option<Entry<'a>> {
        let unit = self.superblock.unit as usize;
        let (first, rest) = self.rest.split_at_checked(unit)?;
        let head = EntryHead::parse(first);
        let len = usize::try_from(head.data_units()).ok()?.checked_mul(unit)?;
        let (data, rest) = rest.split_at_checked(len)?;
        let text_end = usize::try_from(head.text_len).ok()?.checked_add(ENTRY_LEN)?;
        let text = first.get(ENTRY_LEN..text_end)?;
        self.rest = rest;
        Some(Entry { head, data, text })
    }
}

impl<'a> Iterator for Log<'a> {
    type Item = Result<Entry<'a>, BadLog>;

    fn next(&mut self) -> Option<Result<Entry<'a>, BadLog>> {
        let number = self.next;
        if number >= self.superblock.entries {
            return None;
        }
        match self.read() {
            Some(entry) => {
                self.next += 1;
                Some(Ok(entry))
            }
            // What follows it is not found any more.
            None => {
                self.next = self.superblock.entries;
                Some(Err(BadLog::Entry(number)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of a write of two units, a discard and a mark.
    fn log() -> Vec<u8> {
        let mut bytes = vec![0; 512 * 6];
        Superblock { entries: 3, unit: 512 }.write(&mut bytes);
        EntryHead { at: 7, len: 2, ..EntryHead::default() }.write(&mut bytes[512..]);
        bytes[1024..2048].fill(9);
        EntryHead { at: 1 << 40, len: 1 << 50, kinds: Kinds::DISCARD, text_len: 0 }
            .write(&mut bytes[2048..]);
        EntryHead { kinds: Kinds::MARK, text_len: 3, ..EntryHead::default() }
            .write(&mut bytes[2560..]);
        bytes[2592..2595].copy_from_slice(b"one");
        bytes
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = log();
        let log = Log::parse(&bytes).expect("a log");
        let entries: Vec<_> = log.map(|entry| entry.expect("an entry")).collect();
        let [write, discard, mark] = entries[..] else { panic!("three entries") };
        assert_eq!((write.head.at, write.data), (7, &[9; 1024][..]));
        assert_eq!((discard.head.len, discard.data.len()), (1 << 50, 0));
        assert_eq!((mark.head.kinds, mark.text), (Kinds::MARK, &b"one"[..]));
    }

    #[test]
    fn a_log_that_is_cut_off_or_no_log_is_told_of() {
        let bytes = log();
        let last = |bytes: &[u8]| {
            let log = Log::parse(bytes)?;
            Ok::<_, BadLog>(log.last().expect("an entry").map(drop))
        };
        assert_eq!(last(&bytes[..2048]), Ok(Err(BadLog::Entry(1))));
        assert_eq!(last(&bytes[..512]), Ok(Err(BadLog::Entry(0))));
        assert_eq!(Log::parse(&bytes[..27]).map(drop), Err(BadLog::Magic));
        assert_eq!(Log::parse(&[0; 512]).map(drop), Err(BadLog::Magic));
        let with = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            Log::parse(&bytes).map(|log| log.last().expect("an entry").map(drop))
        };
        assert_eq!(with(8, 2), Err(BadLog::Version(2)));
        assert_eq!(with(25, 1), Err(BadLog::Unit(256)));
        // A text that goes on past its unit.
        assert_eq!(with(2560 + 25, 4), Ok(Err(BadLog::Entry(2))));
    }
}
