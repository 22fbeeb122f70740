//! What becomes of the words of a line that name devices.

use std::fmt;

use sim_core::{Arg, CtrError, DevNumber, Sectors, Words, is_space, split_words};

/// What becomes of the words that name devices, while a line is read.
pub trait Devices {
    /// What a line has for a device.
    type Device;

    /// Takes the device that a word names; `kernel` is the kernel's text for where that fails.
    fn open(&mut self, word: Arg<'_>, kernel: &str) -> Result<Self::Device, CtrError>;

    /// Returns what is known of a device; what cannot be checked without is left out.
    fn facts(&self, device: &Self::Device) -> Option<DeviceFacts>;

    /// Returns how many processors the machine may have, where that is known.
    fn processors(&self) -> Option<u32> {
        None
    }

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

    fn open(&mut self, word: Arg<'_>, _kernel: &str) -> Result<DeviceWord, CtrError> {
        Ok(DeviceWord(word.text().to_owned()))
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
        let ends = |c| is_space(c) || c == '\\';
        self.0.chars().try_for_each(|c| match ends(c) {
            true => write!(f, "\\{c}"),
            false => write!(f, "{c}"),
        })
    }
}

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
        false => text.split(is_space).filter(|word| !word.is_empty()).collect(),
        true => {
            unescaped = split_words(text);
            unescaped.iter().map(String::as_str).collect()
        }
    };
    parse(&mut Words::new(&words, len), &mut AsWritten)
}
