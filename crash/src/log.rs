//! The entries of a log of dm-log-writes, as they are in its file: data stay there.
//!
//! The format is that of [`targets::log_writes::format`].

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sim_core::{SECTOR_SIZE, Sectors};
use targets::log_writes::format::{BadLog, END_MARK, ENTRY_LEN, EntryHead, Kinds, Superblock};

/// The logical blocks that devices have, in bytes.
const UNITS: [u32; 4] = [512, 1024, 2048, 4096];

/// The largest logical block that a logged device may have, in bytes.
const MAX_UNIT: u32 = 65536;

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
    /// Nothing: a flush that was not carried out. No log has such an entry.
    Nothing,
}

impl What {
    /// Returns what it is on a disk that says of flushes, and of FUA, that they have ended, and does nothing.
    pub(crate) fn unflushed(&self) -> What {
        match *self {
            What::Write { metadata, data, .. } => {
                What::Write { preflush: false, fua: false, metadata, data }
            }
            What::Flush => What::Nothing,
            ref other => other.clone(),
        }
    }
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
    /// It is something else, or its superblock is of no use.
    #[error("{0}")]
    Log(#[from] BadLog),
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

/// A log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its entries.
    pub entries: Vec<Entry>,
    /// Its unit, in bytes: the logical block of the device that was logged.
    pub unit: u32,
    /// Where it ends, in bytes.
    pub end: u64,
}

/// How much a log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Writes and discards.
    pub writes: usize,
    /// Flushes, of their own and before a write.
    pub flushes: usize,
    /// Marks.
    pub marks: usize,
}

