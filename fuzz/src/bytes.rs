//! Fuzz bytes as a source of choices.

/// Hands the bytes out from the front. When they are at an end, every choice is the first.
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Bytes<'a> {
        Bytes(data)
    }

    /// Returns the next byte; nothing at the end.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Returns the next byte; zero past the end.
    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// Returns a number below `end`, which is at most 256.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// Returns one of the items.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Returns a number of 24 bits.
    pub(crate) fn number(&mut self) -> u64 {
        [self.byte(), self.byte(), self.byte()].iter().fold(0, |n, b| n << 8 | u64::from(*b))
    }

    /// Returns all that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}
