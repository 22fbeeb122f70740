//! A set of regions: a bit for each, whatever the number of regions that are in use.

use std::ops::Range;

/// The numbers below `len` that are in the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: u64,
    ones: u64,
}

impl Bits {
    /// Makes a set of all numbers below `len`, or of none.
    pub(super) fn new(len: u64, all: bool) -> Bits {
        let words = vec![if all { u64::MAX } else { 0 }; len.div_ceil(64) as usize];
        let mut bits = Bits { words, len, ones: if all { len } else { 0 } };
        bits.clear_rest();
        bits
    }

    /// Makes a set from bytes, the lowest bit of the first byte first.
    pub(super) fn from_bytes(bytes: &[u8], len: u64) -> Bits {
        let word = |at: usize| {
            let mut word = [0; 8];
            let bytes = bytes.get(at * 8..).unwrap_or_default();
            let there = bytes.len().min(8);
            word[..there].copy_from_slice(&bytes[..there]);
            u64::from_le_bytes(word)
        };
        let words = (0..len.div_ceil(64) as usize).map(word).collect();
        let mut bits = Bits { words, len, ones: 0 };
        bits.clear_rest();
        bits.ones = bits.words.iter().map(|word| u64::from(word.count_ones())).sum();
        bits
    }

    /// Returns the numbers that are not in this set.
    pub(super) fn complement(&self) -> Bits {
        let words = self.words.iter().map(|word| !word).collect();
        let mut bits = Bits { words, len: self.len, ones: self.len - self.ones };
        bits.clear_rest();
        bits
    }

    pub(super) fn get(&self, at: u64) -> bool {
        debug_assert!(at < self.len, "a region lies within the target");
        self.words[(at / 64) as usize] >> (at % 64) & 1 == 1
    }

    pub(super) fn set(&mut self, at: u64, value: bool) {
        if self.get(at) == value {
            return;
        }
        self.words[(at / 64) as usize] ^= 1 << (at % 64);
        match value {
            true => self.ones += 1,
            false => self.ones -= 1,
        }
    }

    /// Takes out what is in another set.
    pub(super) fn remove(&mut self, other: &Bits) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
        self.ones = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
    }

    /// Returns how many numbers are in the set.
    pub(super) fn ones(&self) -> u64 {
        self.ones
    }

    /// Returns the bound.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    pub(super) fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// Returns the first number from `from` on that is not in the set.
    pub(super) fn next_zero(&self, from: u64) -> Option<u64> {
        let mut at = from;
        while at < self.len {
            let free = !self.words[(at / 64) as usize] >> (at % 64);
            if free != 0 {
                let found = at + u64::from(free.trailing_zeros());
                return (found < self.len).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    /// Returns the runs of numbers that are in the set, in order.
    pub(super) fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next_one(at)?;
            at = self.next_zero(start).unwrap_or(self.len);
            Some(start..at)
        })
    }

    fn next_one(&self, from: u64) -> Option<u64> {
        let mut at = from;
        while at < self.len {
            let set = self.words[(at / 64) as usize] >> (at % 64);
            if set != 0 {
                return Some(at + u64::from(set.trailing_zeros()));
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    /// Tells whether a number is in all of the sets; one that is not there is empty.
    pub(super) fn any_in_all<'a>(sets: impl Iterator<Item = Option<&'a Bits>> + Clone) -> bool {
        if sets.clone().any(|set| set.is_none()) {
            return false;
        }
        let words = sets.clone().flatten().map(|set| set.words.len()).max().unwrap_or(0);
        let common = |at| sets.clone().flatten().fold(u64::MAX, |all, set| all & set.words[at]);
        (0..words).any(|at| common(at) != 0)
    }

    fn clear_rest(&mut self) {
        if let Some(last) = self.words.last_mut()
            && !self.len.is_multiple_of(64)
        {
            *last &= (1 << (self.len % 64)) - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_set_counted_and_found() {
        let mut bits = Bits::new(130, false);
        for at in [0, 63, 64, 129] {
            bits.set(at, true);
            bits.set(at, true);
        }
        assert_eq!((bits.ones(), bits.get(63), bits.get(65)), (4, true, false));
        assert_eq!(
            (bits.next_zero(0), bits.next_zero(63), bits.next_zero(129)),
            (Some(1), Some(65), None)
        );
        let rest = bits.complement();
        assert_eq!((rest.ones(), rest.get(64), rest.get(65)), (126, false, true));
        assert_eq!(bits.runs().collect::<Vec<_>>(), [0..1, 63..65, 129..130]);
        bits.set(64, false);
        assert_eq!((bits.ones(), bits.next_zero(63)), (3, Some(64)));
        assert!(Bits::new(130, true).runs().eq(std::iter::once(0..130)));
        assert_eq!(Bits::new(130, false).runs().next(), None);
    }

    #[test]
    fn a_full_set_has_nothing_past_its_end() {
        let bits = Bits::new(70, true);
        assert_eq!((bits.ones(), bits.is_full(), bits.next_zero(0)), (70, true, None));
        let read = Bits::from_bytes(&[0xff; 16], 70);
        assert_eq!(read, bits);
        assert_eq!(Bits::from_bytes(&[0x05], 70).next_zero(0), Some(1));
    }

    #[test]
    fn sets_have_a_number_in_common_or_not() {
        let (mut one, mut other) = (Bits::new(100, false), Bits::new(100, false));
        one.set(70, true);
        other.set(71, true);
        assert!(!Bits::any_in_all([Some(&one), Some(&other)].into_iter()));
        other.set(70, true);
        assert!(Bits::any_in_all([Some(&one), Some(&other)].into_iter()));
        assert!(!Bits::any_in_all([Some(&one), None].into_iter()));
    }
}
