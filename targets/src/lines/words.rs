//! The words of a line, read as the kernel reads them, and what becomes of those that name devices.

use std::borrow::Cow;
use std::fmt;

use sim_core::{CtrError, DevNumber, Sector, Sectors, split_words};

/// The words after the type in a table line.
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
        if self.count() == count { Ok(()) } else { Err(self.wrong_count(count, kernel)) }
    }

    /// Refuses fewer words than `count`, in the kernel's words.
    pub fn at_least(&self, count: usize, kernel: &str) -> Result<(), CtrError> {
        if self.count() >= count { Ok(()) } else { Err(self.wrong_count(count, kernel)) }
    }

    fn wrong_count(&self, count: usize, kernel: &str) -> CtrError {
        let (found, s) = (self.count(), if count == 1 { "" } else { "s" });
        let detail = format!("expected {count} argument{s}, found {found}");
        // The first word too many, or the place of the first that is missing.
        CtrError::new(kernel).detail(detail).arg(count.min(found))
    }

    /// Returns the next word.
    pub fn next(&mut self, kernel: &str) -> Result<Word<'a>, CtrError> {
        let word = self.at(self.next, kernel)?;
        self.next += 1;
        Ok(word)
    }

    /// Returns the word at `index`, counted from 0.
    pub fn at(&self, index: usize, kernel: &str) -> Result<Word<'a>, CtrError> {
        match self.words.get(index) {
            Some(text) => Ok(Word { index, text }),
            None => Err(CtrError::new(kernel).arg(index).detail("argument missing")),
        }
    }

    /// Returns the words of a group of optional arguments: that at `first` says how many follow,
    /// `max` at most. None where there is no such word. What follows the group is left unread, as
    /// the kernel does (`dm_read_arg_group`).
    pub fn group(&self, first: usize, max: u32, kernel: &str) -> Result<Vec<Word<'a>>, CtrError> {
        let Ok(word) = self.at(first, kernel) else { return Ok(Vec::new()) };
        let left = u32::try_from(self.count() - first - 1).unwrap_or(u32::MAX);
        let most = max.min(left);
        let count = word.wrapping_u32(kernel).ok().filter(|count| *count <= most);
        let count =
            count.ok_or_else(|| word.error(format_args!("a number from 0 to {most}"), kernel))?;
        (first + 1..first + 1 + count as usize).map(|index| self.at(index, kernel)).collect()
    }
}

/// One word.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    index: usize,
    text: &'a str,
}

impl<'a> Word<'a> {
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
        let detail = format!("expected {expected}, found `{}`", shorten(self.text));
        CtrError::new(kernel).arg(self.index).detail(detail)
    }

    /// Reads a sector address, as the kernel's `sscanf("%llu")` does: decimal digits and nothing
    /// else, modulo 2^64.
    pub fn sector(&self, kernel: &str) -> Result<Sector, CtrError> {
        self.digits().map(Sector).ok_or_else(|| self.error("a sector number", kernel))
    }

    /// Reads a 32-bit number greater than zero, as the kernel's `kstrtouint` does: decimal, a
    /// plus sign allowed.
    pub fn positive_u32(&self, kernel: &str) -> Result<u32, CtrError> {
        let number = self.read_u32().filter(|number| *number > 0);
        number.ok_or_else(|| self.error("a number from 1 to 4294967295", kernel))
    }

    /// As [`positive_u32`](Self::positive_u32), with zero among the numbers.
    pub fn u32(&self, kernel: &str) -> Result<u32, CtrError> {
        self.read_u32().ok_or_else(|| self.error("a number from 0 to 4294967295", kernel))
    }

    /// Reads a 32-bit number, as the kernel's `sscanf("%u")` does: decimal digits and nothing
    /// else, modulo 2^32.
    pub fn wrapping_u32(&self, kernel: &str) -> Result<u32, CtrError> {
        self.digits().map(|number| number as u32).ok_or_else(|| self.error("a number", kernel))
    }

    fn read_u32(&self) -> Option<u32> {
        let digits = self.text.strip_prefix('+').unwrap_or(self.text);
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    }

    /// Reads digits and nothing else, modulo 2^64.
    fn digits(&self) -> Option<u64> {
        if self.text.is_empty() || !self.text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digit = |n: u64, byte| n.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        Some(self.text.bytes().fold(0, digit))
    }
}

/// The most characters of a word that a message repeats.
const QUOTED: usize = 64;

/// Cuts a word that is too long for a message.
fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(QUOTED) {
        None => text.into(),
        Some((end, _)) => format!("{}...", &text[..end]).into(),
    }
}

/// What becomes of the words that name devices, while a line is read.
pub trait Devices {
    /// What a line has for a device.
    type Device;

    /// Takes the device that a word names; `kernel` is the kernel's text for where that fails.
    fn open(&mut self, word: Word<'_>, kernel: &str) -> Result<Self::Device, CtrError>;

    /// Returns what is known of a device; what cannot be checked without is left out.
    fn facts(&self, device: &Self::Device) -> Option<DeviceFacts>;

    /// Takes a line that the kernel logs as it refuses a word.
    fn log(&mut self, module: &str, line: fmt::Arguments<'_>);
}

/// What a line is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// The device's number.
    pub number: DevNumber,
    /// The device's size.
    pub size: Sectors,
    /// The length of a logical block.
    pub logical_block: Sectors,
}

/// Takes the words for devices as they are, and checks nothing of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsWritten;

impl Devices for AsWritten {
    type Device = DeviceWord;

    fn open(&mut self, word: Word<'_>, _kernel: &str) -> Result<DeviceWord, CtrError> {
        Ok(DeviceWord(word.text.to_owned()))
    }

    fn facts(&self, _device: &DeviceWord) -> Option<DeviceFacts> {
        None
    }

    fn log(&mut self, _module: &str, _line: fmt::Arguments<'_>) {}
}

/// What a line calls a device: a number where it was read back, or a path. Printed with a backslash
/// before what would end the word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceWord(pub String);

impl DeviceWord {
    /// Returns the number that the word is, if it is one.
    pub fn number(&self) -> Option<DevNumber> {
        self.0.parse().ok()
    }
}

impl From<DevNumber> for DeviceWord {
    fn from(number: DevNumber) -> DeviceWord {
        DeviceWord(number.to_string())
    }
}

impl From<&str> for DeviceWord {
    fn from(word: &str) -> DeviceWord {
        DeviceWord(word.to_owned())
    }
}

impl fmt::Display for DeviceWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = |c| SPACES.contains(&c) || c == '\\';
        self.0.chars().try_for_each(|c| match ends(c) {
            true => write!(f, "\\{c}"),
            false => write!(f, "{c}"),
        })
    }
}

/// What separates words.
const SPACES: [char; 6] = [' ', '\t', '\n', '\r', '\x0b', '\x0c'];

/// Reads the words after the type in a table line of a target of this length, with the words for
/// devices as they are.
pub fn from_text<T>(
    text: &str,
    len: Sectors,
    parse: impl FnOnce(&mut Words<'_>, &mut AsWritten) -> Result<T, CtrError>,
) -> Result<T, CtrError> {
    let unescaped: Vec<String>;
    let words: Vec<&str> = match text.contains('\\') {
        // Not copied: a word may be a key.
        false => text.split(SPACES).filter(|word| !word.is_empty()).collect(),
        true => {
            unescaped = split_words(text);
            unescaped.iter().map(String::as_str).collect()
        }
    };
    parse(&mut Words::new(&words, len), &mut AsWritten)
}
