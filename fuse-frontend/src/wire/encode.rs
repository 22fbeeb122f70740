//! Answers, as the kernel reads them.

use std::time::UNIX_EPOCH;

use fuser::{FopenFlags, InitFlags};
use sim_core::SECTOR_SIZE;
use zerocopy::IntoBytes;

use super::protocol::{
    Attr, AttrOut, Dirent, EntryOut, InitOut, IoctlOut, MAX_WRITE, OLDEST_MINOR, OpenOut, PAGE,
    StatfsOut, VERSION,
};
use crate::files::{Attributes, Kind, Listing, Opened, Output, Pages, Statistics};

/// How many asynchronous requests the kernel may have under way: above any queue depth in use.
const MAX_BACKGROUND: u16 = 256;

/// From how many on it holds its writers up: three quarters, as it would choose by itself.
const CONGESTED: u16 = MAX_BACKGROUND / 4 * 3;

// The kinds of a file, in its mode: linux/stat.h.
const CHARACTER_DEVICE: u32 = 0o020_000;
const DIRECTORY: u32 = 0o040_000;
const BLOCK_DEVICE: u32 = 0o060_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// What is asked of the kernel where it has it.
///
/// Not FUSE_ATOMIC_O_TRUNC: with it Linux takes a file for empty after an open with `O_TRUNC`,
/// until somebody asks for the size, and a loop device over the file fails to read meanwhile.
/// Without it the open brings a truncation, whose answer tells the size that the file still has.
///
/// Nor FUSE_DO_READDIRPLUS: nothing that it brings may be kept, as a resume may change a size at
/// any time and a rename a name, so each file would be asked for once more all the same.
const WANTED: InitFlags = InitFlags::FUSE_ASYNC_READ
    .union(InitFlags::FUSE_BIG_WRITES)
    .union(InitFlags::FUSE_ASYNC_DIO)
    .union(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
    .union(InitFlags::FUSE_MAX_PAGES)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_INIT_EXT);

/// What both ends agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiated {
    /// The protocol is spoken.
    Agreed,
    /// The kernel speaks a newer one first, and is asked to begin again with ours.
    Again,
    /// The kernel is older than what is known here.
    TooOld,
}

/// Answers an INIT of this version, with these flags.
pub fn init(major: u32, minor: u32, max_readahead: u32, flags: u64) -> (Negotiated, Vec<u8>) {
    let (ours, our_minor) = VERSION;
    if major > ours {
        let version = InitOut { major: ours, minor: our_minor, ..InitOut::default() };
        return (Negotiated::Again, version.as_bytes().to_vec());
    }
    if major < ours || minor < OLDEST_MINOR {
        return (Negotiated::TooOld, Vec::new());
    }
    let offered = InitFlags::from_bits_retain(flags);
    for (name, _) in WANTED.difference(offered).iter_names() {
        tracing::debug!(missing = name, "the kernel's FUSE lacks a capability");
    }
    let agreed = WANTED.intersection(offered).bits();
    let agreed = InitOut {
        major: ours,
        minor: our_minor,
        max_readahead,
        flags: agreed as u32,
        flags2: (agreed >> 32) as u32,
        max_background: MAX_BACKGROUND,
        congestion_threshold: CONGESTED,
        max_write: MAX_WRITE,
        time_gran: 1,
        max_pages: (MAX_WRITE as usize / PAGE) as u16,
        ..InitOut::default()
    };
    (Negotiated::Agreed, agreed.as_bytes().to_vec())
}

/// Answers with a file that was found. Neither its name nor its size may be relied on: a rename
/// may change the one at any time, a resume the other.
pub fn entry(file: &Attributes) -> Vec<u8> {
    let entry = EntryOut { node: file.inode, attr: attr(file), ..EntryOut::default() };
    entry.as_bytes().to_vec()
}

/// Answers with a file's attributes, which may change at any time.
pub fn attributes(file: &Attributes) -> Vec<u8> {
    AttrOut { attr: attr(file), ..AttrOut::default() }.as_bytes().to_vec()
}

/// Answers with an open file.
pub fn opened(file: &Opened) -> Vec<u8> {
    let flags = match file.pages {
        Pages::Direct => {
            FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES)
        }
        Pages::Kept => FopenFlags::FOPEN_KEEP_CACHE,
        Pages::Default => FopenFlags::empty(),
    };
    let opened = OpenOut { fh: file.handle, open_flags: flags.bits(), backing: 0 };
    opened.as_bytes().to_vec()
}

