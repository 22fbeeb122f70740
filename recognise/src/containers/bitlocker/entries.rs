//! BitLocker's metadata entries: each says its size and kind, and some hold further ones.

use std::fmt;

use serde::Serialize;

use super::{BitLocker, Block, ENCRYPTED, HEADERS_BYTES, guid};
use crate::Error;
use crate::bytes::{array, le16, le32, le64};

/// The header of an entry: size, role, kind, version; two bytes each.
const ENTRY_BYTES: usize = 8;
/// More protectors than any volume has.
const MOST_PROTECTORS: usize = 64;

/// What keeps the volume's master key.
#[derive(Clone, Debug, Serialize)]
pub struct Protector {
    /// Its GUID.
    pub guid: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What opens it.
    pub protection: Protection,
    /// The salt of a passphrase.
    pub salt: [u8; 16],
    /// A key that lies open, on volumes whose protection is suspended.
    #[serde(skip)]
    pub(super) clear_key: Option<Vec<u8>>,
    /// The master key under this protector's key.
    #[serde(skip)]
    pub(super) sealed: Option<Sealed>,
}

/// What opens a protector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// Nothing: its key lies beside it.
    ClearKey,
    /// The machine's TPM.
    Tpm,
    /// A file on a memory stick (`.BEK`).
    StartupKey,
    /// The TPM with a PIN.
    TpmPin,
    /// 48 digits.
    RecoveryKey,
    /// A smart card.
    SmartCard,
    /// A passphrase.
    Passphrase,
    /// Something else.
    Unknown,
}

/// A value under AES-CCM.
#[derive(Clone, Debug, Default)]
pub(super) struct Sealed {
    pub(super) nonce: [u8; 12],
    pub(super) tag: [u8; 16],
    pub(super) bytes: Vec<u8>,
}

/// One entry.
pub(super) struct Entry<'a> {
    pub(super) role: u16,
    pub(super) kind: u16,
    pub(super) value: &'a [u8],
}

/// Goes through entries up to the end, or to one without a size.
pub(super) fn entries(mut bytes: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, Error>> {
    std::iter::from_fn(move || {
        let size =
            bytes.get(..2).map(|size| usize::from(le16(size, 0))).filter(|size| *size > 0)?;
        if size < ENTRY_BYTES || size > bytes.len() {
            let left = std::mem::take(&mut bytes).len();
            return Some(Err(Error::damaged(format!("an entry of {size} bytes in {left}"))));
        }
        let (entry, rest) = bytes.split_at(size);
        bytes = rest;
        let (role, kind) = (le16(entry, 2), le16(entry, 4));
        Some(Ok(Entry { role, kind, value: &entry[ENTRY_BYTES..] }))
    })
}

impl Entry<'_> {
    /// Returns the value, which is `least` bytes long at least.
    pub(super) fn at_least(&self, least: usize) -> Result<&[u8], Error> {
        let (role, found) = (self.role, self.value.len());
        let value = (found >= least).then_some(self.value);
        value.ok_or_else(|| {
            Error::damaged(format!(
                "entry {role:#x}: expected {least} bytes at least, found {found}"
            ))
        })
    }

    fn sealed(&self) -> Result<Sealed, Error> {
        let value = self.at_least(28)?;
        let (nonce, tag) = (array(value, 0), array(value, 12));
        Ok(Sealed { nonce, tag, bytes: value[28..].to_vec() })
    }
}

/// Reads what the metadata say; the boot sector's part is left for the caller.
pub(super) fn read(block: &Block) -> Result<BitLocker, Error> {
    let bytes = &block.bytes;
    let (cipher, key_bytes) = cipher(le16(bytes, 64 + 36))?;
    let mut volume = BitLocker {
        to_go: false,
        sector_size: 512,
        volume_size: le64(bytes, 16),
        guid: guid(array(bytes, 64 + 16)),
        description: None,
        created: unix_time(le64(bytes, 64 + 40)),
        cipher,
        key_bytes,
        metadata_offsets: [32, 40, 48].map(|at| le64(bytes, at)),
        header_offset: 0,
        header_size: 0,
        protectors: Vec::new(),
        obstacle: None,
        warnings: Vec::new(),
        volume_key: Sealed::default(),
        validation: validation(&block.validation)?,
        digest: crate::containers::kdf::hash_by_name("sha256", "metadata")?.digest(bytes),
    };
    let (now, next) = (le16(bytes, 12), le16(bytes, 14));
    if (now, next) != (ENCRYPTED, ENCRYPTED) {
        volume.obstacle = Some(format!("a volume in state {now}, next {next} (not all encrypted)"));
    }
    let end = 64 + le32(bytes, 64) as usize;
    if end < HEADERS_BYTES || end > bytes.len() {
        return Err(Error::damaged(format!("entries that end at {end} of {}", bytes.len())));
    }
    for entry in entries(&bytes[HEADERS_BYTES..end]) {
        volume.take(&entry?)?;
    }
    if volume.volume_key.bytes.is_empty() {
        return Err(Error::damaged("metadata: no volume key"));
    }
    if volume.header_size == 0 {
        return Err(Error::damaged("metadata: they do not say where the first sectors are"));
    }
    Ok(volume)
}

