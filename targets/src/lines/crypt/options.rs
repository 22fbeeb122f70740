//! The optional words of `crypt`.

use std::fmt;

use crypto::IvUnit;
use sim_core::{Arg, CtrError, Sectors, Words};

use crate::lines::y_or_n;

/// The most optional arguments; the limit of 6.12.
const MAX_OPTIONS: u32 = 9;

/// The largest tag of a sector, in bytes: the kernel's `MAX_TAG_SIZE`.
const MAX_TAG_SIZE: u32 = 480;

const WRONG_COUNT: &str = "Invalid number of feature args";
const UNKNOWN: &str = "Invalid feature arguments";

/// What the optional words ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Discards go on to the device.
    pub allow_discards: bool,
    /// Words about where and how the kernel schedules its work: taken, printed, and of no effect.
    pub(crate) scheduling: [bool; SCHEDULING.len()],
    /// Bytes of a tag, and the profile as it was written.
    pub(crate) integrity: Option<(u32, String)>,
    pub(crate) integrity_key_size: Option<u32>,
    /// Bytes of one unit of encryption.
    pub sector_size: u32,
    /// What initialization vectors count.
    pub iv_unit: IvUnit,
}

/// In the order in which a table prints them.
const SCHEDULING: [&str; 5] = [
    "same_cpu_crypt",
    "high_priority",
    "submit_from_crypt_cpus",
    "no_read_workqueue",
    "no_write_workqueue",
];

impl Options {
    /// Writes the options as a measurement has them, each with a comma behind.
    pub(crate) fn measured(&self) -> String {
        let counts_units = self.iv_unit == IvUnit::Large;
        let scheduling = SCHEDULING.into_iter().zip(self.scheduling);
        let flags = [("allow_discards", self.allow_discards)].into_iter().chain(scheduling);
        let flags = flags.chain([("iv_large_sectors", counts_units)]);
        let mut text: String = flags.map(|(name, is)| format!("{name}={},", y_or_n(is))).collect();
        if self.sector_size != Options::default().sector_size {
            text += &format!("sector_size={},", self.sector_size);
        }
        text
    }

    /// Reads the optional arguments, of which the first says how many there are. What follows
    /// those is left unread, as the kernel does.
    pub(super) fn parse(words: &Words<'_>, first: usize) -> Result<Options, CtrError> {
        let mut options = Options::default();
        for word in words.group(first, MAX_OPTIONS, WRONG_COUNT)? {
            options.take(word, words.target_len())?;
        }
        Ok(options)
    }

    fn take(&mut self, word: Arg<'_>, len: Sectors) -> Result<(), CtrError> {
        let text = word.text();
        let same = |name: &str| text.eq_ignore_ascii_case(name);
        if same("allow_discards") {
            self.allow_discards = true;
        } else if let Some(at) = SCHEDULING.iter().position(|name| same(name)) {
            self.scheduling[at] = true;
        } else if same("iv_large_sectors") {
            self.iv_unit = IvUnit::Large;
        } else if let Some(value) = text.strip_prefix("integrity:") {
            self.integrity = Some(integrity(word, value)?);
        } else if let Some(value) = text.strip_prefix("integrity_key_size:").and_then(decimal) {
            let kernel = "Invalid integrity_key_size argument";
            let size = Some(value).filter(|value| *value > 0);
            self.integrity_key_size =
                Some(size.ok_or_else(|| word.error("a size above zero", kernel))?);
        } else if let Some(value) = text.strip_prefix("sector_size:").and_then(decimal) {
            self.sector_size = sector_size(word, value)?;
            if !len.bytes().is_multiple_of(self.sector_size.into()) {
                let kernel = "Device size is not multiple of sector_size feature";
                let expected = format_args!("a divisor of the device's {} bytes", len.bytes());
                return Err(word.error(expected, kernel));
            }
        } else {
            return Err(word.error("an option of crypt", UNKNOWN));
        }
        Ok(())
    }

    /// Tells whether the sectors were to carry tags, and with which profile.
    pub fn integrity(&self) -> Option<&str> {
        self.integrity.as_ref().map(|(_, profile)| profile.as_str())
    }

    /// Returns the length of a unit of encryption, in sectors.
    pub fn unit(&self) -> Sectors {
        Sectors::in_bytes(self.sector_size.into())
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            allow_discards: false,
            scheduling: [false; SCHEDULING.len()],
            integrity: None,
            integrity_key_size: None,
            sector_size: 512,
            iv_unit: IvUnit::Sector512,
        }
    }
}

impl fmt::Display for Options {
    /// Writes the options as a table line has them, with their count and a blank before it;
    /// nothing where there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.allow_discards.then(|| "allow_discards".to_owned()));
        let scheduling = SCHEDULING.iter().zip(self.scheduling).filter(|(_, set)| *set);
        words.extend(scheduling.map(|(name, _)| (*name).to_owned()));
        words.extend(self.integrity.iter().map(|(size, kind)| format!("integrity:{size}:{kind}")));
        let size = Some(self.sector_size).filter(|size| *size != 512);
        words.extend(size.map(|size| format!("sector_size:{size}")));
        words.extend((self.iv_unit == IvUnit::Large).then(|| "iv_large_sectors".to_owned()));
        words.extend(self.integrity_key_size.map(|size| format!("integrity_key_size:{size}")));
        if words.is_empty() {
            return Ok(());
        }
        write!(f, " {} {}", words.len(), words.join(" "))
    }
}

/// Reads `<bytes>:<profile>`.
fn integrity(word: Arg<'_>, value: &str) -> Result<(u32, String), CtrError> {
    let (size, profile) = value.split_once(':').unwrap_or((value, ""));
    let size = decimal(size).ok_or_else(|| word.error("integrity:BYTES:PROFILE", UNKNOWN))?;
    if !(1..=MAX_TAG_SIZE).contains(&size) {
        let expected = format_args!("a tag of 1 to {MAX_TAG_SIZE} bytes");
        return Err(word.error(expected, "Invalid integrity arguments"));
    }
    if !["aead", "none"].iter().any(|known| profile.eq_ignore_ascii_case(known)) {
        return Err(word.error("the profile `aead` or `none`", "Unknown integrity profile"));
    }
    Ok((size, profile.to_owned()))
}

/// Reads a size as the kernel does: the low 16 bits of a number.
fn sector_size(word: Arg<'_>, value: u32) -> Result<u32, CtrError> {
    match value & 0xffff {
        size @ (512 | 1024 | 2048 | 4096) => Ok(size),
        _ => {
            let kernel = "Invalid feature value for sector_size";
            Err(word.error("512, 1024, 2048 or 4096", kernel))
        }
    }
}

/// Reads digits and nothing else, modulo 2^32, as the kernel's `sscanf("%u")` does.
fn decimal(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digit = |n: u32, byte: u8| n.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'));
    Some(text.bytes().fold(0, digit))
}
