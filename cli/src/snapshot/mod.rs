//! `snapshot`, `merge`, `drop`, `wait --merge`, `diff` and the store's `dump`: snapshots as one command
//! each, where dmsetup takes several in an order that matters.

mod cow;
mod diff;
mod discard;
mod dump;
mod finish;
mod merge;
pub(crate) mod options;
mod picture;
mod steps;
mod store;
mod take;
#[cfg(test)]
mod tests;
mod wait;

use sim_core::control::{Report, Slot};
use sim_core::{DevNumber, KeyText, Sectors, TargetSpec};

use crate::fault::{About, Fault};
use crate::machine::{
    Device, Machine, above, act, by_id, clear, devices, find, in_use, load, named, one, remove,
    report, resume, suspend,
};

pub(crate) use diff::diff;
pub(crate) use discard::discard;
pub(crate) use dump::{dump, is_store};
pub(crate) use merge::merge;
pub(crate) use take::take;
pub(crate) use wait::wait;

const SNAPSHOT: &str = "snapshot";
const ORIGIN: &str = "snapshot-origin";
const MERGE: &str = "snapshot-merge";

/// What the uuid of a device begins with that `snapshot` has put under its origin.
const MADE_BY_US: &str = "DMSIM-ORIGIN-";

impl Device {
    /// Returns the device below, where this one is the origin of snapshots.
    fn origin_of(&self) -> Option<DevNumber> {
        self.only(ORIGIN)?.params.trim().parse().ok()
    }

    fn snapshot(&self) -> Option<Line> {
        Line::read(self.only(SNAPSHOT)?)
    }

    fn merge(&self) -> Option<Line> {
        Line::read(self.only(MERGE)?)
    }
}

/// The words of a line of `snapshot` or `snapshot-merge`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    origin: DevNumber,
    cow: DevNumber,
    /// `P`, `PO` or `N`.
    mode: String,
    chunk: Sectors,
    /// What follows: features, with their number.
    rest: String,
}

impl Line {
    fn read(line: &TargetSpec) -> Option<Line> {
        let mut words = line.params.split_whitespace();
        Some(Line {
            origin: words.next()?.parse().ok()?,
            cow: words.next()?.parse().ok()?,
            mode: words.next()?.to_owned(),
            chunk: Sectors(words.next()?.parse().ok()?),
            rest: words.map(|word| format!(" {word}")).collect(),
        })
    }

    fn is_transient(&self) -> bool {
        self.mode.starts_with('N')
    }

    /// Writes the words; `cow` is what the line calls the store's device.
    fn params(&self, cow: &str) -> String {
        format!("{} {cow} {} {}{}", self.origin, self.mode, self.chunk, self.rest)
    }
}

/// What the status line of a snapshot or of a merge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In sectors.
    Good {
        allocated: u64,
        metadata: u64,
    },
    Invalid,
    Overflow,
    MergeFailed,
}

impl State {
    fn read(text: &str) -> Option<State> {
        match text.trim() {
            "Invalid" => return Some(State::Invalid),
            "Overflow" => return Some(State::Overflow),
            "Merge failed" => return Some(State::MergeFailed),
            _ => {}
        }
        let (allocated, rest) = text.trim().split_once('/')?;
        let (_, metadata) = rest.split_once(' ')?;
        Some(State::Good { allocated: allocated.parse().ok()?, metadata: metadata.parse().ok()? })
    }
}

/// Returns the status of a device whose table is one line of this type; nothing where it is not,
/// or there is no such device.
fn state(machine: &mut dyn Machine, name: &str, of: &str) -> Result<Option<State>, Fault> {
    let keys = KeyText::Zeros;
    let Some((_, lines)) = report(machine, named(name), Report::Status, Slot::Live, keys)? else {
        return Ok(None);
    };
    match &lines[..] {
        [line] if line.target_type == of => {
            let state = State::read(&line.params);
            let known = state.ok_or_else(|| format!("unknown status `{}`", line.params));
            known.about(name).map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod text_tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_each_of_its_forms() {
        for (text, state) in [
            ("2424/4096 24", Some(State::Good { allocated: 2424, metadata: 24 })),
            ("Invalid", Some(State::Invalid)),
            ("Overflow", Some(State::Overflow)),
            ("Merge failed", Some(State::MergeFailed)),
            ("Unknown", None),
            ("1/2", None),
        ] {
            assert_eq!(State::read(text), state, "{text}");
        }
    }

    #[test]
    fn a_line_is_read_and_written() {
        let words = "253:1 7:0 PO 8 2 discard_zeroes_cow discard_passdown_origin";
        let line = &one(Sectors(64), SNAPSHOT, words)[0];
        let read = Line::read(line).expect("a line");
        assert_eq!(read.params("7:0"), words);
        assert!(!read.is_transient());
        assert!(Line::read(&one(Sectors(64), SNAPSHOT, "253:1 7:0 PO")[0]).is_none());
    }
}
