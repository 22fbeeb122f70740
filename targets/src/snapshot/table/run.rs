//! A run of exceptions, packed into a word.

/// Chunks of the origin in a group.
pub(super) const GROUP: u64 = 1 << LEN_BITS;
const LEN_BITS: u32 = 7;

/// The last chunk of a store: 49 bits, 256 PiB in the smallest chunks.
pub const MAX_NEW: u64 = (1 << NEW_BITS) - 1;
const NEW_BITS: u32 = 49;

/// A run of exceptions of one group: its start there (7 bits), its length less one (7 bits), and
/// its first chunk in the store. The uppermost bit is left to [`Held`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Run(pub(super) u64);

impl Run {
    pub(super) fn new(start: u64, len: u64, new: u64) -> Run {
        Run(start << (LEN_BITS + NEW_BITS) | (len - 1) << NEW_BITS | new)
    }

    pub(super) fn start(self) -> u64 {
        self.0 >> (LEN_BITS + NEW_BITS)
    }

    pub(super) fn len(self) -> u64 {
        (self.0 >> NEW_BITS) % GROUP + 1
    }

    pub(super) fn end(self) -> u64 {
        self.start() + self.len()
    }

    /// Returns the chunk of the store that chunk `start` of the group lies in, or would.
    pub(super) fn new_of(self, start: u64) -> u64 {
        (self.0 & MAX_NEW) + start - self.start()
    }

    /// Returns this run and the next as one, if both the old chunks and the new ones continue.
    pub(super) fn joined(self, next: Run) -> Option<Run> {
        let continues =
            self.end() == next.start() && self.new_of(next.start()) == next.new_of(next.start());
        continues.then(|| Run::new(self.start(), self.len() + next.len(), self.0 & MAX_NEW))
    }

    /// Returns the chunks of this run from `start` to `end` of the group, if there are any.
    pub(super) fn part(self, start: u64, end: u64) -> Option<Run> {
        (start < end).then(|| Run::new(start, end - start, self.new_of(start)))
    }
}
