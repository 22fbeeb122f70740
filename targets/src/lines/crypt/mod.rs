//! `crypt <cipher> <key> <iv_offset> <dev> <offset> [<#options> <options>]`

mod key;
mod options;

use std::fmt;

use crypto::{Fault, Spec};
use sim_core::{CtrError, Errno, Sectors, StatusWriter, Words};

use super::place::Place;
use super::words::{DeviceWord, Devices, from_text};

pub use key::{Key, KeyFault};
pub use options::Options;

const TOO_FEW: &str = "Not enough arguments";

/// A table line of `crypt`. `Display` prints the key itself, [`Line::write`] what is to be shown of
/// it, and `Debug` nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// What is read before the device.
    pub head: Head,
    /// What is added to a sector's number for its initialization vector.
    pub iv_offset: Sectors,
    /// Where the encrypted sectors lie.
    pub place: Place<D>,
}

/// What the kernel reads, and makes a cipher of, before it looks at the rest of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The cipher.
    pub spec: Spec,
    /// The key.
    pub key: Key,
    /// The optional words.
    pub options: Options,
}

impl Head {
    /// Where the cipher stands among the words.
    const CIPHER: usize = 0;

    /// Where the key stands among the words.
    const KEY: usize = 1;

    /// Reads key size, options, cipher and key, in the order of the kernel's checks. The next word
    /// is the IV offset.
    pub fn parse(words: &mut Words<'_>) -> Result<Head, CtrError> {
        words.at_least(5, TOO_FEW)?;
        let (cipher_word, key_word) = (words.next(TOO_FEW)?, words.next(TOO_FEW)?);
        if Key::size_in(key_word.text()).is_none() {
            let detail = "expected `:SIZE:TYPE:DESCRIPTION`";
            return Err(at(Head::KEY, "Cannot parse key size", detail));
        }
        let options = Options::parse(words, 5)?;
        let spec = Spec::parse(cipher_word.text()).map_err(Head::cipher_fault)?;
        let is_aead =
            options.integrity().is_some_and(|profile| profile.eq_ignore_ascii_case("aead"));
        if is_aead && !cipher_word.text().starts_with("capi:") {
            let detail = "an authenticated cipher needs the form `capi:...`";
            return Err(at(Head::CIPHER, "Bad cipher specification", detail));
        }
        let key = Key::parse(key_word.text()).map_err(Head::key_fault)?;
        Ok(Head { spec, key, options })
    }

    /// Reads the rest of the line: IV offset, device, start.
    pub fn parse_rest<D>(
        self,
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const IV_OFFSET: &str = "Invalid iv_offset sector";
        let iv_word = words.next(TOO_FEW)?;
        let iv_offset = iv_word.sector(IV_OFFSET)?.from_start();
        let unit = self.options.unit();
        if !iv_offset.0.is_multiple_of(unit.0) {
            return Err(iv_word.error(format_args!("a multiple of {unit} sectors"), IV_OFFSET));
        }
        let device = devices.open(words.next(TOO_FEW)?, "Device lookup failed")?;
        let start = words.next(TOO_FEW)?.sector("Invalid device sector")?;
        Ok(Line { head: self, iv_offset, place: Place { device, start } })
    }

    /// Makes the error of a key that cannot be used.
    pub(crate) fn key_fault(fault: KeyFault) -> CtrError {
        at(Head::KEY, "Error decoding and setting key", &fault.detail).errno(fault.errno)
    }

    /// Makes the error of a key that the cipher cannot use.
    pub(crate) fn key_refused(fault: Fault) -> CtrError {
        refuse(Head::KEY, fault)
    }

    /// Makes the error of a cipher that cannot be used.
    pub(crate) fn cipher_fault(fault: Fault) -> CtrError {
        refuse(Head::CIPHER, fault)
    }

    /// Makes the error of a device below that keeps no tags.
    pub(crate) fn no_tags(detail: &str) -> CtrError {
        at(Head::CIPHER, "Integrity profile not supported.", detail)
    }
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        Head::parse(words)?.parse_rest(words, devices)
    }
}

impl Line<DeviceWord> {
    /// Reads the text after the type.
    pub fn from_text(text: &str, len: Sectors) -> Result<Line<DeviceWord>, CtrError> {
        from_text(text, len, Line::parse)
    }
}

impl<D: fmt::Display> Line<D> {
    /// Writes the line with what the text is to show of its key.
    pub fn write(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        let Line { head: Head { spec, key, options }, iv_offset, place } = self;
        write!(out, "{spec} ")?;
        key.write(out)?;
        write!(out, " {iv_offset} {place}{options}")
    }
}

impl<D: fmt::Display> fmt::Display for Line<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { head: Head { spec, key, options }, iv_offset, place } = self;
        write!(f, "{spec} {key} {iv_offset} {place}{options}")
    }
}

/// Makes an error about a word that is not repeated in it: it may be a key.
fn at(word: usize, kernel: &str, detail: &str) -> CtrError {
    CtrError::new(kernel).arg(word).detail(detail)
}

fn refuse(word: usize, fault: Fault) -> CtrError {
    at(word, fault.kernel, &fault.detail).errno(Errno(fault.kind.errno()))
}
