//! What a row's word means for the bytes, and for the reader.

use std::fmt;
use std::ops::Range;

use super::rows::Leaves;

impl Leaves {
    /// Returns what the device is to hold where it held `before`, and the source is `copied`;
    /// nothing where that is the program's own.
    fn expected(self, before: &[u8], copied: &[u8]) -> Option<Vec<u8>> {
        let mut due = before.to_vec();
        let last = copied.iter().rposition(|byte| *byte != 0).unwrap();
        let sectors = copied.len()..copied.len().next_multiple_of(512);
        // By blocks: a block is copied where `is_copied` says so of its place and what it holds.
        let mut copy = |size: usize, is_copied: &dyn Fn(usize, &[u8]) -> bool| {
            for (number, block) in copied.chunks(size).enumerate() {
                let at = number * size;
                if is_copied(at, block) {
                    due[at..at + block.len()].copy_from_slice(block);
                }
            }
        };
        match self {
            Leaves::Fails | Leaves::Own => return None,
            Leaves::Source => copy(copied.len(), &|_, _| true),
            Leaves::SourceInSectors => {
                copy(copied.len(), &|_, _| true);
                due[sectors].fill(0);
            }
            Leaves::SourceAt(at) => due[at..at + copied.len()].copy_from_slice(copied),
            Leaves::AllButLastHole => copy(4096, &|at, _| at <= last),
            Leaves::Data(size) => copy(size, &|_, block| block.iter().any(|byte| *byte != 0)),
            Leaves::SomeHoles => copy(1, &|_, byte| byte != [0]),
            Leaves::Zeros => due[..sectors.end].fill(0),
            Leaves::ZerosIn(from, to) => due[from..to].fill(0),
            Leaves::Nothing | Leaves::Refused(_) | Leaves::Warned(_) | Leaves::Replaced => {}
        }
        Some(due)
    }

    /// Checks what the device holds now.
    pub(crate) fn check(self, before: &[u8], copied: &[u8], after: &[u8]) -> Result<(), String> {
        let Some(due) = self.expected(before, copied) else { return Ok(()) };
        let zeroed = |at: usize| {
            self == Leaves::SomeHoles && copied.get(at).is_some_and(|byte| *byte | after[at] == 0)
        };
        match (0..due.len()).find(|at| after[*at] != due[*at] && !zeroed(*at)) {
            Some(at) => {
                let Range { start, end } = around(at, &due, after);
                let (is, due) = (after[at], due[at]);
                Err(format!("byte {at} is {is:#x}, and was to be {due:#x} ({start}..{end})"))
            }
            None if self == Leaves::SomeHoles && after[..copied.len()] == *copied => {
                Err("no hole has old bytes".to_owned())
            }
            None => Ok(()),
        }
    }
}

/// Returns the bytes from the first that differs to the last.
fn around(first: usize, due: &[u8], after: &[u8]) -> Range<usize> {
    let last = (0..due.len()).rfind(|at| after[*at] != due[*at]);
    first..last.map_or(first, |last| last + 1)
}

impl fmt::Display for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leaves::Source => write!(f, "the source"),
            Leaves::SourceInSectors => {
                write!(f, "the source, with zeros up to the end of its last sector")
            }
            Leaves::SourceAt(at) => write!(f, "the source, from byte {at} on"),
            Leaves::AllButLastHole => write!(f, "the source, with old bytes in its last hole"),
            Leaves::Data(_) => write!(f, "the source's data, with old bytes in its holes"),
            Leaves::SomeHoles => write!(f, "the source's data, with old bytes in some holes"),
            Leaves::Zeros => write!(f, "zeros"),
            Leaves::ZerosIn(from, super::DEVICE) => write!(f, "zeros from byte {from} on"),
            Leaves::ZerosIn(from, to) => write!(f, "zeros in {from}..{to}"),
            Leaves::Nothing => write!(f, "all as it was"),
            Leaves::Refused(word) => write!(f, "refused: *{word}*"),
            Leaves::Warned(word) => write!(f, "refused, with status 0: *{word}*"),
            Leaves::Fails => write!(f, "fails on the way"),
            Leaves::Own => write!(f, "what the program makes of it"),
            Leaves::Replaced => write!(f, "another file takes its place"),
        }
    }
}
