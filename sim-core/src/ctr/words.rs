//! The words of a table line, read as the kernel reads them, and every message about what is wrong
//! with one.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use super::error::CtrError;
use crate::{Sector, Sectors};

/// The words of a table line after the type.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    words: &'a [&'a str],
    next: usize,
    len: Sectors,
}

impl<'a> Words<'a> {
    /// Makes the words of a target of this length.
    pub fn new(words: &'a [&'a str], len: Sectors) -> Words<'a> {
        Words { words, next: 0, len }
    }

    /// Returns the target's length.
    pub fn target_len(&self) -> Sectors {
        self.len
    }

    /// Returns how many words there are.
    pub fn count(&self) -> usize {
        self.words.len()
    }

    /// Returns how many words are left.
    pub fn left(&self) -> usize {
        self.words.len() - self.next.min(self.words.len())
    }

    /// Refuses any other number of words than `count`, in the kernel's words.
    pub fn exactly(&self, count: usize, kernel: &str) -> Result<(), CtrError> {
        match self.count() {
            found if found == count => Ok(()),
            found => Err(self.wrong_count(count, found, kernel)),
        }
    }

    /// Refuses fewer words than `count`, in the kernel's words.
    pub fn at_least(&self, count: usize, kernel: &str) -> Result<(), CtrError> {
        match self.count() {
            found if found >= count => Ok(()),
            found => Err(self.wrong_count(count, found, kernel)),
        }
    }

    fn wrong_count(&self, count: usize, found: usize, kernel: &str) -> CtrError {
        let s = if count == 1 { "" } else { "s" };
        let error =
            CtrError::new(kernel).detail(format!("expected {count} argument{s}, found {found}"));
        // The first word too many, or the place of the first that is missing.
        error.arg(count.min(found))
    }

    /// Returns the next word.
    pub fn next(&mut self, kernel: &str) -> Result<Arg<'a>, CtrError> {
        let arg = self.at(self.next, kernel)?;
        self.next += 1;
        Ok(arg)
    }

    /// Returns the word at `index`, counted from 0.
    pub fn at(&self, index: usize, kernel: &str) -> Result<Arg<'a>, CtrError> {
        match self.words.get(index) {
            Some(text) => Ok(Arg { index, text }),
            None => Err(CtrError::new(kernel).arg(index).detail("argument missing")),
        }
    }

    /// Reads the next word as a number within limits, as the kernel's `dm_read_arg` does: digits and
    /// nothing else, modulo 2^32.
    pub fn number(
        &mut self,
        limits: RangeInclusive<u32>,
        kernel: &str,
    ) -> Result<(Arg<'a>, u32), CtrError> {
        let word = self.next(kernel)?;
        let number = word.wrapping_u32(kernel)?;
        match limits.contains(&number) {
            true => Ok((word, number)),
            false => {
                let (least, most) = limits.into_inner();
                Err(word.error(format_args!("a number from {least} to {most}"), kernel))
            }
        }
    }

    /// Returns the words of a group of optional arguments: that at `first` says how many follow,
    /// `max` at most. None where there is no such word. What follows the group is left unread, as
    /// the kernel does (`dm_read_arg_group`).
    pub fn group(&self, first: usize, max: u32, kernel: &str) -> Result<Vec<Arg<'a>>, CtrError> {
        let Ok(word) = self.at(first, kernel) else { return Ok(Vec::new()) };
        let left = u32::try_from(self.count() - first - 1).unwrap_or(u32::MAX);
        let most = max.min(left);
        let count = scan_u64(word.text).map(|count| count as u32).filter(|count| *count <= most);
        let count =
            count.ok_or_else(|| word.error(format_args!("a number from 0 to {most}"), kernel))?;
        (first + 1..first + 1 + count as usize).map(|index| self.at(index, kernel)).collect()
    }
}

/// One word of a table line.
#[derive(Clone, Copy, Debug)]
pub struct Arg<'a> {
    index: usize,
    text: &'a str,
}

impl<'a> Arg<'a> {
    /// Returns the word.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Returns the word's place, counted from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Makes an error about this word.
    pub fn error(&self, expected: impl fmt::Display, kernel: &str) -> CtrError {
        CtrError::new(kernel)
            .arg(self.index)
            .detail(format!("expected {expected}, found `{}`", shorten(self.text)))
    }