/// Answers with names of a directory, as many of them as `room` bytes take.
pub fn listing(names: &Listing, room: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in &names.0 {
        let entry = Dirent {
            ino: name.inode,
            off: name.place,
            namelen: u32::try_from(name.name.len()).expect("names are short"),
            // As in a directory entry of any file system: the kind without the permissions.
            kind: kind(name.kind) >> 12,
        };
        let whole = (size_of::<Dirent>() + name.name.len()).next_multiple_of(8);
        let end = bytes.len() + whole;
        if end > room {
            break;
        }
        bytes.extend_from_slice(entry.as_bytes());
        bytes.extend_from_slice(name.name.as_bytes());
        bytes.resize(end, 0);
    }
    bytes
}

/// Answers with the size of the file system, which is full: no file can be made in it.
pub fn statistics(of: &Statistics) -> Vec<u8> {
    let statistics = StatfsOut {
        blocks: of.blocks,
        files: of.files,
        bsize: Statistics::BLOCK,
        namelen: Statistics::NAME,
        frsize: Statistics::BLOCK,
        ..StatfsOut::default()
    };
    statistics.as_bytes().to_vec()
}

/// Answers with what an ioctl returns.
pub fn output(of: &Output) -> Vec<u8> {
    let head = IoctlOut { result: of.value, ..IoctlOut::default() };
    [head.as_bytes(), of.bytes.as_slice()].concat()
}

fn attr(file: &Attributes) -> Attr {
    let time = file.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanoseconds) = (time.as_secs(), time.subsec_nanos());
    Attr {
        ino: file.inode,
        size: file.size,
        blocks: file.size / SECTOR_SIZE,
        atime: seconds,
        mtime: seconds,
        ctime: seconds,
        atimensec: nanoseconds,
        mtimensec: nanoseconds,
        ctimensec: nanoseconds,
        mode: kind(file.kind) | file.mode & 0o7777,
        nlink: match file.kind {
            Kind::Directory => 2,
            Kind::File | Kind::Link | Kind::CharacterDevice(_) | Kind::BlockDevice(_) => 1,
        },
        uid: file.uid,
        gid: file.gid,
        rdev: match file.kind {
            Kind::CharacterDevice(number) | Kind::BlockDevice(number) => number.packed(),
            Kind::Directory | Kind::File | Kind::Link => 0,
        },
        blksize: PAGE as u32,
        flags: 0,
    }
}

fn kind(kind: Kind) -> u32 {
    match kind {
        Kind::Directory => DIRECTORY,
        Kind::File => REGULAR,
        Kind::CharacterDevice(_) => CHARACTER_DEVICE,
        Kind::BlockDevice(_) => BLOCK_DEVICE,
        Kind::Link => LINK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Listed;
    use zerocopy::FromBytes;

    fn name(place: u64, name: &str) -> Listed {
        Listed { inode: place, place, kind: Kind::File, name: name.to_owned() }
    }

    #[test]
    fn a_listing_ends_with_the_last_name_that_fits() {
        let names = Listing(vec![name(3, "a"), name(4, "12345678"), name(5, "123456789")]);
        let lengths: Vec<usize> = (0..=120).map(|room| listing(&names, room).len()).collect();
        for (room, len) in lengths.into_iter().enumerate() {
            let fits = [(104, 104), (64, 64), (32, 32)].iter().find(|(least, _)| room >= *least);
            assert_eq!(len, fits.map_or(0, |(_, len)| *len), "{room} bytes");
        }
        assert_eq!(&listing(&names, 200)[56..64], b"12345678");
    }

    #[test]
    fn what_the_kernel_has_not_is_not_asked_for() {
        let flags = |offered: u64| {
            let (negotiated, answer) = init(7, 31, 0, offered);
            assert_eq!(negotiated, Negotiated::Agreed);
            let agreed = InitOut::read_from_bytes(&answer).unwrap();
            u64::from(agreed.flags) | u64::from(agreed.flags2) << 32
        };
        assert_eq!((flags(0), flags(u64::MAX)), (0, WANTED.bits()));
        assert_eq!(WANTED.bits() >> 32, 16, "one of them needs the second word");
    }

    #[test]
    fn versions_are_agreed_on_or_refused() {
        assert_eq!(init(8, 0, 0, 0).0, Negotiated::Again);
        assert_eq!(init(7, 22, 0, 0).0, Negotiated::TooOld);
        assert_eq!(init(6, 40, 0, 0).0, Negotiated::TooOld);
        assert_eq!(init(7, 99, 0, 0).0, Negotiated::Agreed);
    }

    #[test]
    fn a_time_before_all_times_is_no_panic() {
        let time = UNIX_EPOCH - std::time::Duration::from_secs(1);
        let file =
            Attributes { inode: 1, kind: Kind::File, size: 0, mode: 0, uid: 0, gid: 0, time };
        assert_eq!(attributes(&file).len(), 104);
    }
}
