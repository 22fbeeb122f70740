//! The open files of the node: what a poll of each has seen.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sim_core::Errno;

/// The open files, by their handle.
#[derive(Default)]
pub(super) struct OpenFiles(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    last: u64,
    files: HashMap<u64, Arc<OpenFile>>,
}

/// An open file.
pub(super) struct OpenFile {
    /// The number of the last event that it knows: a later one makes it readable.
    pub(super) known: AtomicU32,
}

impl OpenFile {
    /// Tells whether events came since, the last of them with this number, which may have begun anew.
    pub(super) fn is_behind(&self, events: u32) -> bool {
        events.wrapping_sub(self.known.load(SeqCst)).cast_signed() > 0
    }
}

impl OpenFiles {
    /// Opens a file that knows of all events up to this one.
    pub(super) fn open(&self, known: u32) -> u64 {
        let mut slots = self.slots();
        slots.last += 1;
        let handle = slots.last;
        slots.files.insert(handle, Arc::new(OpenFile { known: known.into() }));
        handle
    }

    pub(super) fn find(&self, handle: u64) -> Result<Arc<OpenFile>, Errno> {
        self.slots().files.get(&handle).cloned().ok_or(Errno::BADF)
    }

    pub(super) fn close(&self, handle: u64) {
        self.slots().files.remove(&handle);
    }

    pub(super) fn are_open(&self) -> bool {
        !self.slots().files.is_empty()
    }

    pub(super) fn close_all(&self) {
        self.slots().files.clear();
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
