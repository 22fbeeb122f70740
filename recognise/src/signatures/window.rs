//! The part of a source that signatures are looked for in: its first bytes, read once, and a bounded
//! number of others.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use crate::{Error, Source};

/// How much of the beginning is read at once. The last signature of many is the superblock of btrfs.
const HEAD: usize = 72 << 10;

/// The most that is read at one place.
pub(super) const MOST_AT_ONCE: usize = 128 << 10;

/// The most that is read of a source in all.
pub(super) const MOST_READ: u64 = 4 << 20;

pub(super) struct Window<'a> {
    source: &'a dyn Source,
    head: Vec<u8>,
    left: Cell<u64>,
    failure: RefCell<Option<Error>>,
}

impl<'a> Window<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Result<Window<'a>, Error> {
        let len = source.len().min(HEAD as u64) as usize;
        let head = crate::source::read(source, 0, len)?.to_vec();
        let left = Cell::new(MOST_READ - len as u64);
        Ok(Window { source, head, left, failure: RefCell::new(None) })
    }

    /// Returns the size of the source in bytes.
    pub(super) fn len(&self) -> u64 {
        self.source.len()
    }

    /// Returns `len` bytes; none where the source ends before them, where they cannot be read, or
    /// where too much was read already.
    pub(super) fn at(&self, offset: u64, len: usize) -> Option<Cow<'_, [u8]>> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len())?;
        if end <= self.head.len() as u64 {
            return Some(Cow::Borrowed(&self.head[offset as usize..end as usize]));
        }
        if len > MOST_AT_ONCE {
            return None;
        }
        self.left.set(self.left.get().checked_sub(len as u64)?);
        match crate::source::read(self.source, offset, len) {
            Ok(bytes) => Some(Cow::Owned(bytes.to_vec())),
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    /// Returns where these bytes are, if they are there; a negative place counts from the end.
    pub(super) fn has(&self, at: i64, bytes: &[u8]) -> Option<u64> {
        let from = if at < 0 { self.len() } else { 0 };
        let at = from.checked_add_signed(at)?;
        (*self.at(at, bytes.len())? == *bytes).then_some(at)
    }

    /// Returns why the first of the reads that failed did.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.take()
    }
}
