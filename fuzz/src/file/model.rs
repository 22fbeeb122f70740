//! A file as an array of bytes, some of which cannot be written, and some not be had.

use super::GUARD;
use crate::bytes::Bytes;

/// What part of the device a table line makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// On this disk.
    Linear(usize),
    /// On both disks.
    Striped,
    /// Reads as zeros, takes no data.
    Zero,
    /// Fails.
    Error,
}

/// One table line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    kind: Kind,
    /// In sectors.
    len: u64,
}

impl Segment {
    /// Takes a few segments from the bytes.
    pub(super) fn some(bytes: &mut Bytes<'_>) -> Vec<Segment> {
        let kinds = [Kind::Linear(0), Kind::Linear(1), Kind::Striped, Kind::Zero, Kind::Error];
        let some = 0..=bytes.below(6);
        // A multiple of two chunks of the largest logical block.
        some.map(|_| Segment { kind: bytes.pick(&kinds), len: 16 * (1 + bytes.below(6) as u64) })
            .collect()
    }
}

/// What the file must be.
pub(super) struct Model {
    segments: Vec<Segment>,
    /// How many of them the table has.
    used: usize,
    /// Of all segments.
    content: Vec<u8>,
    block: u64,
    /// Where each open file ends, if it was truncated.
    pub(super) ends: [Option<u64>; 2],
}

impl Model {
    /// Makes a file of zeros, with logical blocks of so many bytes.
    pub(super) fn new(segments: Vec<Segment>, block: u64) -> Model {
        let len: u64 = segments.iter().map(|segment| segment.len * 512).sum();
        let content = vec![0; len as usize];
        Model { used: segments.len(), segments, content, block, ends: [None; 2] }
    }

    /// Leaves some of the segments in the table: one at least.
    pub(super) fn keep(&mut self, count: usize) {
        self.used = 1 + count % self.segments.len();
    }

    /// Returns the table, each segment on a place of its own.
    pub(super) fn table(&self) -> String {
        let (mut table, mut start, mut free) = (String::new(), 0, [GUARD.0; 2]);
        for Segment { kind, len } in &self.segments[..self.used] {
            let line = match kind {
                Kind::Linear(disk) => {
                    let at = free[*disk];
                    free[*disk] += len;
                    format!("linear 7:{disk} {at}")
                }
                Kind::Striped => {
                    let [a, b] = free;
                    free = free.map(|free| free + len / 2);
                    format!("striped 2 8 7:0 {a} 7:1 {b}")
                }
                Kind::Zero => "zero".to_owned(),
                Kind::Error => "error".to_owned(),
            };
            table += &format!("{start} {len} {line}\n");
            start += len;
        }
        table
    }

    /// Returns the size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.segments[..self.used].iter().map(|segment| segment.len * 512).sum()
    }

    /// Tells whether a request for these bytes touches a block that fails.
    pub(super) fn fails(&self, at: u64, end: u64) -> bool {
        let blocks = at / self.block * self.block..end.next_multiple_of(self.block);
        at < end && blocks.step_by(512).any(|byte| self.kind(byte) == Kind::Error)
    }

    /// Returns the parts of a range that no error segment is in.
    pub(super) fn readable(&self, at: u64, end: u64) -> Vec<(u64, u64)> {
        let (mut parts, mut start) = (Vec::new(), 0);
        for segment in &self.segments[..self.used] {
            let (from, to) = (at.max(start), end.min(start + segment.len * 512));
            if from < to && segment.kind != Kind::Error {
                parts.push((from, to));
            }
            start += segment.len * 512;
        }
        parts
    }

    pub(super) fn read(&self, at: u64, end: u64) -> &[u8] {
        &self.content[at as usize..end as usize]
    }

    /// Tells whether each block of these bytes has a place on a disk.
    pub(super) fn has_room(&self, at: u64, end: u64) -> bool {
        let blocks = at / self.block * self.block..end.next_multiple_of(self.block);
        let mut kinds = blocks.step_by(512).map(|byte| self.kind(byte));
        at >= end || kinds.all(|kind| matches!(kind, Kind::Linear(_) | Kind::Striped))
    }

    /// Returns where the gap begins that an open file leaves by a write at `at`: there, if it leaves
    /// none.
    pub(super) fn gap(&self, file: usize, at: u64) -> u64 {
        self.ends[file].unwrap_or(at).min(at)
    }

    /// An open file, if it was truncated, is this long at least.
    pub(super) fn reach(&mut self, file: usize, end: u64) {
        self.ends[file] = self.ends[file].map(|before| before.max(end));
    }

    /// An open file was truncated.
    pub(super) fn truncate(&mut self, file: usize, end: u64) {
        if self.ends[file].is_some() || end < self.size() {
            self.ends[file] = Some(end);
        }
    }

    /// Writes bytes: the one that `data` gives for each place.
    pub(super) fn write(&mut self, at: u64, end: u64, data: impl Fn(u64) -> u8) {
        for byte in at..end {
            match self.kind(byte) {
                Kind::Linear(_) | Kind::Striped => {
                    self.content[byte as usize] = data(byte);
                }
                Kind::Zero | Kind::Error => {}
            }
        }
    }

    /// Tells whether all these bytes can be had, and are zero.
    pub(super) fn is_zero(&self, at: u64, end: u64) -> bool {
        (at..end).all(|byte| self.content[byte as usize] == 0 && self.kind(byte) != Kind::Error)
    }

    fn kind(&self, byte: u64) -> Kind {
        let mut start = 0;
        for segment in &self.segments {
            start += segment.len * 512;
            if byte < start {
                return segment.kind;
            }
        }
        panic!("byte {byte} is past the end, {start}")
    }
}