impl BitLocker {
    fn take(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        match entry.role {
            2 if self.protectors.len() < MOST_PROTECTORS => {
                self.protectors.push(protector(entry)?);
            }
            3 if self.volume_key.bytes.is_empty() => self.volume_key = entry.sealed()?,
            7 => self.description = self.description.take().or_else(|| Some(utf16(entry.value))),
            0xf => {
                let value = entry.at_least(16)?;
                (self.header_offset, self.header_size) = (le64(value, 0), le64(value, 8));
            }
            _ => {}
        }
        Ok(())
    }
}

fn protector(entry: &Entry<'_>) -> Result<Protector, Error> {
    let value = entry.at_least(28)?;
    let mut protector = Protector {
        guid: guid(array(value, 0)),
        name: None,
        protection: Protection::of(le16(value, 26)),
        salt: [0; 16],
        clear_key: None,
        sealed: None,
    };
    for entry in entries(&value[28..]) {
        let entry = entry?;
        match entry.kind {
            1 => protector.clear_key = Some(entry.at_least(4)?[4..].to_vec()),
            2 => protector.name = Some(utf16(entry.value)),
            3 => protector.salt = array(entry.at_least(20)?, 4),
            5 => protector.sealed = Some(entry.sealed()?),
            _ => {}
        }
    }
    Ok(protector)
}

impl Protection {
    fn of(code: u16) -> Protection {
        match code {
            0x0000 => Protection::ClearKey,
            0x0100 => Protection::Tpm,
            0x0200 => Protection::StartupKey,
            0x0500 => Protection::TpmPin,
            0x0800 => Protection::RecoveryKey,
            0x1000 => Protection::SmartCard,
            0x2000 => Protection::Passphrase,
            _ => Protection::Unknown,
        }
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protection::ClearKey => "VMK protected with clear key",
            Protection::Tpm => "VMK protected with TPM",
            Protection::StartupKey => "VMK protected with startup key",
            Protection::TpmPin => "VMK protected with TPM and PIN",
            Protection::RecoveryKey => "VMK protected with recovery passphrase",
            Protection::SmartCard => "VMK protected with smart card",
            Protection::Passphrase => "VMK protected with passphrase",
            Protection::Unknown => "VMK with unknown protection",
        })
    }
}

/// Returns the cipher and the volume key's length in bytes.
fn cipher(code: u16) -> Result<(&'static str, usize), Error> {
    Ok(match code {
        0x8000 => ("aes-cbc-elephant", 32),
        0x8001 => ("aes-cbc-elephant", 64),
        0x8002 => ("aes-cbc-eboiv", 16),
        0x8003 => ("aes-cbc-eboiv", 32),
        0x8004 => ("aes-xts-plain64", 32),
        0x8005 => ("aes-xts-plain64", 64),
        _ => {
            let (place, why) = ("metadata".into(), "BitLocker has none by this number".into());
            return Err(Error::UnknownCipher { place, cipher: format!("{code:#06x}"), why });
        }
    })
}

/// Reads the digest of the metadata, which only the master key opens.
fn validation(bytes: &[u8]) -> Result<Sealed, Error> {
    let entry = entries(&bytes[8..]).next();
    let (size, entry) = (le16(bytes, 8), entry.ok_or_else(|| Error::damaged("no digest"))??);
    if size != 80 || (entry.role, entry.kind) != (0, 5) {
        let (role, kind) = (entry.role, entry.kind);
        let found = format!("{size} bytes, role {role}, kind {kind}");
        return Err(Error::damaged(format!("metadata's digest: expected 80, 0, 5; found {found}")));
    }
    entry.sealed()
}

/// Reads text that ends at the first NUL. Control characters would reach a terminal.
fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|unit| le16(unit, 0)).take_while(|unit| *unit != 0);
    let text = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
    text.map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Turns a time in tenths of a microsecond since 1601 into seconds since 1970.
fn unix_time(filetime: u64) -> u64 {
    filetime.saturating_sub(116_444_736_000_000_000) / 10_000_000
}
