//! All types that are known, in libblkid's order.

use super::{Found, Kind, Usage, Window};
use super::{apple, ext, fat, linux, members, optical, read_only, swap, unix, zfs};

use Usage::{FileSystem, Other, Swap};

const KIB: i64 = 1 << 10;

const EXT: &[(i64, &[u8])] = &[(1080, b"\x53\xef")];
const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHEFS: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";
const STRATIS: &[u8] = b"!Stra0tis\x86\xff\x02^\x41rh";
const SUSPENDED: [&[u8]; 4] = [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"];

/// The ends of the first page, of each size that a page has.
const PAGE_ENDS: [i64; 5] = [0xff6, 0x1ff6, 0x3ff6, 0x7ff6, 0xfff6];

const SWAP_AREAS: [(i64, &[u8]); 10] = at_each_page_end(&[b"SWAP-SPACE", b"SWAPSPACE2"]);
const SLEEPERS: [(i64, &[u8]); 20] = at_each_page_end(&SUSPENDED);

const fn at_each_page_end<const N: usize>(words: &[&'static [u8]]) -> [(i64, &'static [u8]); N] {
    let mut magics: [(i64, &[u8]); N] = [(0, b""); N];
    let mut index = 0;
    while index < N {
        magics[index] = (PAGE_ENDS[index / words.len()], words[index % words.len()]);
        index += 1;
    }
    magics
}

const fn kind(
    name: &'static str,
    usage: Usage,
    magics: &'static [(i64, &'static [u8])],
    read: fn(&Window, u64) -> Option<Found>,
) -> Kind {
    Kind { name, usage, least: 0, magics, read }
}

impl Kind {
    const fn least(mut self, bytes: u64) -> Kind {
        self.least = bytes;
        self
    }
}

