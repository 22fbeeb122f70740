//! A mapped image: bytes are copied out of it or lent to a system call, and never looked at.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;
use std::slice;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use crate::image::guard;
use crate::image::health::Health;

/// The bytes of an image, mapped for reading.
pub(crate) struct Mapping {
    map: MmapRaw,
    /// Where the last page begins. A file that ends within it has all its pages; see `tail`.
    tail: usize,
    health: Arc<Health>,
}

impl Mapping {
    /// Maps the first `len` bytes of a file; `len` is not zero.
    pub(crate) fn new(file: &File, len: u64, health: Arc<Health>) -> io::Result<Mapping> {
        guard::install()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let map = MmapOptions::new().len(len).map_raw_read_only(file)?;
        map.as_ptr().expose_provenance();
        let tail = (len - 1) & !(page_size() - 1);
        Ok(Mapping { map, tail, health })
    }

    /// Returns where the last page begins, in bytes. A file truncated within that page reads as
    /// zeros there and raises no signal: its size must be looked at.
    pub(crate) fn tail(&self) -> u64 {
        self.tail as u64
    }

    /// Copies out the bytes from `at` on, and returns whether the image was whole: if not, it is
    /// poisoned and the buffer holds nothing of worth.
    ///
    /// # Panics
    /// When the range is not within the mapping.
    pub(crate) fn copy(&self, at: u64, buffer: &mut [u8]) -> bool {
        let range = self.range(at, buffer.len());
        let (from, to, len) = (self.at(range.start), buffer.as_mut_ptr(), buffer.len());
        let last = self.at(self.tail);
        guard::watch(self.map.as_ptr(), self.map.len(), &self.health, || {
            // SAFETY: both ranges are `len` bytes, checked above; the buffer is ours alone, so
            // they do not overlap. A page that is gone is the guard's.
            unsafe { ptr::copy_nonoverlapping(from, to, len) };
            // A file that was cut within the range reads as zeros to the end of that page. Its
            // last page is then gone: it is touched after the copy, to know.
            // SAFETY: `last` is a byte of the mapping.
            unsafe { ptr::read_volatile(last) };
        })
    }

    /// Tells whether the file still reaches its last page; if not, the image is poisoned.
    pub(crate) fn is_whole(&self) -> bool {
        let last = self.at(self.tail);
        guard::watch(self.map.as_ptr(), self.map.len(), &self.health, || {
            // SAFETY: `last` is a byte of the mapping.
            unsafe { ptr::read_volatile(last) };
        })
    }

    /// Hands the bytes from `at` on to `reply`, unless the image is bad.
    ///
    /// # Panics
    /// When the range is not within the mapping.
    pub(crate) fn lend(&self, at: u64, len: usize, reply: &mut dyn FnMut(&[u8])) -> bool {
        let range = self.range(at, len);
        // Before the pages are lent: the guard waits for all that are.
        if !self.is_whole() {
            return false;
        }
        let Some(_lender) = self.health.lend() else { return false };
        // SAFETY: the range is mapped for reading as long as `self` is borrowed. That others may
        // write to the file meanwhile, or cut it, is why `reply` may only pass it to the kernel,
        // which copies byte by byte and answers EFAULT.
        reply(unsafe { slice::from_raw_parts(self.at(range.start), range.len()) });
        true
    }

    fn range(&self, at: u64, len: usize) -> Range<usize> {
        let start = usize::try_from(at).expect("an offset in a mapping fits in memory");
        let end = start.checked_add(len).filter(|end| *end <= self.map.len());
        start..end.expect("a range of a mapping lies within it")
    }

    fn at(&self, offset: usize) -> *const u8 {
        self.map.as_ptr().wrapping_add(offset)
    }
}

fn page_size() -> usize {
    rustix::param::page_size()
}
