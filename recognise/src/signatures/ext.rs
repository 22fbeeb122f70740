//! ext2, ext3, ext4, and their journals of their own device: one superblock, told apart by its features.

use super::{Found, Window, text};
use crate::bytes::le32;

const SUPERBLOCK: u64 = 1024;

/// What ext2 understands; ext3 a journal to be replayed beside it. Who has more is ext4.
const EXT2_READ_ONLY: u32 = 0x1 | 0x2 | 0x4;
const EXT2_INCOMPATIBLE: u32 = 0x2 | 0x10;
const REPLAY: u32 = 0x4;

const HAS_JOURNAL: u32 = 0x4;
const IS_JOURNAL: u32 = 0x8;
const WIDE: u32 = 0x80;
const CHECKSUM: u32 = 0x400;
const TEST_FILE_SYSTEM: u32 = 0x4;

/// The features of a superblock that tell the types apart.
struct Features {
    journal: bool,
    incompatible: u32,
    read_only: u32,
    test: bool,
}

pub(super) fn ext2(window: &Window, _: u64) -> Option<Found> {
    read(window, |features| !features.journal && features.fit(EXT2_INCOMPATIBLE))
}

pub(super) fn ext3(window: &Window, _: u64) -> Option<Found> {
    read(window, |features| features.journal && features.fit(EXT2_INCOMPATIBLE | REPLAY))
}

pub(super) fn ext4(window: &Window, _: u64) -> Option<Found> {
    read(window, |features| {
        features.incompatible & IS_JOURNAL == 0
            && !features.fit(EXT2_INCOMPATIBLE | REPLAY)
            && !features.test
    })
}

pub(super) fn ext4dev(window: &Window, _: u64) -> Option<Found> {
    read(window, |features| features.incompatible & IS_JOURNAL == 0 && features.test)
}

pub(super) fn journal(window: &Window, _: u64) -> Option<Found> {
    read(window, |features| features.incompatible & IS_JOURNAL != 0)
}

impl Features {
    fn fit(&self, incompatible: u32) -> bool {
        self.incompatible & !incompatible == 0 && self.read_only & !EXT2_READ_ONLY == 0
    }
}

fn read(window: &Window, is: impl Fn(&Features) -> bool) -> Option<Found> {
    let block = window.at(SUPERBLOCK, 1024)?;
    let features = Features {
        journal: le32(&block, 92) & HAS_JOURNAL != 0,
        incompatible: le32(&block, 96),
        read_only: le32(&block, 100),
        test: le32(&block, 352) & TEST_FILE_SYSTEM != 0,
    };
    let shift = le32(&block, 24);
    let whole = if features.read_only & CHECKSUM != 0 {
        !crc32c::crc32c(&block[..1020]) == le32(&block, 1020)
    } else {
        shift < 256
    };
    if !whole || !is(&features) {
        return None;
    }
    let high = if features.incompatible & WIDE != 0 { le32(&block, 336) } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(le32(&block, 4));
    let size = (shift <= 6).then(|| blocks.checked_mul(1024 << shift)).flatten();
    Some(Found { label: text::label(&block[120..136]), uuid: text::uuid(&block[104..120]), size })
}
