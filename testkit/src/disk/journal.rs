//! A record of what the disks of a world were told, in one order for all of them.

use crate::story;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One line of a record.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A disk has stored data.
    Write(Write),
    /// A disk has made durable what it stored before line `covers`.
    Flush {
        /// The disk's minor number.
        disk: u32,
        /// The length of the record when the flush was submitted.
        covers: usize,
    },
    /// Something happened to a bio of a device under test.
    Event {
        /// Which device, where there are several.
        device: u32,
        /// What happened.
        event: Event,
    },
}

/// What happens to a bio of the device under test.
#[derive(Clone, Debug)]
pub enum Event {
    /// A write was submitted; `None` for a discard, after which the range reads as anything.
    Write {
        /// Tells the bios of a run apart.
        id: u64,
        /// The first sector.
        sector: u64,
        /// The length in sectors.
        len: u64,
        /// The data.
        data: Option<Arc<[u8]>>,
    },
    /// A flush was submitted, or a write with a flush before its data.
    Flush {
        /// Tells the bios of a run apart.
        id: u64,
    },
    /// A bio has ended.
    End {
        /// The bio.
        id: u64,
        /// Whether it ended well.
        ok: bool,
        /// It was a write that is durable when it ends.
        fua: bool,
    },
}

/// Data that a disk has stored.
#[derive(Clone, Debug)]
pub struct Write {
    /// The disk's minor number.
    pub disk: u32,
    /// The first sector.
    pub sector: u64,
    /// The data, whole sectors.
    pub data: Arc<[u8]>,
    /// Durable when it ended.
    pub fua: bool,
    /// A flush came before the data.
    pub preflush: bool,
    /// The length of the record when the write was submitted: from there on, some of its sectors
    /// may be on the medium.
    pub issued: usize,
}

/// A record that is being written.
#[derive(Default)]
pub struct Journal(Mutex<Vec<Entry>>);

impl Journal {
    /// Returns how many lines there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Tells whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Adds a line.
    pub fn push(&self, entry: Entry) {
        let mut entries = self.lock();
        story::recorded(entries.is_empty());
        entries.push(entry);
    }

    /// Ends the record and returns it.
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
