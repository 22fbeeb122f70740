//! Images that are written once: squashfs, EROFS, cramfs, romfs; and what lies on flash: UBIFS, UBI.

use super::{Found, Window, linux::crc32c_without, text};
use crate::bytes::{be32, le16, le32, le64};

pub(super) fn squashfs(window: &Window, _: u64) -> Option<Found> {
    let block = window.at(0, 96)?;
    let size = Some(le64(&block, 40));
    (le16(&block, 28) >= 4).then_some(Found { size, ..Found::default() })
}

/// The versions before 4, which the processor's order of bytes was for.
pub(super) fn squashfs3(window: &Window, _: u64) -> Option<Found> {
    let block = window.at(0, 32)?;
    let big = block[..4] == *b"sqsh";
    let version = u16::from_be_bytes([block[28], block[29]]);
    let version = if big { version } else { version.swap_bytes() };
    (version <= 3).then(Found::default)
}

pub(super) fn erofs(window: &Window, at: u64) -> Option<Found> {
    let block = window.at(at, 128)?;
    let shift = u32::from(block[12]);
    if !(9..=16).contains(&shift) {
        return None;
    }
    if le32(&block, 8) & 1 != 0 {
        let summed = window.at(at, (1usize << shift).checked_sub(1024)?.max(128))?;
        if !crc32c_without(&summed, 4) != le32(&block, 4) {
            return None;
        }
    }
    let size = Some(u64::from(le32(&block, 36)) << shift);
    Some(Found { label: text::label(&block[64..80]), uuid: text::uuid(&block[48..64]), size })
}

pub(super) fn cramfs(window: &Window, _: u64) -> Option<Found> {
    let block = window.at(0, 64)?;
    let word = if block[0] == 0x45 { le32 } else { be32 };
    let size = word(&block, 4);
    // Only a short one is checked, as by libblkid: the whole image is summed.
    if word(&block, 8) & 1 != 0 && (64..=64 << 10).contains(&size) {
        let bytes = window.at(0, size as usize)?;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&bytes[..32]);
        sum.update(&[0; 4]);
        sum.update(&bytes[36..]);
        if sum.finalize() != word(&block, 32) {
            return None;
        }
    }
    Some(Found { label: text::label(&block[48..64]), uuid: None, size: Some(size.into()) })
}

pub(super) fn romfs(window: &Window, _: u64) -> Option<Found> {
    let size = be32(&window.at(8, 4)?, 0);
    let summed = window.at(0, size.min(512) as usize)?;
    let sum = summed.chunks_exact(4).fold(0u32, |sum, word| sum.wrapping_add(be32(word, 0)));
    if !summed.len().is_multiple_of(4) || sum != 0 {
        return None;
    }
    let label = text::label(&window.at(16, 16)?);
    Some(Found { label, uuid: None, size: Some(size.into()) })
}

pub(super) fn ubifs(window: &Window, _: u64) -> Option<Found> {
    let node = window.at(0, 4096)?;
    if !crc32fast::hash(&node[8..]) != le32(&node, 4) {
        return None;
    }
    let size = u64::from(le32(&node, 36)) * u64::from(le32(&node, 40));
    Some(Found { label: None, uuid: text::uuid(&node[108..124]), size: Some(size) })
}

pub(super) fn ubi(window: &Window, _: u64) -> Option<Found> {
    let header = window.at(0, 64)?;
    if !crc32fast::hash(&header[..60]) != be32(&header, 60) {
        return None;
    }
    let sequence = be32(&header, 24);
    let uuid = (sequence != 0).then(|| sequence.to_string());
    Some(Found { uuid, ..Found::default() })
}
