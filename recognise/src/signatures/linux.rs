//! File systems that Linux brought, or that live there: XFS, btrfs, JFS, ReiserFS, NILFS2, F2FS.

use crypto::hash::Hash;

use super::{Found, Window, text};
use crate::bytes::{be16, be32, be64, le16, le32, le64};

pub(super) fn xfs(window: &Window, _: u64) -> Option<Found> {
    let block = window.at(0, 512)?;
    let log = |at: usize| u32::from(block[at]);
    let is_log = |value: u32, log: u32| 1u32.checked_shl(log) == Some(value);
    let (block_size, sector, inode) = (be32(&block, 4), be16(&block, 102), be16(&block, 104));
    let (blocks, ag_blocks, ags) = (be64(&block, 8), be32(&block, 84), be32(&block, 88));
    let extent = be32(&block, 80).wrapping_mul(block_size);
    let most = u64::from(ags) * u64::from(ag_blocks);
    let least = most.saturating_sub(u64::from(ag_blocks)) + 64;
    let fits = ags != 0
        && (512..=32768).contains(&sector)
        && is_log(sector.into(), log(121))
        && (512..=65536).contains(&block_size)
        && is_log(block_size, log(120))
        && (256..=2048).contains(&inode)
        && is_log(inode.into(), log(122))
        && log(120).checked_sub(log(122)) == Some(log(123))
        && (4 << 10..=1 << 30).contains(&extent)
        && block[127] <= 100
        && blocks != 0
        && (least..=most).contains(&blocks);
    if !fits || (be16(&block, 100) & 0xf == 5 && !xfs_is_whole(window, sector.into())?) {
        return None;
    }
    let size = blocks.checked_mul(block_size.into());
    Some(Found { label: text::label(&block[108..120]), uuid: text::uuid(&block[32..48]), size })
}

/// Says whether the checksum of a superblock of version 5 is right.
fn xfs_is_whole(window: &Window, sector: usize) -> Option<bool> {
    let block = window.at(0, sector)?;
    let features = (be16(&block, 100) & 0x8000 != 0) && (be32(&block, 200) & 0x100 != 0);
    Some(features && crc32c_without(&block, 224) == le32(&block, 224))
}