impl Counts {
    /// Counts what there is among some entries.
    pub fn of(entries: &[Entry]) -> Counts {
        let count = |what: fn(&Entry) -> bool| entries.iter().filter(|entry| what(entry)).count();
        Counts {
            writes: count(Entry::changes),
            flushes: count(Entry::flushes),
            marks: count(|entry| matches!(entry.what, What::Mark(_))),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { writes, flushes, marks } = *self;
        let ending = |count: usize, several: &'static str| if count == 1 { "" } else { several };
        let (write, flush, mark) = (ending(writes, "s"), ending(flushes, "es"), ending(marks, "s"));
        write!(f, "{writes} write{write}, {flushes} flush{flush}, {marks} mark{mark}")
    }
}

/// Reads a log. What follows its entries is of no matter.
///
/// # Errors
/// [`LogError`]. A log may say anything: no more is allocated than the file has room for entries.
pub fn read(file: &File) -> Result<Log, LogError> {
    let len = file.metadata()?.len();
    let mut header = [0; ENTRY_LEN];
    file.read_exact_at(&mut header, 0)?;
    let Superblock { entries: count, unit } = Superblock::parse(&header)?;
    if unit > MAX_UNIT {
        return Err(BadLog::Unit(unit).into());
    }
    let mut entries = Vec::new();
    let mut at = u64::from(unit);
    for number in 0..count {
        let broken = |why| LogError::Entry { entry: number, at, why };
        if at.checked_add(ENTRY_LEN as u64).is_none_or(|end| end > len) {
            return Err(broken("the log ends before it"));
        }
        let (entry, data_len) = read_entry(file, at, unit, len).map_err(|wrong| match wrong {
            Wrong::Io(error) => LogError::System(error),
            Wrong::Entry(why) => broken(why),
        })?;
        // A hole, which no writer leaves: it would be as many of these as there is room for.
        if entry.what == What::Nothing {
            return Err(broken("nothing is there"));
        }
        entries.push(entry);
        at += u64::from(unit) + data_len;
    }
    Ok(Log { entries, unit, end: at })
}

/// Tells whether a recording has ended, by the mark that its target leaves when it goes.
pub fn has_end(entries: &[Entry]) -> bool {
    entries.last().is_some_and(|entry| matches!(&entry.what, What::Mark(text) if text == END_MARK))
}

/// Counts the entries of a log whose writer has died: what lies behind those that its superblock counts, but for the last
/// one, which may not be there in whole. Nothing else may ever have been in its file.
///
/// # Errors
/// As [`read`], and what the system says when it is written.
pub fn count_all(file: &File) -> Result<(), LogError> {
    let len = file.metadata()?.len();
    let mut first = vec![0; ENTRY_LEN];
    file.read_exact_at(&mut first, 0)?;
    let found = match first.iter().all(|byte| *byte == 0) {
        // A superblock comes with the first mark, or write with FUA.
        true => UNITS.into_iter().map(|unit| (unit, 0, u64::from(unit))).find(|(unit, _, at)| {
            read_entry(file, *at, *unit, len).is_ok_and(|(entry, _)| entry.what != What::Nothing)
        }),
        false => {
            let log = read(file)?;
            (!has_end(&log.entries)).then_some((log.unit, log.entries.len() as u64, log.end))
        }
    };
    let Some((unit, counted, mut at)) = found else { return Ok(()) };
    let mut more = 0_u64;
    while let Ok((Entry { what, .. }, data_len)) = read_entry(file, at, unit, len) {
        if what == What::Nothing {
            break;
        }
        at += u64::from(unit) + data_len;
        more += 1;
    }
    let entries = counted + more.saturating_sub(1);
    let mut superblock = vec![0; unit as usize];
    Superblock { entries, unit }.write(&mut superblock);
    Ok(file.write_all_at(&superblock, 0)?)
}

enum Wrong {
    Io(io::Error),
    Entry(&'static str),
}

/// Reads the entry at `at`, and how many bytes of data follow its own unit.
fn read_entry(file: &File, at: u64, unit: u32, len: u64) -> Result<(Entry, u64), Wrong> {
    let mut header = [0; ENTRY_LEN];
    file.read_exact_at(&mut header, at).map_err(Wrong::Io)?;
    let EntryHead { at: first, len: count, kinds, text_len } = EntryHead::parse(&header);
    let per_unit = u64::from(unit) / SECTOR_SIZE;
    if kinds.has(Kinds::MARK) {
        let room = u64::from(unit) - ENTRY_LEN as u64;
        let text_len = usize::try_from(text_len.min(room)).expect("less than a unit");
        let mut text = vec![0; text_len];
        file.read_exact_at(&mut text, at + ENTRY_LEN as u64).map_err(Wrong::Io)?;
        let what = What::Mark(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned());
        return Ok((Entry { sector: 0, len: Sectors(0), what }, 0));
    }
    let sectors = |units: u64| units.checked_mul(per_unit);
    let end = first.checked_add(count).and_then(sectors).and_then(|end| end.checked_mul(512));
    let (Some(_), Some(first), Some(sector_count)) = (end, sectors(first), sectors(count)) else {
        return Err(Wrong::Entry("it ends past all devices"));
    };
    if count == 0 {
        let what = if kinds.has(Kinds::FLUSH) { What::Flush } else { What::Nothing };
        return Ok((Entry { sector: first, len: Sectors(0), what }, 0));
    }
    let entry = |what| Entry { sector: first, len: Sectors(sector_count), what };
    if kinds.has(Kinds::DISCARD) {
        return Ok((entry(What::Discard), 0));
    }
    let (data, data_len) = (at + u64::from(unit), sector_count * SECTOR_SIZE);
    if data.checked_add(data_len).is_none_or(|end| end > len) {
        return Err(Wrong::Entry("the log ends before its data do"));
    }
    let what = What::Write {
        preflush: kinds.has(Kinds::FLUSH),
        fua: kinds.has(Kinds::FUA),
        metadata: kinds.has(Kinds::METADATA),
        data,
    };
    Ok((entry(what), data_len))
}

/// Makes the head of an entry of a log; `text_len` is the length of a mark's text, in bytes.
pub fn head(entry: &Entry, unit: u32, text_len: u64) -> EntryHead {
    let per_unit = u64::from(unit) / SECTOR_SIZE;
    let kinds = match &entry.what {
        What::Write { preflush, fua, metadata, .. } => {
            let flag = |is_set: bool, kind: Kinds| if is_set { kind.0 } else { 0 };
            Kinds(
                flag(*preflush, Kinds::FLUSH)
                    | flag(*fua, Kinds::FUA)
                    | flag(*metadata, Kinds::METADATA),
            )
        }
        What::Discard => Kinds::DISCARD,
        What::Flush => Kinds::FLUSH,
        What::Mark(_) => Kinds::MARK,
        What::Nothing => Kinds::default(),
    };
    EntryHead { at: entry.sector / per_unit, len: entry.len.0 / per_unit, kinds, text_len }
}