    /// Reads a sector address, as the kernel's `sscanf("%llu")` does: decimal digits and nothing
    /// else, modulo 2^64.
    pub fn sector(&self, kernel: &str) -> Result<Sector, CtrError> {
        scan_u64(self.text).map(Sector).ok_or_else(|| self.error("a sector number", kernel))
    }

    /// Reads a 32-bit number greater than zero, as the kernel's `kstrtouint` does: decimal, a
    /// plus sign allowed.
    pub fn positive_u32(&self, kernel: &str) -> Result<u32, CtrError> {
        let number = self.read_u32().filter(|number| *number > 0);
        number.ok_or_else(|| self.error("a number from 1 to 4294967295", kernel))
    }

    /// Reads a 64-bit sector address, as the kernel's `kstrtoull` does: decimal, a plus sign allowed.
    pub fn sector_u64(&self, kernel: &str) -> Result<Sector, CtrError> {
        self.read_u64().map(Sector).ok_or_else(|| self.error("a sector number", kernel))
    }

    /// Reads a 64-bit number, as the kernel's `kstrtoull` does: decimal, a plus sign allowed.
    pub fn u64(&self, kernel: &str) -> Result<u64, CtrError> {
        self.read_u64().ok_or_else(|| self.error("a number of 64 bits", kernel))
    }

    /// Reads a 64-bit number in hexadecimal digits of either case, as `kstrtoull` of base 16 does:
    /// with `0x` in front, or without.
    pub fn hex_u64(&self, kernel: &str) -> Result<u64, CtrError> {
        let digits = self.text.strip_prefix('+').unwrap_or(self.text);
        let digits = digits.strip_prefix("0x").or(digits.strip_prefix("0X")).unwrap_or(digits);
        let number = digits.bytes().all(|b| b.is_ascii_hexdigit());
        let number = number.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
        number.ok_or_else(|| self.error("a hexadecimal number of 64 bits", kernel))
    }

    /// As [`positive_u32`](Self::positive_u32), with zero among the numbers.
    pub fn u32(&self, kernel: &str) -> Result<u32, CtrError> {
        self.read_u32().ok_or_else(|| self.error("a number from 0 to 4294967295", kernel))
    }

    /// Reads a number with a sign, or without, as the kernel's `kstrtoint` does: decimal, of 32
    /// bits.
    pub fn i32(&self, kernel: &str) -> Result<i32, CtrError> {
        let digits = self.text.strip_prefix(['+', '-']).unwrap_or(self.text);
        let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| self.text.parse().ok());
        number.flatten().ok_or_else(|| self.error("a number of 32 bits with a sign", kernel))
    }

    /// Reads a 32-bit number, as the kernel's `sscanf("%u")` does: decimal digits and nothing
    /// else, modulo 2^32.
    pub fn wrapping_u32(&self, kernel: &str) -> Result<u32, CtrError> {
        let number = scan_u64(self.text).map(|number| number as u32);
        number.ok_or_else(|| self.error("a number", kernel))
    }

    fn read_u64(&self) -> Option<u64> {
        let digits = self.text.strip_prefix('+').unwrap_or(self.text);
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    }

    fn read_u32(&self) -> Option<u32> {
        let digits = self.text.strip_prefix('+').unwrap_or(self.text);
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    }
}

/// Reads digits and nothing else, modulo 2^64.
fn scan_u64(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.bytes().fold(0u64, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0'))))
}

/// The most characters of a word that a message repeats.
const QUOTED: usize = 64;

/// Cuts a word that is too long for a message.
pub(super) fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(QUOTED) {
        None => text.into(),
        Some((end, _)) => format!("{}...", &text[..end]).into(),
    }
}

