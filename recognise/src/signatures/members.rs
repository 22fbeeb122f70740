//! Members of something larger, and what a layer keeps beside its data: bcache and bcachefs, DRBD,
//! Stratis, VDO, hashes of dm-verity, tags of dm-integrity, stores of dm-snapshot.

use super::{Found, Window, text};
use crate::bytes::{be32, be64, le16, le32, le64};

/// Where its signature is enough, or all that it has.
pub(super) fn named(_: &Window, _: u64) -> Option<Found> {
    Some(Found::default())
}

pub(super) fn bcache(window: &Window, _: u64) -> Option<Found> {
    let block = window.at(4096, 208)?;
    let keys = usize::from(le16(&block, 206));
    if keys > 256 || le64(&block, 8) != 8 {
        return None;
    }
    let summed = window.at(4096, 208 + 8 * keys)?;
    if crc64(&summed[8..]) != le64(&block, 0) {
        return None;
    }
    let (label, uuid) = (text::label(&block[72..104]), text::uuid(&block[40..56]));
    Some(Found { label, uuid, size: None })
}

/// Sums by CRC-64 of ECMA-182, not reflected, inverted before and after.
fn crc64(bytes: &[u8]) -> u64 {
    let step = |sum: u64, _| (sum << 1) ^ if sum >> 63 != 0 { 0x42f0_e1eb_a9ea_3693 } else { 0 };
    let byte = |sum: u64, byte: &u8| (0..8).fold(sum ^ u64::from(*byte) << 56, step);
    !bytes.iter().fold(!0, byte)
}

/// bcachefs. Of its checksums CRC-32C and CRC-64 are verified.
pub(super) fn bcachefs(window: &Window, at: u64) -> Option<Found> {
    let start = at.checked_sub(24)?;
    let block = window.at(start, 752)?;
    let (index, devices) = (block[122], block[123]);
    let len = 752 + u64::from(le32(&block, 124)) * 8;
    let shift = block[240 + 17];
    let fits =
        le64(&block, 104) == start / 512 && index < devices && shift <= 16 && len <= 512 << shift;
    if !fits {
        return None;
    }
    // What is longer than is read at once is taken unverified.
    if let Some(bytes) = window.at(start, usize::try_from(len).ok()?) {
        let whole = match le64(&block, 144) >> 2 & 0x3f {
            1 => crc32c::crc32c(&bytes[16..]) == le32(&block, 0),
            2 => crc64(&bytes[16..]) == le64(&block, 0),
            _ => true,
        };
        if !whole {
            return None;
        }
    }
    let (label, uuid) = (text::label(&block[72..104]), text::uuid(&block[56..72]));
    Some(Found { label, uuid, size: None })
}

/// DRBD's metadata at the end, of version 8 and 9: what is after them in their block is zero.
pub(super) fn drbd(window: &Window, at: u64) -> Option<Found> {
    let start = window.len().checked_sub(4096)?;
    let block = window.at(start, 4096)?;
    let ninth = window.at(at + 3, 1)?[0] == 0x6d;
    let (uuid, end) = if ninth { (48, 1392) } else { (40, 100) };
    if be32(&block, 80) != 4096 || block[end..].iter().any(|byte| *byte != 0) {
        return None;
    }
    let uuid = Some(be64(&block, uuid)).filter(|id| *id != 0).map(|id| format!("{id:x}"));
    Some(Found { uuid, ..Found::default() })
}

pub(super) fn stratis(window: &Window, _: u64) -> Option<Found> {
    let block = [1u64, 9].into_iter().find_map(|sector| {
        let block = window.at(sector * 512, 512)?;
        (crc32c::crc32c(&block[4..]) == le32(&block, 0)).then_some(block)
    })?;
    let id = text::label(&block[64..96]).filter(|id| id.len() == 32 && id.is_ascii())?;
    let uuid = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-");
    let size = le64(&block, 20).checked_mul(512);
    Some(Found { label: None, uuid: Some(uuid), size })
}

pub(super) fn vdo(window: &Window, _: u64) -> Option<Found> {
    let uuid = text::uuid(&window.at(40, 16)?);
    Some(Found { uuid, ..Found::default() })
}

pub(super) fn verity(window: &Window, _: u64) -> Option<Found> {
    let block = window.at(0, 512)?;
    let uuid = text::uuid(&block[16..32]);
    (le32(&block, 8) == 1).then_some(Found { uuid, ..Found::default() })
}

pub(super) fn integrity(window: &Window, _: u64) -> Option<Found> {
    (window.at(8, 1)?[0] != 0).then(Found::default)
}

pub(super) fn drbd_manage(window: &Window, _: u64) -> Option<Found> {
    let header = window.at(0, 44)?;
    let id = &header[11..43];
    let fits = id.iter().all(u8::is_ascii_hexdigit) && header[43] == b'\n';
    fits.then(|| Found { uuid: text::label(id), ..Found::default() })
}
