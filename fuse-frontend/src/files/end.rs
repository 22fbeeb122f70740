//! The virtual end of an open file that was truncated.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// There is no virtual end: the file ends where its device does.
const NONE: u64 = u64::MAX;

/// Where an open file ends for whoever has truncated it: what is written from there on has old
/// bytes before it that the writer takes for zeros. A file that was not truncated has no such end.
#[derive(Debug)]
pub struct End(AtomicU64);

impl Default for End {
    fn default() -> End {
        End(AtomicU64::new(NONE))
    }
}

impl End {
    /// Returns where the file ends, if it was truncated.
    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(SeqCst)).filter(|end| *end != NONE)
    }

    /// Tells whether old bytes lie between the end and `at`.
    pub(crate) fn leaves_gap(&self, at: u64) -> bool {
        at > self.0.load(SeqCst)
    }

    pub(crate) fn set(&self, end: u64) {
        self.0.store(end, SeqCst);
    }

    /// Moves the end, if there is one, to where everything before it was written: never back.
    pub(crate) fn reach(&self, end: u64) {
        self.0.fetch_max(end, SeqCst);
    }
}
