//! File systems of other systems and of clusters: minix, UFS, BeFS, GFS2, OCFS2, VxFS, VMFS, BFS.

use super::{Found, Window, text};
use crate::bytes::{be32, le16, le32, le64};

/// A minix superblock is little but its magic of two bytes, so its counts must fit one another.
pub(super) fn minix(window: &Window, at: u64) -> Option<Found> {
    let block = window.at(1024, 32)?;
    let third = at == 1024 + 0x18;
    let magic = le16(&block, if third { 0x18 } else { 0x10 });
    let big = ![0x137f, 0x138f, 0x2468, 0x2478, 0x4d5a].contains(&magic);
    let u16_at = |at: usize| if big { le16(&block, at).swap_bytes() } else { le16(&block, at) };
    let u32_at = |at: usize| if big { be32(&block, at) } else { le32(&block, at) };
    let second = [0x2468, 0x2478].contains(&if big { magic.swap_bytes() } else { magic });
    let (inodes, zones, maps, unit) = match (third, second) {
        (true, _) => (u32_at(0), u32_at(20), [6, 8, 10, 12], u64::from(u16_at(28))),
        (false, true) => (u16_at(0).into(), u32_at(20), [4, 6, 8, 10], 1024),
        (false, false) => (u16_at(0).into(), u16_at(2).into(), [4, 6, 8, 10], 1024),
    };
    let [inode_map, zone_map, first, zone_shift] = maps.map(|at| u64::from(u16_at(at)));
    let state = u16_at(18);
    let fits = zone_shift == 0
        && inodes != 0
        && inodes != u32::MAX
        && (third || state & !3 == 0)
        && inode_map * 8192 > u64::from(inodes)
        && first <= u64::from(zones)
        && zone_map * 8192 > u64::from(zones) - first;
    let other = window.has(1080, b"\x53\xef").or(window.has(1024, b"\xe2\xe1\xf5\xe0"));
    let size = u64::from(zones).checked_mul(unit);
    (fits && other.is_none()).then_some(Found { size, ..Found::default() })
}

/// UFS, of one of four places and either order of bytes.
pub(super) fn ufs(window: &Window, _: u64) -> Option<Found> {
    const SECOND: u32 = 0x1954_0119;
    const MAGICS: [u32; 6] =
        [SECOND, 0x0001_1954, 0x0019_5612, 0x0009_5014, 0x0061_2195, 0x0523_1994];
    for place in [0u64, 8, 64, 256] {
        let block = window.at(place << 10, 1377)?;
        let (little, big) = (le32(&block, 1372), be32(&block, 1372));
        let word = match (MAGICS.contains(&little), MAGICS.contains(&big)) {
            (true, _) => le32,
            (false, true) => be32,
            (false, false) => continue,
        };
        let (first, second) = (word(&block, 144), word(&block, 148));
        let uuid = (first != 0 || second != 0).then(|| format!("{first:08x}{second:08x}"));
        let label =
            [little, big].contains(&SECOND).then(|| text::label(&block[680..712])).flatten();
        return Some(Found { label, uuid, size: None });
    }
    None
}

/// BeFS; its uuid, an attribute of the root directory, is not looked for.
pub(super) fn befs(window: &Window, at: u64) -> Option<Found> {
    let block = window.at(at.checked_sub(32)?, 132)?;
    let big = block[32..36] == *b"BFS1";
    let word = if big { be32 } else { le32 };
    let (size, shift) = (word(&block, 40), word(&block, 44));
    let fits = word(&block, 36) == 0x4249_4745
        && word(&block, 68) == 0xdd12_1031
        && word(&block, 112) == 0x15b6_830e
        && (10..=13).contains(&shift)
        && size == 1 << shift;
    let blocks = if big { le64(&block, 48).swap_bytes() } else { le64(&block, 48) };
    let size = blocks.checked_mul(size.into());
    fits.then(|| Found { label: text::label(&block[..32]), uuid: None, size })
}

pub(super) fn gfs(window: &Window, at: u64) -> Option<Found> {
    gfs_of(window, at, |system, hosts| system == 1309 && hosts == 1401)
}

pub(super) fn gfs2(window: &Window, at: u64) -> Option<Found> {
    gfs_of(window, at, |system, hosts| {
        (1800..1900).contains(&system) && (1900..2000).contains(&hosts)
    })
}

fn gfs_of(window: &Window, at: u64, is: fn(u32, u32) -> bool) -> Option<Found> {
    let block = window.at(at, 272)?;
    let found = || Found {
        label: text::label(&block[160..224]),
        uuid: text::uuid(&block[256..272]),
        size: None,
    };
    is(be32(&block, 24), be32(&block, 28)).then(found)
}

pub(super) fn ocfs2(window: &Window, at: u64) -> Option<Found> {
    let block = window.at(at, 352)?;
    let size = match le32(&block, 252) {
        shift @ ..=31 => u64::from(le32(&block, 20)).checked_mul(1 << shift),
        _ => None,
    };
    Some(Found { label: text::label(&block[272..336]), uuid: text::uuid(&block[336..352]), size })
}

pub(super) fn vmfs(window: &Window, at: u64) -> Option<Found> {
    let block = window.at(at, 157)?;
    let id = &block[9..25];
    let order = [3, 2, 1, 0, 7, 6, 5, 4, 9, 8, 10, 11, 12, 13, 14, 15].map(|at| id[at]);
    let hex = crate::bytes::hex(&order);
    let uuid =
        text::nonzero(id).map(|_| [&hex[..8], &hex[8..16], &hex[16..20], &hex[20..]].join("-"));
    Some(Found { label: text::label(&block[29..157]), uuid, size: None })
}

pub(super) fn vmfs_volume(window: &Window, _: u64) -> Option<Found> {
    let uuid = window.at((1 << 20) + 512 + 20, 35).and_then(|id| text::label(&id));
    Some(Found { uuid, ..Found::default() })
}
