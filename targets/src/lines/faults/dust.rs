//! `dust <dev> <start> <block bytes>`

use std::fmt;

use sim_core::{CtrError, Errno, Sectors, Words};

use crate::lines::place::Place;
use crate::lines::words::{DeviceWord, Devices, from_text};

/// The largest block: 1 GiB.
const MAX_BLOCK: Sectors = Sectors(2_097_152);

/// A table line of `dust`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// Where the target's sectors lie.
    pub place: Place<D>,
    /// The length of a block: a power of two, printed in bytes.
    pub block: Sectors,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const COUNT: &str = "Invalid argument count";
        words.exactly(3, COUNT)?;
        let word = words.at(2, COUNT)?;
        let bytes = word.positive_u32("Invalid block size parameter")?;
        if bytes < 512 {
            return Err(word.error("512 or more", "Block size must be at least 512"));
        }
        if !bytes.is_power_of_two() {
            return Err(word.error("a power of two", "Block size must be a power of 2"));
        }
        let (block, most) = (Sectors::in_bytes(bytes.into()), words.target_len().min(MAX_BLOCK));
        if block > most {
            let expected = format_args!("at most {} bytes", most.bytes());
            return Err(word.error(expected, "Block size is too large"));
        }
        let start = words.at(1, COUNT)?.sector("Invalid device offset sector")?;
        let device = devices.open(words.at(0, COUNT)?, "Device lookup failed");
        // Whatever kept it from being opened.
        let device = device.map_err(|error| error.errno(Errno::INVAL))?;
        Ok(Line { place: Place { device, start }, block })
    }
}

impl Line<DeviceWord> {
    /// Reads the text after the type.
    pub fn from_text(text: &str, len: Sectors) -> Result<Line<DeviceWord>, CtrError> {
        from_text(text, len, Line::parse)
    }
}

impl<D: fmt::Display> fmt::Display for Line<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.block.bytes())
    }
}

/// A status line of `dust`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status<D> {
    /// The device.
    pub device: D,
    /// Bad blocks fail; they do as all others otherwise.
    pub fails: bool,
    /// Bad blocks that come and go are not logged.
    pub quiet: bool,
}

impl Status<DeviceWord> {
    /// Reads the text; nothing where it is no status.
    pub fn parse(text: &str) -> Option<Status<DeviceWord>> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [device, mode, voice] = words[..] else { return None };
        let fails = match mode {
            "fail_read_on_bad_block" => true,
            "bypass" => false,
            _ => return None,
        };
        let quiet = match voice {
            "quiet" => true,
            "verbose" => false,
            _ => return None,
        };
        Some(Status { device: device.into(), fails, quiet })
    }
}

impl<D: fmt::Display> fmt::Display for Status<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.fails { "fail_read_on_bad_block" } else { "bypass" };
        let voice = if self.quiet { "quiet" } else { "verbose" };
        write!(f, "{} {mode} {voice}", self.device)
    }
}
