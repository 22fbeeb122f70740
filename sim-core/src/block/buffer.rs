//! Buffers that are used again: a fresh megabyte costs more in page faults than the read into it.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// What a small request needs: 16 KiB.
const SMALL: usize = 16 << 10;

/// What the largest request needs: 1 MiB, and a block of 4 KiB at each end to round out to.
const LARGE: usize = (1 << 20) + (8 << 10);

/// How many of each size are kept: 33 MiB at most.
const KEPT: usize = 32;

static FREE_SMALL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static FREE_LARGE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Some bytes for the time of one request, taken from a pool and given back when dropped. What
/// they are at first is not told.
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// Takes `len` bytes.
    pub fn take(len: usize) -> Buffer {
        let kept = free(len).and_then(|(free, _)| lock(free).pop());
        let size = free(len).map_or(len, |(_, size)| size);
        Buffer { bytes: kept.unwrap_or_else(|| vec![0; size]), len }
    }

    /// Takes as many bytes as `data` has, and copies it.
    pub fn copy_of(data: &[u8]) -> Buffer {
        let mut buffer = Buffer::take(data.len());
        buffer.copy_from_slice(data);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some((free, _)) = free(self.bytes.len()) {
            let mut free = lock(free);
            if free.len() < KEPT {
                free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

/// Where buffers of this length are kept, and how large those are; `None` for a length that is
/// not kept.
fn free(len: usize) -> Option<(&'static Mutex<Vec<Vec<u8>>>, usize)> {
    match len {
        0..=SMALL => Some((&FREE_SMALL, SMALL)),
        _ if len <= LARGE => Some((&FREE_LARGE, LARGE)),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_length_that_was_asked_for() {
        for len in [0, 1, 512, SMALL, SMALL + 1, LARGE, LARGE + 1] {
            assert_eq!(Buffer::take(len).len(), len);
            assert_eq!(Buffer::take(len).len(), len, "when it is used again");
        }
    }
}