/// Sums bytes by CRC-32C as if the four at `at`, which hold the sum, were zero.
pub(super) fn crc32c_without(bytes: &[u8], at: usize) -> u32 {
    let sum = crc32c::crc32c(&bytes[..at]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    crc32c::crc32c_append(sum, &bytes[at + 4..])
}

/// A log of XFS on a device of its own, by its first record. libblkid searches 256 KiB for one; a log
/// that mkfs made begins with it.
pub(super) fn xfs_log(window: &Window, _: u64) -> Option<Found> {
    let record = window.at(0, 512)?;
    let version = be32(&record, 8);
    let fits = version != 0
        && version & !3 == 0
        && (1..=i32::MAX as u32).contains(&be32(&record, 12))
        && (1..=3).contains(&be32(&record, 300));
    fits.then(Found::default)
}

pub(super) fn btrfs(window: &Window, _: u64) -> Option<Found> {
    let block = window.at(64 << 10, 4096)?;
    let summed = &block[32..];
    let whole = match le16(&block, 196) {
        0 => crc32c::crc32c(summed) == le32(&block, 0),
        2 => *Hash::by_name("sha256")?.digest(summed) == block[..32],
        // xxHash64 and BLAKE2b: to check those too would take two more crates.
        _ => true,
    };
    if !whole || le32(&block, 144) == 0 {
        return None;
    }
    let size = Some(le64(&block, 112));
    Some(Found { label: text::label(&block[299..555]), uuid: text::uuid(&block[32..48]), size })
}

pub(super) fn jfs(window: &Window, at: u64) -> Option<Found> {
    let block = window.at(at, 184)?;
    let (size, log, factor) = (le32(&block, 16), le16(&block, 20), le16(&block, 22));
    let (physical, physical_log) = (le32(&block, 24), le16(&block, 28));
    let fits = 1u32.checked_shl(log.into()) == Some(size)
        && 1u32.checked_shl(physical_log.into()) == Some(physical)
        && log.checked_sub(physical_log) == Some(factor);
    if !fits {
        return None;
    }
    let size = le64(&block, 8).checked_mul(physical.into());
    Some(Found { label: text::label(&block[152..168]), uuid: text::uuid(&block[136..152]), size })
}

pub(super) fn reiserfs(window: &Window, at: u64) -> Option<Found> {
    let base = if at < 64 << 10 { 8 << 10 } else { 64 << 10 };
    let block = window.at(base, 128)?;
    let block_size = u64::from(le16(&block, 44));
    // One in the journal of a file system that was there first is not at its own place.
    if block_size < 512 || (base >> 10) / (block_size >> 9) > u64::from(le32(&block, 12)) / 2 {
        return None;
    }
    let size = u64::from(le32(&block, 0)).checked_mul(block_size);
    if !matches!(window.at(at + 6, 1)?[0], b'2' | b'3') {
        return Some(Found { size, ..Found::default() });
    }
    Some(Found { label: text::label(&block[100..116]), uuid: text::uuid(&block[84..100]), size })
}

pub(super) fn reiser4(window: &Window, at: u64) -> Option<Found> {
    let block = window.at(at, 52)?;
    let large_enough = u32::from(block[19]) * 256 >= 512;
    let found =
        Found { label: text::label(&block[36..52]), uuid: text::uuid(&block[20..36]), size: None };
    large_enough.then_some(found)
}

/// NILFS2 has its superblock twice: at 1024, and 4096 before the end of the last whole sector. The one of
/// the later checkpoint counts.
pub(super) fn nilfs2(window: &Window, _: u64) -> Option<Found> {
    let second = ((window.len() / 512).checked_sub(8)?) * 512;
    let is_whole = |offset: &u64| nilfs2_is_whole(window, *offset).unwrap_or(false);
    let copies = [1024, second].into_iter().filter(is_whole);
    let checkpoint = |offset: &u64| window.at(offset + 56, 8).map(|bytes| le64(&bytes, 0));
    // Of two that are equal the first is taken, as libblkid has it.
    let at = copies.rev().max_by_key(checkpoint)?;
    let block = window.at(at, 1024)?;
    let size = Some(le64(&block, 32));
    Some(Found { label: text::label(&block[168..248]), uuid: text::uuid(&block[152..168]), size })
}

fn nilfs2_is_whole(window: &Window, offset: u64) -> Option<bool> {
    let block = window.at(offset, 1024)?;
    let len = usize::from(le16(&block, 8));
    if le16(&block, 6) != 0x3434 || !(20..=1024).contains(&len) {
        return Some(false);
    }
    let mut sum = crc32fast::Hasher::new_with_initial(!le32(&block, 12));
    sum.update(&block[..16]);
    sum.update(&[0; 4]);
    sum.update(&block[20..len]);
    Some(!sum.finalize() == le32(&block, 16))
}

pub(super) fn f2fs(window: &Window, at: u64) -> Option<Found> {
    let block = window.at(at, 1148)?;
    if (le16(&block, 4), le16(&block, 6)) == (1, 0) {
        // The first version has its fields elsewhere.
        return Some(Found::default());
    }
    let sum_at = le32(&block, 32) as usize;
    if sum_at != 0
        && (!sum_at.is_multiple_of(4) || sum_at > 4092 || !f2fs_is_whole(window, at, sum_at)?)
    {
        return None;
    }
    let size = match le32(&block, 16) {
        shift @ ..=16 => le64(&block, 36).checked_mul(1 << shift),
        _ => None,
    };
    Some(Found {
        label: text::utf16_le(&block[124..1148]),
        uuid: text::uuid(&block[108..124]),
        size,
    })
}

fn f2fs_is_whole(window: &Window, at: u64, len: usize) -> Option<bool> {
    let block = window.at(at, len + 4)?;
    let mut sum = crc32fast::Hasher::new_with_initial(!0xf2f5_2010);
    sum.update(&block[..len]);
    Some(!sum.finalize() == le32(&block, len))
}