pub(super) const KINDS: &[Kind] = &[
    kind("bcache", Other, &[(4 * KIB + 24, BCACHE)], members::bcache),
    kind(
        "bcachefs",
        FileSystem,
        &[
            (4 * KIB + 24, BCACHE),
            (4 * KIB + 24, BCACHEFS),
            (2048 * KIB + 24, BCACHEFS),
            (-1024 * KIB + 24, BCACHEFS),
        ],
        members::bcachefs,
    )
    .least(128 << 10),
    kind("ceph_bluestore", Other, &[(0, b"bluestore block device")], members::named),
    kind(
        "drbd",
        Other,
        &[
            (-4 * KIB + 60, b"\x83\x74\x02\x6b"),
            (-4 * KIB + 60, b"\x83\x74\x02\x6c"),
            (-4 * KIB + 60, b"\x83\x74\x02\x6d"),
        ],
        members::drbd,
    )
    .least(64 << 10),
    kind("drbdmanage_control_volume", Other, &[(0, b"$DRBDmgr=q")], members::drbd_manage)
        .least(64 << 10),
    kind("drbdproxy_datalog", Other, &[(0, b"DRBDdlh*")], members::named).least(16 << 10),
    kind("DM_snapshot_cow", Other, &[(0, b"SnAp")], members::named),
    kind("DM_verity_hash", Other, &[(0, b"verity\0\0")], members::verity),
    kind("DM_integrity", Other, &[(0, b"integrt\0")], members::integrity),
    kind("VMFS_volume_member", Other, &[(1024 * KIB, b"\x0d\xd0\x01\xc0")], unix::vmfs_volume),
    kind("ubi", Other, &[(0, b"UBI#")], read_only::ubi),
    kind("vdo", Other, &[(0, b"dmvdo001")], members::vdo),
    kind("stratis", Other, &[(516, STRATIS), (4612, STRATIS)], members::stratis).least(8192),
    kind(
        "vfat",
        FileSystem,
        &[
            (0x52, b"MSWIN"),
            (0x52, b"FAT32   "),
            (0x36, b"MSDOS"),
            (0x36, b"FAT16   "),
            (0x36, b"FAT12   "),
            (0x36, b"FAT     "),
            (0, b"\xeb"),
            (0, b"\xe9"),
            (0x1fe, b"\x55\xaa"),
        ],
        fat::vfat,
    ),
    kind("swsuspend", Swap, &[(0, swap::TUX_ON_ICE)], swap::suspended).least(10 * 4096),
    kind("swsuspend", Swap, &SLEEPERS, swap::suspended).least(10 * 4096),
    kind("swap", Swap, &SWAP_AREAS, swap::swap).least(10 * 4096),
    kind("xfs", FileSystem, &[(0, b"XFSB")], linux::xfs),
    kind("xfs_external_log", Other, &[(0, b"\xfe\xed\xba\xbe")], linux::xfs_log).least(10 << 20),
    kind("ext4dev", FileSystem, EXT, ext::ext4dev),
    kind("ext4", FileSystem, EXT, ext::ext4),
    kind("ext3", FileSystem, EXT, ext::ext3),
    kind("ext2", FileSystem, EXT, ext::ext2),
    kind("jbd", Other, EXT, ext::journal),
    kind(
        "reiserfs",
        FileSystem,
        &[
            (8 * KIB + 52, b"ReIsErFs"),
            (64 * KIB + 52, b"ReIsEr2Fs"),
            (64 * KIB + 52, b"ReIsEr3Fs"),
            (64 * KIB + 52, b"ReIsErFs"),
            (8 * KIB + 20, b"ReIsErFs"),
        ],
        linux::reiserfs,
    )
    .least(128 << 10),
    kind("reiser4", FileSystem, &[(64 * KIB, b"ReIsEr4")], linux::reiser4).least(128 << 10),
    kind("jfs", FileSystem, &[(32 * KIB, b"JFS1")], linux::jfs).least(16 << 20),
    kind(
        "udf",
        FileSystem,
        &[
            (32 * KIB + 1, b"BEA01"),
            (32 * KIB + 1, b"BOOT2"),
            (32 * KIB + 1, b"CD001"),
            (32 * KIB + 1, b"CDW02"),
            (32 * KIB + 1, b"NSR02"),
            (32 * KIB + 1, b"NSR03"),
            (32 * KIB + 1, b"TEA01"),
        ],
        optical::udf,
    ),
    kind(
        "iso9660",
        FileSystem,
        &[(32 * KIB + 1, b"CD001"), (32 * KIB + 9, b"CDROM")],
        optical::iso9660,
    ),
    kind("zfs_member", FileSystem, &[], zfs::zfs).least(64 << 20),
    kind("hfsplus", FileSystem, &[(KIB, b"BD"), (KIB, b"H+"), (KIB, b"HX")], apple::hfsplus),
    kind("hfs", FileSystem, &[(KIB, b"BD")], apple::hfs),
    kind("ufs", FileSystem, &[], unix::ufs),
    kind("hpfs", FileSystem, &[(8 * KIB, b"\x49\xe8\x95\xf9")], fat::hpfs),
    kind("ntfs", FileSystem, &[(3, b"NTFS    ")], fat::ntfs),
    kind("ReFS", FileSystem, &[(0, b"\0\0\0ReFS\0")], members::named),
    kind(
        "cramfs",
        FileSystem,
        &[(0, b"\x45\x3d\xcd\x28"), (0, b"\x28\xcd\x3d\x45")],
        read_only::cramfs,
    ),
    kind("romfs", FileSystem, &[(0, b"-rom1fs-")], read_only::romfs),
    kind(
        "minix",
        FileSystem,
        &[
            (KIB + 16, b"\x7f\x13"),
            (KIB + 16, b"\x8f\x13"),
            (KIB + 16, b"\x13\x7f"),
            (KIB + 16, b"\x13\x8f"),
            (KIB + 16, b"\x68\x24"),
            (KIB + 16, b"\x78\x24"),
            (KIB + 16, b"\x24\x68"),
            (KIB + 16, b"\x24\x78"),
            (KIB + 24, b"\x5a\x4d"),
            (KIB + 24, b"\x4d\x5a"),
        ],
        unix::minix,
    ),
    kind("gfs", FileSystem, &[(64 * KIB, b"\x01\x16\x19\x70")], unix::gfs).least(32 << 20),
    kind("gfs2", FileSystem, &[(64 * KIB, b"\x01\x16\x19\x70")], unix::gfs2).least(32 << 20),
    kind("ocfs", FileSystem, &[(8 * KIB, b"OracleCFS")], members::named).least(14_000 << 10),
    kind(
        "ocfs2",
        FileSystem,
        &[(KIB, b"OCFSV2"), (2 * KIB, b"OCFSV2"), (4 * KIB, b"OCFSV2"), (8 * KIB, b"OCFSV2")],
        unix::ocfs2,
    )
    .least(14_000 << 10),
    kind("oracleasm", Other, &[(32, b"ORCLDISK")], members::named),
    kind(
        "vxfs",
        FileSystem,
        &[(KIB, b"\xf5\xfc\x01\xa5"), (8 * KIB, b"\xa5\x01\xfc\xf5")],
        members::named,
    ),
    kind("squashfs", FileSystem, &[(0, b"hsqs")], read_only::squashfs),
    kind("squashfs3", FileSystem, &[(0, b"sqsh"), (0, b"hsqs")], read_only::squashfs3),
    kind("nss", FileSystem, &[(4 * KIB, b"SPB5")], members::named),
    kind("btrfs", FileSystem, &[(64 * KIB + 64, b"_BHRfS_M")], linux::btrfs).least(1 << 20),
    kind("ubifs", FileSystem, &[(0, b"\x31\x18\x10\x06")], read_only::ubifs),
    kind("bfs", FileSystem, &[(0, b"\xce\xfa\xad\x1b")], members::named),
    kind("VMFS", FileSystem, &[(2048 * KIB, b"\x5e\xf1\xab\x2f")], unix::vmfs),
    kind(
        "befs",
        FileSystem,
        &[(32, b"BFS1"), (32, b"1SFB"), (544, b"BFS1"), (544, b"1SFB")],
        unix::befs,
    )
    .least(1440 << 10),
    kind("nilfs2", FileSystem, &[], linux::nilfs2).least(1 << 20),
    kind("exfat", FileSystem, &[(3, b"EXFAT   ")], fat::exfat),
    kind("f2fs", FileSystem, &[(KIB, b"\x10\x20\xf5\xf2")], linux::f2fs),
    kind("apfs", FileSystem, &[(32, b"NXSB")], apple::apfs),
    kind("zonefs", FileSystem, &[(0, b"SFOZ")], members::named),
    kind("erofs", FileSystem, &[(KIB, b"\xe2\xe1\xf5\xe0")], read_only::erofs),
];