/// Splits a parameter string into words as the kernel's `dm_split_args` does: at white space; a
/// backslash goes, and protects the character after it. There are no quotes and no empty words.
pub fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        // Room for all of it first: a word that moves in memory leaves a copy behind, and it may
        // be a key.
        let begin = || {
            let rest = chars.as_str();
            String::with_capacity(c.len_utf8() + rest.find(is_space).unwrap_or(rest.len()))
        };
        match c {
            '\\' => {
                let word = word.get_or_insert_with(begin);
                // A backslash at the very end protects nothing, and stays.
                word.push(chars.next().unwrap_or('\\'));
            }
            c if is_space(c) => words.extend(word.take()),
            c => word.get_or_insert_with(begin).push(c),
        }
    }
    words.extend(word);
    words
}

/// Tells what separates the words of a line: the kernel's `isspace`.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_protects_the_character_after_it() {
        assert_eq!(split_words(r" a\ b  c\\d "), ["a b", r"c\d"]);
        assert_eq!(split_words(""), Vec::<String>::new());
        assert_eq!(split_words("one\ttwo\n"), ["one", "two"]);
        assert_eq!(split_words("x\\"), ["x\\"]);
    }

    #[test]
    fn a_sector_is_read_as_the_kernel_reads_it() {
        let arg = |text| Arg { index: 0, text };
        assert_eq!(arg("010").sector("").unwrap(), Sector(10));
        // One past the largest wraps around to zero, there as here.
        assert_eq!(arg("18446744073709551616").sector("").unwrap(), Sector(0));
        for bad in ["-1", "+16", "0x10", "1.5", "''", "x", "1 "] {
            assert!(arg(bad).sector("").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sector_of_64_bits_may_have_a_plus_sign_and_does_not_wrap() {
        let arg = |text| Arg { index: 0, text };
        assert_eq!(arg("+18446744073709551615").sector_u64("").unwrap(), Sector(u64::MAX));
        for bad in ["18446744073709551616", "-1", "", "+", "++1", "0x10", "1 "] {
            assert!(arg(bad).sector_u64("").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_of_64_bits_is_decimal_or_hexadecimal() {
        let arg = |text| Arg { index: 0, text };
        assert_eq!(arg("18446744073709551615").u64("").unwrap(), u64::MAX);
        for text in ["ff", "0xFF", "0Xff", "+0xff", "00ff"] {
            assert_eq!(arg(text).hex_u64("").unwrap(), 255, "{text}");
        }
        assert_eq!(arg("ffffffffffffffff").hex_u64("").unwrap(), u64::MAX);
        for bad in ["10000000000000000", "", "0x", "-1", "x", "0x0x1", "+", "1 ", "fg"] {
            assert!(arg(bad).hex_u64("").is_err(), "{bad}");
        }
        for bad in ["18446744073709551616", "", "0x10", "-1", "1f"] {
            assert!(arg(bad).u64("").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_that_is_scanned_wraps_around() {
        let arg = |text| Arg { index: 0, text };
        assert_eq!(arg("0512").wrapping_u32("").unwrap(), 512);
        assert_eq!(arg("4294967297").wrapping_u32("").unwrap(), 1);
        for bad in ["-1", "+1", "1x", "x", ""] {
            assert!(arg(bad).wrapping_u32("").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_with_a_sign_has_no_more_than_32_bits() {
        let arg = |text| Arg { index: 0, text };
        for (text, number) in [("+8", 8), ("-8", -8), ("007", 7), ("-2147483648", i32::MIN)] {
            assert_eq!(arg(text).i32(""), Ok(number), "{text}");
        }
        for bad in ["2147483648", "-2147483649", "", "+", "-", "+-1", "0x8", "1x", " 1"] {
            assert!(arg(bad).i32("").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_long_word_is_cut_in_messages() {
        let long = "é".repeat(1000);
        let error = Arg { index: 0, text: &long }.sector("Bad").unwrap_err().to_string();
        assert!(error.contains(&"é".repeat(QUOTED)) && error.len() < 300, "{error}");
    }

    #[test]
    fn a_count_may_have_a_plus_sign_and_no_more_than_32_bits() {
        let arg = |text| Arg { index: 0, text };
        assert_eq!(arg("+2").positive_u32("").unwrap(), 2);
        for bad in ["0", "-1", "x", "4294967296", "", "+", "2 "] {
            assert!(arg(bad).positive_u32("").is_err(), "{bad}");
        }
    }
}
