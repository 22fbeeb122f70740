//! One line of the record: a JSON object that begins with its checksum.
//!
//! ```text
//! {"sum":"0f3a52c1","line":18,"flushed":17,"device":{"id":7,"minor":2,"name":"top",...}}
//! ```
//!
//! `sum` is the CRC-32 of the file's seed and of all that comes after the sum in the line, so that
//! a line of another file, whose blocks this one was given by the file system, is none of this
//! one's. `line` counts from 1. `flushed` says up to which line the file was known to be on the
//! disk when this line was written: a bad line up to there was damaged, one after it was cut off.
//! `"more":true` after it says that the next line belongs to the same command: neither counts
//! without the other.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// The version of the record. `state.json` had the first.
pub(super) const VERSION: u32 = 2;

const OPENING: &str = "{\"sum\":\"";

/// What a line has before its entry if the next belongs to the same command.
const MORE: &str = "\"more\":true,";

/// The digits of a checksum.
const SUM_LEN: usize = 8;

/// What the first line says of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) version: u32,
    /// What the checksums of the other lines begin with.
    pub(super) seed: String,
}

impl Header {
    /// Makes the header of a new file.
    pub(super) fn new() -> Header {
        use std::hash::BuildHasher;
        // Random, and all that is asked of it is to be another one each time.
        let seed = std::hash::RandomState::new().hash_one(std::process::id());
        Header { version: VERSION, seed: format!("{seed:016x}") }
    }

    /// Writes the first line. The file is `flushed` up to that line when it gets its name.
    pub(super) fn print(&self, flushed: u64) -> String {
        let value = serde_json::to_string(self).expect("a number and digits can be written");
        let line = Line { line: 1, flushed, more: false, body: &format!("\"record\":{value}") };
        line.print("")
    }

    /// Reads the first line, and how far the file was flushed. The error says what it is instead.
    pub(super) fn read(raw: &[u8]) -> Result<(Header, u64), String> {
        #[derive(Deserialize)]
        struct First {
            record: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let first: Result<First, _> = serde_json::from_slice(raw);
        let found = first.map_err(|error| format!("no record of dmsim's: {error}"))?.record.version;
        if found != VERSION {
            return Err(format!("expected version {VERSION}, found {found}"));
        }
        let line = parse("", raw).ok_or("line 1: wrong checksum")?;
        let value = line.body.strip_prefix("\"record\":").ok_or("line 1: expected a record")?;
        let header = serde_json::from_str(value).map_err(|error| format!("line 1: {error}"))?;
        Ok((header, line.flushed))
    }
}

/// A line that has the right checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) line: u64,
    pub(super) flushed: u64,
    /// The next line belongs to the same command.
    pub(super) more: bool,
    /// The entry, as a member of the object.
    pub(super) body: &'a str,
}

impl Line<'_> {
    /// Writes the line, with its end.
    pub(super) fn print(&self, seed: &str) -> String {
        let Line { line, flushed, more, body } = self;
        let mut text = String::with_capacity(body.len() + 80);
        text.push_str(OPENING);
        text.push_str("........");
        let rest = text.len();
        let more = if *more { MORE } else { "" };
        write!(text, "\",\"line\":{line},\"flushed\":{flushed},{more}{body}}}")
            .expect("a string takes what is written");
        let sum = sum(seed, &text.as_bytes()[rest..]);
        text.replace_range(OPENING.len()..rest, &sum);
        text.push('\n');
        text
    }
}

/// Reads a line with its end; nothing where it is not one of the file with this seed.
pub(super) fn parse<'a>(seed: &str, raw: &'a [u8]) -> Option<Line<'a>> {
    let text = std::str::from_utf8(raw.strip_suffix(b"\n")?).ok()?;
    let (found, rest) = text.strip_prefix(OPENING)?.split_at_checked(SUM_LEN)?;
    if found != sum(seed, rest.as_bytes()) {
        return None;
    }
    let rest = rest.strip_prefix("\",\"line\":")?.strip_suffix('}')?;
    let (line, rest) = rest.split_once(",\"flushed\":")?;
    let (flushed, rest) = rest.split_once(',')?;
    let (more, body) = match rest.strip_prefix(MORE) {
        Some(body) => (true, body),
        None => (false, rest),
    };
    Some(Line { line: line.parse().ok()?, flushed: flushed.parse().ok()?, more, body })
}

fn sum(seed: &str, rest: &[u8]) -> String {
    let mut sum = crc32fast::Hasher::new();
    sum.update(seed.as_bytes());
    sum.update(rest);
    format!("{:08x}", sum.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_and_is_json() {
        for more in [false, true] {
            let line = Line { line: 18, flushed: 17, more, body: "\"gone\":7" };
            let text = line.print("seed");
            assert_eq!(parse("seed", text.as_bytes()), Some(line));
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["gone"], 7);
        }
    }

    #[test]
    fn a_line_of_another_file_is_none() {
        let line = Line { line: 2, flushed: 1, more: false, body: "\"gone\":7" };
        assert_eq!(parse("other", line.print("seed").as_bytes()), None);
    }

    #[test]
    fn no_changed_bit_and_no_missing_byte_goes_unseen() {
        let line = Line { line: 18, flushed: 17, more: true, body: "\"device\":{\"id\":7}" };
        let text = line.print("seed").into_bytes();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(parse("seed", &changed), None, "byte {at}, bit {bit}");
            }
            assert_eq!(parse("seed", &text[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_header_is_read_and_another_version_is_named() {
        let header = Header::new();
        assert_eq!(Header::read(header.print(3).as_bytes()), Ok((header.clone(), 3)));
        let later = Header { version: 9, ..header };
        let why = Header::read(later.print(1).as_bytes()).unwrap_err();
        assert_eq!(why, "expected version 2, found 9");
        for raw in ["", "\n", "not ours\n", "{}\n", "[1]\n", "{\"sum\":\"00000000\"}\n"] {
            assert!(Header::read(raw.as_bytes()).unwrap_err().contains("no record"), "{raw:?}");
        }
    }

    #[test]
    fn two_files_have_two_seeds() {
        assert_ne!(Header::new().seed, Header::new().seed);
    }
}
