//! What real tools make is called what blkid calls it: type, label and uuid.

#![allow(clippy::unwrap_used, reason = "it is a test, its helpers too")]

#[cfg(test)]
mod support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use recognise::Source;
use recognise::signatures::{self, Signature};
use support::have;
use tempfile::TempDir;

/// The most that is read of a source.
const MOST_READ: u64 = 4 << 20;

/// Counts what is read.
struct Counted<'a, S: ?Sized> {
    bytes: &'a S,
    read: Cell<u64>,
}

impl<S: Source + ?Sized> Source for Counted<'_, S> {
    fn len(&self) -> u64 {
        self.bytes.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read.set(self.read.get() + into.len() as u64);
        self.bytes.read_at(offset, into)
    }
}

fn read_from(source: &Counted<'_, impl Source + ?Sized>) -> Option<Signature> {
    let signature = signatures::read(source).unwrap();
    assert!(source.read.get() <= MOST_READ, "{} bytes read", source.read.get());
    signature
}

/// A file in a folder of its own.
struct Image {
    folder: TempDir,
    path: PathBuf,
}

impl Image {
    fn new(mib: u64) -> Image {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        if mib != 0 {
            File::create(&path).unwrap().set_len(mib << 20).unwrap();
        }
        Image { folder, path }
    }

    /// One of so many MiB that a command made, or that it makes itself where this is 0. `IMAGE` stands for
    /// its path, `DIR` for a folder with a file.
    fn made(mib: u64, command: &str) -> Image {
        let image = Image::new(mib);
        let tree = image.folder.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("file"), "a line of a file\n".repeat(500)).unwrap();
        let command = command.replace("IMAGE", image.path.to_str().unwrap());
        let words = split(&command.replace("DIR", tree.to_str().unwrap()));
        // Some of these look at every block device of the machine, and one of them may hang.
        let done =
            Command::new("timeout").arg("60").args(&words).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        image
    }

    fn of(bytes: &[u8]) -> Image {
        let image = Image::new(0);
        std::fs::write(&image.path, bytes).unwrap();
        image
    }

    fn read(&self) -> Option<Signature> {
        let file = FileSource(File::open(&self.path).unwrap());
        read_from(&Counted { bytes: &file, read: Cell::new(0) })
    }

    fn len(&self) -> u64 {
        self.path.metadata().unwrap().len()
    }
}

struct FileSource(File);

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }
}

