//! Where a request is read into.

use crate::wire::{MAX_WRITE, PAGE, WRITE_AHEAD};

/// A buffer for one request at a time, used again and again.
///
/// The data of a write begins at a page: the kernel then fills it page by page, and an image takes
/// it from there as it is.
pub(super) struct RequestBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl RequestBuffer {
    pub(super) fn new() -> RequestBuffer {
        let bytes = vec![0; MAX_WRITE as usize + 2 * PAGE];
        let start = bytes.as_ptr().addr().wrapping_add(WRITE_AHEAD).wrapping_neg() % PAGE;
        RequestBuffer { bytes, start }
    }

    /// Returns the room for a request, one page longer than the longest write.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_begins_at_a_page_and_has_room() {
        let mut buffer = RequestBuffer::new();
        let room = buffer.room();
        assert_eq!(room[WRITE_AHEAD..].as_ptr().addr() % PAGE, 0);
        assert!(room.len() >= WRITE_AHEAD + MAX_WRITE as usize);
    }
}
