//! Reads a record from its first line to the first that is bad, and tells a tail that a power cut
//! has torn from damage.

use std::io::{self, BufRead};

use super::contents::{Contents, Effect, Place};
use super::entry::Entry;
use super::line::{self, Header};

/// What a record has in it.
pub(super) struct Scanned {
    pub(super) header: Header,
    pub(super) contents: Contents,
    /// How far the lines are good.
    pub(super) len: u64,
    pub(super) lines: u64,
    pub(super) end: End,
}

/// How a record ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After its last line.
    Whole,
    /// In what was not known to be on the disk when the power went.
    Torn,
    /// In what was on the disk once.
    Damaged,
}

/// Why a record is not read.
#[derive(Debug)]
pub(super) enum Refused {
    /// It cannot be read.
    Io(io::Error),
    /// It is none, or has something in it that this version does not know.
    Content(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::Io(error)
    }
}

/// Reads a record.
pub(super) fn scan(mut from: impl BufRead) -> Result<Scanned, Refused> {
    let mut raw = Vec::new();
    let mut len = from.read_until(b'\n', &mut raw)? as u64;
    let (header, mut flushed) = Header::read(&raw).map_err(Refused::Content)?;
    let (mut contents, mut lines) = (Contents::default(), 1);
    // The lines of a command of which the last has not come yet.
    let mut command: Vec<(Effect, Place)> = Vec::new();
    let end = loop {
        raw.clear();
        if from.read_until(b'\n', &mut raw)? == 0 {
            break match command.is_empty() {
                _ if flushed > lines => End::Damaged,
                true => End::Whole,
                false => End::Torn,
            };
        }
        let next = lines + command.len() as u64 + 1;
        let good = line::parse(&header.seed, &raw).filter(|line| line.line == next);
        let Some(good) = good else {
            flushed = flushed.max(flushed_after(&header, &mut from)?);
            break if flushed > lines { End::Damaged } else { End::Torn };
        };
        let at = command.last().map_or(len, |(_, place)| place.at + place.len);
        let place = Place { at, len: raw.len() as u64 };
        let content = |why: String| Refused::Content(format!("line {}: {why}", good.line));
        let entry = Entry::read(good.body).map_err(content)?;
        command.push((Effect::from(&entry), place));
        flushed = flushed.max(good.flushed);
        if good.more {
            continue;
        }
        lines += command.len() as u64;
        len = place.at + place.len;
        for (effect, place) in command.drain(..) {
            contents.apply(effect, place).map_err(content)?;
        }
    };
    Ok(Scanned { header, contents, len, lines, end })
}

/// Returns how far the file was flushed by the word of the good lines that are left.
fn flushed_after(header: &Header, from: &mut impl BufRead) -> io::Result<u64> {
    let (mut raw, mut flushed) = (Vec::new(), 0);
    while from.read_until(b'\n', &mut raw)? > 0 {
        if let Some(line) = line::parse(&header.seed, &raw) {
            flushed = flushed.max(line.flushed);
        }
        raw.clear();
    }
    Ok(flushed)
}
