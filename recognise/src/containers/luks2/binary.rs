//! The binary header of LUKS2: where the JSON text is, and its checksum.

use zeroize::Zeroizing;

use super::HeaderCopy;
use crate::bytes::{be16, be64, text};
use crate::containers::kdf::hash_by_name;
use crate::containers::keys;
use crate::{Error, Source, source};

pub(crate) const MAGIC_FIRST: &[u8; 6] = b"LUKS\xba\xbe";
const MAGIC_SECOND: &[u8; 6] = b"SKUL\xba\xbe";

/// The binary header's size; the JSON text follows it.
pub(super) const BINARY_BYTES: usize = 4096;

/// What a copy of the header may take: powers of two from 16 KiB to 4 MiB. The second copy follows
/// the first, so these are also the places where it may be.
const SIZES: std::ops::RangeInclusive<u32> = 14..=22;

const CHECKSUM: std::ops::Range<usize> = 448..512;

/// A copy of the header whose checksum is right.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) header_bytes: u64,
    pub(super) seqid: u64,
    pub(super) label: String,
    pub(super) subsystem: String,
    pub(super) uuid: String,
    pub(super) checksum: String,
    pub(super) copy: HeaderCopy,
    bytes: Zeroizing<Vec<u8>>,
}

impl Raw {
    /// Returns the JSON area with its padding.
    pub(super) fn json(&self) -> &[u8] {
        &self.bytes[BINARY_BYTES..]
    }
}

/// Reads the copy at `offset` and compares its checksum.
pub(super) fn read(image: &dyn Source, offset: u64, copy: HeaderCopy) -> Result<Raw, Error> {
    let head = source::read(image, offset, BINARY_BYTES)?;
    let damaged = |what: String| Error::damaged(format!("copy at {offset:#x}: {what}"));
    let magic = match copy {
        HeaderCopy::Primary => MAGIC_FIRST,
        HeaderCopy::Secondary => MAGIC_SECOND,
    };
    if head[..6] != *magic {
        return Err(damaged("no LUKS2 magic".into()));
    }
    if be16(&head, 6) != 2 {
        return Err(damaged(format!("version: expected 2, found {}", be16(&head, 6))));
    }
    let (header_bytes, own_offset) = (be64(&head, 8), be64(&head, 256));
    if own_offset != offset {
        return Err(damaged(format!("it says that it is at {own_offset:#x}")));
    }
    if !SIZES.map(|power| 1 << power).any(|size| size == header_bytes) {
        let found = format!("found {header_bytes}");
        return Err(damaged(format!("size: expected a power of two, 16 KiB to 4 MiB, {found}")));
    }
    if copy == HeaderCopy::Secondary && header_bytes != offset {
        return Err(damaged(format!("it says that the first copy takes {header_bytes} bytes")));
    }
    let bytes = source::read(image, offset, usize::try_from(header_bytes).expect("4 MiB at most"))?;
    let checksum = text(&bytes[72..104]);
    if !checksum_matches(&bytes, &checksum)? {
        return Err(damaged(format!("{checksum} checksum does not match")));
    }
    Ok(Raw {
        header_bytes,
        seqid: be64(&bytes, 16),
        label: text(&bytes[24..72]),
        subsystem: text(&bytes[208..256]),
        uuid: text(&bytes[168..208]),
        checksum,
        copy,
        bytes,
    })
}

/// Looks for the second copy at each place where it may be.
pub(super) fn search_second(image: &dyn Source) -> Result<Raw, Error> {
    let mut why = None;
    for offset in SIZES.map(|power| 1u64 << power) {
        match read(image, offset, HeaderCopy::Secondary) {
            Ok(raw) => return Ok(raw),
            // Of what is wrong at nine places, the one where there is something is of interest.
            Err(error) if has_magic(image, offset) => why = why.or(Some(error)),
            Err(_) => {}
        }
    }
    Err(why.unwrap_or_else(|| Error::damaged("no second copy at any of its places")))
}

fn has_magic(image: &dyn Source, offset: u64) -> bool {
    let mut magic = [0; 6];
    image.read_at(offset, &mut magic).is_ok_and(|()| magic == *MAGIC_SECOND)
}

/// Compares the checksum: over all of the copy, with the checksum's field as zeros.
fn checksum_matches(bytes: &[u8], name: &str) -> Result<bool, Error> {
    let hash = hash_by_name(name, "header checksum")?;
    if hash.len() > CHECKSUM.len() {
        return Err(Error::damaged(format!("header checksum: {name} does not fit its field")));
    }
    let mut zeroed = bytes.to_vec();
    zeroed[CHECKSUM].fill(0);
    Ok(keys::same(&hash.digest(&zeroed), &bytes[CHECKSUM][..hash.len()]))
}
