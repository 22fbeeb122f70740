//! The record of a volume, or of a part of one where parts are striped over one another.

use sim_core::{Sector, Sectors};

use crate::parts::bytes::{be16, be32, be64};

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// What its volume is known by.
    pub(super) guid: [u8; 24],
    pub(super) sequence: u32,
    /// The chunks.
    pub(super) chunk: Sectors,
    /// The level, and what of it.
    pub(super) kind: (u8, u8),
    /// Of how many parts, which this is, and how they are put together.
    pub(super) parts: (u8, u8, u8),
    /// How much of each disk is in use.
    pub(super) size: Sectors,
    /// How long the volume is.
    pub(super) len: Sectors,
    /// The disks, and where on each it begins.
    pub(super) disks: Vec<(u32, Sector)>,
}

/// Where the list of the disks begins.
const LIST: usize = 512;

impl Record {
    /// Reads a record with room for so many disks; nothing where they do not fit in.
    pub(super) fn parse(bytes: &[u8], most: usize) -> Option<Record> {
        let count = usize::from(be16(bytes, 64));
        let starts = LIST + 4 * most;
        if starts + 8 * most > bytes.len() {
            return None;
        }
        let all =
            (0..most).map(|nr| (be32(bytes, LIST + 4 * nr), Sector(be64(bytes, starts + 8 * nr))));
        let disks: Vec<(u32, Sector)> =
            all.filter(|(disk, _)| *disk != u32::MAX).take(count).collect();
        Some(Record {
            guid: bytes[8..32].try_into().expect("24 bytes"),
            sequence: be32(bytes, 36),
            // A raid1 has none, and anything there.
            chunk: Sectors(1_u64.checked_shl(bytes[66].into()).unwrap_or_default()),
            kind: (bytes[67], bytes[68]),
            parts: (bytes[69], bytes[70], bytes[71]),
            size: Sectors(be64(bytes, 72)),
            len: Sectors(be64(bytes, 80)),
            disks: if disks.len() == count { disks } else { Vec::new() },
        })
    }

    /// Returns md's level and layout; nothing where md has none that is as this.
    pub(super) fn level(&self) -> Option<(u32, u32)> {
        let legs = self.disks.len();
        if self.parts.0 > 1 {
            // Mirrors, striped over one another.
            return match (self.kind, self.parts.2, legs) {
                ((1, 0), 0 | 3, 2) => Some((10, 0x102)),
                ((1, 1), 0 | 3, 3) => Some((10, 0x103)),
                _ => None,
            };
        }
        match (self.kind, legs) {
            ((0, 0), _) => Some((0, 0)),
            ((1, 0), 2) | ((1, 1), 3) => Some((1, 0)),
            ((0x11, 0), _) => Some((10, 0x102)),
            ((0x11, 1), _) => Some((10, 0x201)),
            ((4, 1), _) => Some((4, 0)),
            ((5, 0), _) => Some((5, 1)),
            ((5, 2), _) => Some((5, 0)),
            ((5, 3), _) => Some((5, 2)),
            ((6, 1), _) => Some((6, 8)),
            ((6, 2), _) => Some((6, 9)),
            ((6, 3), _) => Some((6, 10)),
            _ => None,
        }
    }
}
