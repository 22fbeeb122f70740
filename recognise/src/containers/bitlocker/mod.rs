//! BitLocker: a boot sector that says where three copies of the metadata are.
//!
//! As Windows writes it since version 7 (documented by libbde's and dislocker's authors, and read
//! by cryptsetup as `bitlk`). Numbers are little-endian.

use serde::Serialize;

use crate::bytes::{array, le16, le32, le64};
use crate::{Error, Source, source};

mod dump;
mod entries;
mod layout;
mod unlock;

pub use entries::{Protection, Protector};

use entries::Sealed;

/// The size of each copy of the metadata, whose place reads as zeros, in bytes.
const METADATA_BYTES: u64 = 65536;
/// The size of the metadata's two headers; entries follow.
const HEADERS_BYTES: usize = 64 + 48;
/// What a volume of Vista begins with; later ones begin otherwise.
const BOOT_V1: [u8; 3] = [0xeb, 0x52, 0x90];
const BOOT_V2: [u8; 3] = [0xeb, 0x58, 0x90];
const SIGNATURE: &[u8; 8] = b"-FVE-FS-";
const SIGNATURE_TO_GO: &[u8; 8] = b"MSWIN4.1";
/// The kinds of volume that are encrypted as a whole, and that encrypt what is written.
const WHOLE: [u8; 16] = *b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";
const ON_WRITE: [u8; 16] = *b"\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8";
/// The state of a volume that is not being encrypted or decrypted.
const ENCRYPTED: u16 = 4;

/// A BitLocker volume's metadata.
#[derive(Clone, Debug, Serialize)]
pub struct BitLocker {
    /// Whether it was made for a removable drive, `BitLocker To Go`.
    pub to_go: bool,
    /// What is encrypted as one, in bytes.
    pub sector_size: u16,
    /// The volume's size in bytes.
    pub volume_size: u64,
    /// The volume's GUID.
    pub guid: String,
    /// The user's or the machine's words for the volume.
    pub description: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The cipher as dm-crypt takes it.
    pub cipher: &'static str,
    /// The length of the volume key in bytes.
    pub key_bytes: usize,
    /// Where the three copies of the metadata are, in bytes.
    pub metadata_offsets: [u64; 3],
    /// Where the volume's first sectors were moved to, in bytes.
    pub header_offset: u64,
    /// How much was moved, in bytes.
    pub header_size: u64,
    /// What keeps the volume's master key.
    pub protectors: Vec<Protector>,
    /// Why it cannot be opened, whatever the key.
    pub(crate) obstacle: Option<String>,
    /// Whether each copy of the metadata that was not used is at fault.
    #[serde(skip)]
    pub(crate) warnings: Vec<String>,
    /// The volume key under the master key.
    #[serde(skip)]
    volume_key: Sealed,
    /// The metadata's digest under the master key.
    #[serde(skip)]
    validation: Sealed,
    /// The metadata's digest as it is.
    #[serde(skip)]
    digest: Vec<u8>,
}

/// A copy of the metadata whose checksum is right.
struct Block {
    bytes: Vec<u8>,
    validation: Vec<u8>,
}

/// Whether an image begins as a BitLocker volume does.
pub(crate) fn is_bitlocker(head: &[u8]) -> bool {
    // A FAT file system may begin with the second signature as well: the GUID tells them apart.
    let guid = |at: usize| head.get(at..at + 16).is_some_and(|id| *id == WHOLE || *id == ON_WRITE);
    match head.get(3..11) {
        Some(signature) if signature == SIGNATURE => true,
        Some(signature) if signature == SIGNATURE_TO_GO => guid(424),
        _ => false,
    }
}

impl BitLocker {
    /// Reads the first copy of the metadata that is valid.
    pub(crate) fn read(image: &dyn Source) -> Result<BitLocker, Error> {
        let head = source::read(image, 0, 512)?;
        let boot: [u8; 3] = array(&head, 0);
        if boot == BOOT_V1 {
            return Err(Error::Unsupported("BitLocker of Windows Vista (version 1)".into()));
        }
        if boot != BOOT_V2 {
            return Err(Error::damaged(format!(
                "boot code: expected {BOOT_V2:x?}, found {boot:x?}"
            )));
        }
        let sector_size = match le16(&head, 11) {
            0 => 512,
            size @ (512 | 4096) => size,
            size => return Err(Error::Unsupported(format!("a sector size of {size} bytes"))),
        };
        let to_go = head[3..11] == *SIGNATURE_TO_GO;
        let at = if to_go { 424 } else { 160 };
        let obstacle = match array::<16>(&head, at) {
            WHOLE => None,
            ON_WRITE => Some("a volume that is encrypted as it is written (encrypt-on-write)"),
            _ => Some("a BitLocker volume of an unknown kind"),
        };
        let offsets = [0, 8, 16].map(|i| le64(&head, at + 16 + i));
        let (copy, block, warnings) = first_valid(image, offsets)?;
        let own = le64(&block.bytes, 32 + 8 * copy);
        if own != offsets[copy] {
            let what = format!("metadata at {}: it says that it is at {own}", offsets[copy]);
            return Err(Error::damaged(what));
        }
        let mut volume = entries::read(&block)?;
        volume.to_go = to_go;
        volume.sector_size = sector_size;
        volume.obstacle = obstacle.map(str::to_owned).or(volume.obstacle);
        volume.warnings = warnings;
        Ok(volume)
    }
}

fn first_valid(
    image: &dyn Source,
    offsets: [u64; 3],
) -> Result<(usize, Block, Vec<String>), Error> {
    let mut warnings = Vec::new();
    let mut first = None;
    for (copy, offset) in offsets.into_iter().enumerate() {
        match read_block(image, offset) {
            Ok(block) => return Ok((copy, block, warnings)),
            Err(error) => {
                warnings.push(format!("metadata copy {copy} is no good: {error}"));
                first.get_or_insert(error);
            }
        }
    }
    Err(first.expect("three were tried"))
}

/// Reads a copy of the metadata and compares its checksum.
fn read_block(image: &dyn Source, offset: u64) -> Result<Block, Error> {
    let damaged = |what: String| Error::damaged(format!("metadata at {offset}: {what}"));
    let head = source::read(image, offset, HEADERS_BYTES)?;
    if head[..8] != *SIGNATURE {
        return Err(damaged("no signature".into()));
    }
    let (size, version) = (usize::from(le16(&head, 8)) * 16, le16(&head, 10));
    if version != 2 {
        return Err(damaged(format!("version: expected 2, found {version}")));
    }
    if size < HEADERS_BYTES || size as u64 > METADATA_BYTES {
        return Err(damaged(format!("a size of {size} bytes")));
    }
    let bytes = source::read(image, offset, size)?.to_vec();
    let validation = source::read(image, offset.saturating_add(size as u64), 88)?.to_vec();
    let (found, crc) = (crc32fast::hash(&bytes), le32(&validation, 4));
    if le16(&validation, 0) < 8 || le16(&validation, 2) > 2 || found != crc {
        return Err(damaged(format!("checksum: expected {crc:#010x}, found {found:#010x}")));
    }
    Ok(Block { bytes, validation })
}

/// Prints a GUID, whose first three parts are little-endian.
fn guid(bytes: [u8; 16]) -> String {
    let hex = |part: &[u8]| crate::bytes::hex(part);
    let (low, mid, high) = (le32(&bytes, 0), le16(&bytes, 4), le16(&bytes, 6));
    format!("{low:08x}-{mid:04x}-{high:04x}-{}-{}", hex(&bytes[8..10]), hex(&bytes[10..]))
}
