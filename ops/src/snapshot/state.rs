//! Snapshots, origins and merges as their lines and status tell of them.

use daemon::{About, Fault};
use sim_core::control::{Report, Slot};
use sim_core::{DevNumber, KeyText, Sectors, TargetSpec};

use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, named, report};

pub(super) const SNAPSHOT: &str = "snapshot";
pub(super) const ORIGIN: &str = "snapshot-origin";
pub(super) const MERGE: &str = "snapshot-merge";

/// What the uuid of a device begins with that `snapshot` has put under its origin.
pub(super) const MADE_BY_US: &str = "DMSIM-ORIGIN-";

impl Device {
    /// Returns the device below, where this one is the origin of snapshots.
    pub(super) fn origin_of(&self) -> Option<DevNumber> {
        self.only(ORIGIN)?.params.trim().parse().ok()
    }

    pub(super) fn snapshot(&self) -> Option<Line> {
        Line::read(self.only(SNAPSHOT)?)
    }

    pub(super) fn merge(&self) -> Option<Line> {
        Line::read(self.only(MERGE)?)
    }
}

/// The words of a line of `snapshot` or `snapshot-merge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) origin: DevNumber,
    pub(super) cow: DevNumber,
    /// `P`, `PO` or `N`.
    pub(super) mode: String,
    pub(super) chunk: Sectors,
    /// What follows: features, with their number.
    pub(super) rest: String,
}

impl Line {
    pub(super) fn read(line: &TargetSpec) -> Option<Line> {
        let mut words = line.params.split_whitespace();
        Some(Line {
            origin: words.next()?.parse().ok()?,
            cow: words.next()?.parse().ok()?,
            mode: words.next()?.to_owned(),
            chunk: Sectors(words.next()?.parse().ok()?),
            rest: words.map(|word| format!(" {word}")).collect(),
        })
    }

    pub(super) fn is_transient(&self) -> bool {
        self.mode.starts_with('N')
    }

    /// Writes the words; `cow` is what the line calls the store's device.
    pub(super) fn params(&self, cow: &str) -> String {
        format!("{} {cow} {} {}{}", self.origin, self.mode, self.chunk, self.rest)
    }
}

/// What the status line of a snapshot or of a merge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
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
    pub(super) fn read(text: &str) -> Option<State> {
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
pub(super) fn state(
    dm: &mut dyn DeviceMapper,
    name: &str,
    of: &str,
) -> Result<Option<State>, Fault> {
    let keys = KeyText::Zeros;
    let Some((_, lines)) = report(dm, named(name), Report::Status, Slot::Live, keys)? else {
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
        let line = &crate::commands::one(Sectors(64), SNAPSHOT, words)[0];
        let read = Line::read(line).expect("a line");
        assert_eq!(read.params("7:0"), words);
        assert!(!read.is_transient());
        assert!(
            Line::read(&crate::commands::one(Sectors(64), SNAPSHOT, "253:1 7:0 PO")[0]).is_none()
        );
    }
}