/// Words between spaces; `'` keeps spaces together.
fn split(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// What `blkid -p` says; nothing where it finds nothing or cannot decide.
fn blkid(image: &Image) -> BTreeMap<String, String> {
    let done = Command::new("blkid").args(["-p", "-o", "udev"]).arg(&image.path).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let pairs = text.lines().filter_map(|line| line.strip_prefix("ID_FS_")?.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect()
}

/// Undoes the escapes of `ID_FS_LABEL_ENC` and the like.
fn decoded(value: &str) -> String {
    let mut parts = value.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

/// Compares type, label and uuid with blkid's.
fn as_blkid(image: &Image, what: &str) -> Signature {
    let theirs = blkid(image);
    let ours =
        image.read().unwrap_or_else(|| panic!("{what}: nothing found, blkid has {theirs:?}"));
    let value = |name: &str| theirs.get(name).map(String::as_str);
    assert_eq!(Some(ours.kind), value("TYPE"), "{what}");
    assert_eq!(ours.label.as_deref(), value("LABEL_ENC"), "{what}");
    assert_eq!(ours.uuid.as_deref(), value("UUID_ENC"), "{what}");
    assert!(ours.also.is_empty(), "{what}: {ours:?}");
    ours
}

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// The type, the size in MiB (0 where the tool makes the file), the size that the signature has in it, and
/// the command.
#[rustfmt::skip]
const MADE: &[(&str, u64, Option<u64>, &str)] = &[
    ("ext2", 4, Some(4 << 20), "mkfs.ext2 -q -L 'a label' -U 01234567-89ab-cdef-0123-456789abcdef IMAGE"),
    ("ext2", 1, Some(1 << 20), "mkfs.ext2 -q -b 1024 -O none IMAGE"),
    ("ext3", 8, Some(8 << 20), "mkfs.ext3 -q -L sixteen_letters_ -U 01234567-89ab-cdef-0123-456789abcdef IMAGE"),
    ("ext4", 8, Some(8 << 20), "mkfs.ext4 -q -L grüße -U 01234567-89ab-cdef-0123-456789abcdef IMAGE"),
    ("ext4", 8, Some(8 << 20), "mkfs.ext4 -q -O ^metadata_csum,64bit -b 4096 IMAGE"),
    ("jbd", 8, Some(8 << 20), "mke2fs -q -O journal_dev -L journal IMAGE"),
    ("xfs", 320, Some(320 << 20), "mkfs.xfs -q -L twelve_chars -m uuid=01234567-89ab-cdef-0123-456789abcdef IMAGE"),
    ("xfs", 320, Some(320 << 20), "mkfs.xfs -q -m crc=0 -b size=1024 IMAGE"),
    ("btrfs", 120, Some(120 << 20), "mkfs.btrfs -q -L 'butter and more' IMAGE"),
    ("btrfs", 120, Some(120 << 20), "mkfs.btrfs -q --csum sha256 IMAGE"),
    ("btrfs", 120, Some(120 << 20), "mkfs.btrfs -q --csum xxhash IMAGE"),
    ("vfat", 1, Some(1 << 20), "mkfs.vfat -F 12 -n TWELVE -i 1234abcd IMAGE"),
    ("vfat", 20, Some(20 << 20), "mkfs.vfat -F 16 -n 'SIX TEEN' -i 1234abcd IMAGE"),
    ("vfat", 64, Some(64 << 20), "mkfs.vfat -F 32 -n THIRTYTWO -i 1234abcd IMAGE"),
    ("vfat", 64, Some(64 << 20), "mkfs.vfat -F 32 -S 4096 IMAGE"),
    ("vfat", 4, Some(4 << 20), "mkfs.vfat IMAGE"),
    ("exfat", 32, Some(32 << 20), "mkfs.exfat -L 'größer' IMAGE"),
    ("exfat", 32, Some(32 << 20), "mkfs.exfat IMAGE"),
    ("ntfs", 8, Some((8 << 20) - 512), "mkfs.ntfs -q -F -f -L 'Ein Name: übervoll' IMAGE"),
    ("ntfs", 8, Some((8 << 20) - 512), "mkfs.ntfs -q -F -f -c 65536 IMAGE"),
    ("udf", 8, None, "mkudffs --label='a disc' --uuid=0123456789abcdef IMAGE"),
    ("udf", 8, None, "mkudffs --utf8 --blocksize=512 --label=größer --uuid=fedcba9876543210 IMAGE"),
    ("udf", 8, None, "mkudffs --utf8 --blocksize=4096 --label=Ωμέγα IMAGE"),
    ("f2fs", 64, Some(64 << 20), "mkfs.f2fs -q -l 'flash label' IMAGE"),
    ("nilfs2", 160, Some(160 << 20), "mkfs.nilfs2 -q -L segments IMAGE"),
    ("jfs", 16, None, "mkfs.jfs -q -L journaled IMAGE"),
    ("reiserfs", 40, Some(40 << 20), "mkfs.reiserfs -q -f -l tree IMAGE"),
    ("minix", 1, Some(1 << 20), "mkfs.minix -1 IMAGE"),
    ("minix", 1, Some(1 << 20), "mkfs.minix -2 IMAGE"),
    ("minix", 1, Some(1 << 20), "mkfs.minix -3 IMAGE"),
    ("swap", 1, Some(1 << 20), "mkswap -q -L swap -U 01234567-89ab-cdef-0123-456789abcdef IMAGE"),
    ("swap", 1, Some(1 << 20), "mkswap -q -p 65536 -L larger IMAGE"),
    ("swap", 1, Some(1 << 20), "mkswap -q -p 16384 IMAGE"),
    ("squashfs", 0, None, "mksquashfs DIR IMAGE -quiet -no-progress"),
    ("iso9660", 0, None, "genisoimage -quiet -V 'A DISC' -o IMAGE DIR"),
    ("iso9660", 0, None, "genisoimage -quiet -J -R -V 'Mixed case and long' -o IMAGE DIR"),
    ("cramfs", 0, None, "mkfs.cramfs -n packed DIR IMAGE"),
    ("erofs", 0, None, "mkfs.erofs --quiet -U 01234567-89ab-cdef-0123-456789abcdef IMAGE DIR"),
    ("romfs", 0, None, "genromfs -f IMAGE -d DIR -V rom"),
    ("ubifs", 0, None, "mkfs.ubifs -r DIR -m 2048 -e 129024 -c 100 -o IMAGE"),
    ("hfs", 4, None, "hformat -l 'a disk' IMAGE"),
    ("ufs", 0, None, "makefs -t ffs -o version=2 -s 4m IMAGE DIR"),
    ("ufs", 0, None, "makefs -t ffs -B be -o version=1 -s 4m IMAGE DIR"),
];

#[test]
fn what_the_tools_make_is_named_as_blkid_names_it() {
    if !have("blkid") {
        return;
    }
    let tool = |command: &str| have(command.split(' ').next().unwrap());
    let tried = MADE.iter().filter(|(_, _, _, command)| tool(command));
    // One after the other to the end: what fails together is told together.
    let failed = tried.filter(|made| std::panic::catch_unwind(|| is_named(made)).is_err());
    assert_eq!(failed.map(|(_, _, _, command)| command).collect::<Vec<_>>(), Vec::<&&str>::new());
}

fn is_named((kind, mib, size, command): &(&str, u64, Option<u64>, &str)) {
    let image = Image::made(*mib, command);
    let found = as_blkid(&image, command);
    assert_eq!(found.kind, *kind, "{command}");
    if command.contains(UUID) {
        assert_eq!(found.uuid.as_deref(), Some(UUID), "{command}");
    }
    match (size, found.size) {
        (Some(size), found) => assert_eq!(found, Some(*size), "{command}"),
        (None, Some(found)) => assert!(found <= image.len(), "{command}: {found}"),
        (None, None) => {}
    }
}

#[test]
fn an_older_superblock_that_is_left_is_told_and_does_not_win() {
    if !have("mkfs.ext4") || !have("mkfs.vfat") || !have("mkswap") {
        return;
    }
    // The superblock of ext4 lies where FAT has nothing yet.
    let image = Image::made(8, "mkfs.ext4 -q -L old IMAGE");
    let old = std::fs::read(&image.path).unwrap();
    let fat = Image::made(8, "mkfs.vfat -n NEW IMAGE");
    let mut both = std::fs::read(&fat.path).unwrap();
    both[1024..2048].copy_from_slice(&old[1024..2048]);
    let found = Image::of(&both).read().unwrap();
    assert_eq!((found.kind, found.label.as_deref()), ("vfat", Some("NEW")));
    assert_eq!(found.also, ["ext4"]);
    assert_eq!(blkid(&Image::of(&both)).get("AMBIVALENT").map(|_| ()), Some(()));
    // A damaged one does not count at all.
    both[1024 + 200] ^= 1;
    assert_eq!(Image::of(&both).read().unwrap().also, <[&str; 0]>::default());
}

/// Bytes at places.
type Pieces<'a> = &'a [(usize, &'a [u8])];

/// An image with bytes at places.
fn with(mib: u64, pieces: Pieces<'_>) -> Image {
    let mut bytes = vec![0; (mib << 20) as usize];
    for (at, piece) in pieces {
        bytes[*at..][..<[u8]>::len(piece)].copy_from_slice(piece);
    }
    Image::of(&bytes)
}

const ID: &[u8] = b"0123456789abcdef";

/// What no tool here makes, by hand, and blkid agrees.
#[test]
fn what_is_made_by_hand_is_named_as_blkid_names_it() {
    if !have("blkid") {
        return;
    }
    let version = [1, 0, 0, 0];
    let mut swap =
        vec![(1024usize, &version[..]), (1028, &[99, 0, 0, 0]), (1036, ID), (1052, b"sleeper")];
    swap.push((4086, b"S1SUSPEND\0"));
    let verity = [(0usize, &b"verity\0\0"[..]), (8, &version), (16, ID)];
    let mut drbd = vec![((2 << 20) - 4096 + 60, &b"\x83\x74\x02\x6b"[..])];
    drbd.extend([((2 << 20) - 4096 + 80, &[0, 0, 16, 0][..]), ((2 << 20) - 4096 + 40, &ID[..8])]);
    let ocfs2 = [(2048usize, &b"OCFSV2"[..]), (2048 + 272, b"cluster"), (2048 + 336, ID)];
    let gfs2 = [
        (65536usize, &b"\x01\x16\x19\x70"[..]),
        (65536 + 24, &[0, 0, 7, 9]),
        (65536 + 28, &[0, 0, 7, 0x6c]),
        (65536 + 160, b"alpha:shared"),
        (65536 + 256, ID),
    ];
    let mut reiser4 = vec![(65536usize, &b"ReIsEr4"[..]), (65536 + 19, &[16])];
    reiser4.extend([(65536 + 20, ID), (65536 + 36, &b"four"[..])]);
    let mut apple =
        vec![(1024usize, &b"H+"[..]), (1024 + 40, &[0, 0, 16, 0]), (1024 + 104, &ID[..8])];
    apple.extend([(1024 + 288, &[0, 0, 0, 4, 0, 0, 0, 4][..])]);
    // The header node of the catalog, and its first leaf.
    let tree = 4 * 4096;
    apple.extend([
        (tree + 20, &[0, 0, 0, 1][..]),
        (tree + 24, &[0, 0, 0, 1]),
        (tree + 32, &[0x10, 0]),
    ]);
    let leaf = tree + 4096;
    apple.extend([
        (leaf + 8, &[0xff, 1, 0, 1][..]),
        (leaf + 16, &[0, 0, 0, 1]),
        (leaf + 20, &[0, 3]),
    ]);
    apple.push((leaf + 22, b"\0M\0\xe4\0c\0X"));
    let vmfs =
        [(2 << 20, &b"\x5e\xf1\xab\x2f"[..]), ((2 << 20) + 9, ID), ((2 << 20) + 29, b"store")];
    let vdo = [(0usize, &b"dmvdo001"[..]), (40, ID)];
    let hpfs = [(8192usize, &b"\x49\xe8\x95\xf9"[..]), (0x2200, b"\x49\x18\x91\xf9")];
    let cases: [(&str, u64, Pieces<'_>); 14] = [
        ("swsuspend", 1, &swap),
        ("DM_verity_hash", 1, &verity),
        ("DM_integrity", 1, &[(0, b"integrt\0\x04")]),
        ("DM_snapshot_cow", 1, &[(0, b"SnAp\x01")]),
        ("drbd", 2, &drbd),
        ("vdo", 1, &vdo),
        ("ocfs2", 16, &ocfs2),
        ("gfs2", 33, &gfs2),
        ("reiser4", 1, &reiser4),
        ("hfsplus", 1, &apple),
        ("VMFS", 4, &vmfs),
        ("hpfs", 1, &hpfs),
        ("ReFS", 1, &[(3, b"ReFS")]),
        ("oracleasm", 1, &[(32, b"ORCLDISK")]),
    ];
    for (kind, mib, pieces) in cases {
        let found = as_blkid(&with(mib, pieces), kind);
        assert_eq!(found.kind, kind);
    }
}

#[test]
fn a_directory_of_a_fat_is_no_label() {
    if !have("mkfs.vfat") || !have("blkid") {
        return;
    }
    let mut bytes = std::fs::read(Image::made(1, "mkfs.vfat -F 12 -n LABEL IMAGE").path).unwrap();
    let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let root = (word(14) + usize::from(bytes[16]) * word(22)) * word(11);
    bytes.copy_within(root..root + 32, root + 32);
    bytes[root..root + 12].copy_from_slice(b"DIRECTORY  \x18");
    assert_eq!(as_blkid(&Image::of(&bytes), "two entries").label.as_deref(), Some("LABEL"));
}

#[test]
fn nothing_is_found_where_there_is_nothing() {
    for len in [0, 1, 511, 512, 4096, 1 << 20] {
        assert_eq!(Image::of(&vec![0; len]).read(), None, "{len} zeros");
        assert_eq!(Image::of(&vec![0xff; len]).read(), None, "{len} ones");
    }
}

#[test]
fn what_is_shown_steers_no_terminal() {
    let verity = [(0usize, &b"verity\0\0"[..]), (8, &[1, 0, 0, 0]), (16, ID)];
    let found = with(1, &verity).read().unwrap();
    assert_eq!(found.to_string(), "DM_verity_hash 30313233-3435-3637-3839-616263646566");
    let json = serde_json::to_string(&found).unwrap();
    assert!(json.contains("\"size_bytes\":null") && json.contains("\"usage\":\"other\""), "{json}");
}

/// The beginnings of images, made once.
fn beginnings() -> &'static [Vec<u8>] {
    static MADE_ONCE: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    MADE_ONCE.get_or_init(|| {
        let small = MADE.iter().filter(|(_, mib, _, command)| {
            *mib <= 16
                && !command.starts_with("mkfs.btrfs")
                && have(command.split(' ').next().unwrap())
        });
        let head = |path: &PathBuf| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes.truncate(1 << 20);
            bytes
        };
        small.map(|(_, mib, _, command)| head(&Image::made(*mib, command).path)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn damage_and_truncation_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let images = beginnings();
        if images.is_empty() {
            return Ok(());
        }
        let mut bytes = which.get(images).clone();
        for (at, value) in changes {
            // Most of what matters is in the first pages.
            let at = at.index(bytes.len().min(if value % 2 == 0 { 4096 } else { 72 << 10 }));
            bytes[at] = value;
        }
        bytes.truncate(cut.map_or(usize::MAX, |cut| cut.index(bytes.len())));
        let found = read_from(&Counted { bytes: &bytes, read: Cell::new(0) });
        prop_assert!(!found.is_some_and(|found| found.to_string().contains(char::is_control)));
    }
}
