//! The structures and the numbers of the protocol, by `linux/fuse.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The largest write, and the largest read: 1 MiB, which is what Linux allows unless told
/// otherwise (`fs.fuse.max_pages_limit`).
pub(crate) const MAX_WRITE: u32 = 1 << 20;

/// The unit of what a request carries at most, and where its data begins in memory.
pub(crate) const PAGE: usize = 4096;

/// The protocol that is spoken here: major and minor.
pub const VERSION: (u32, u32) = (7, 40);

/// The oldest minor version of a kernel that is served: Linux 3.15.
pub(super) const OLDEST_MINOR: u32 = 23;

/// Set in the identity of an interrupt: that of the request it is about, and this bit.
pub const INTERRUPT_BIT: u64 = 1;

/// The code of a notification that what a poll asked for may be there.
const POLL: i32 = 1;

/// The code of a notification that the pages and the attributes of a file are out of date.
const INVALIDATE_INODE: i32 = 2;

/// What the kernel asks for, by `linux/fuse.h`.
pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const IOCTL: u32 = 39;
    pub(crate) const POLL: u32 = 40;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
}

/// Which attributes a SETATTR sets.
pub(crate) mod valid {
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const HANDLE: u32 = 1 << 6;
}

macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub(crate) struct $name {
            $(pub(crate) $field: $kind,)*
        }
    )*};
}

structures! {
    /// Begins each message of the kernel.
    InHeader {
        len: u32, opcode: u32, unique: u64, node: u64, uid: u32, gid: u32, pid: u32, padding: u32,
    }
    /// Begins each answer.
    OutHeader { len: u32, error: i32, unique: u64, }
    /// INIT, as far as every kernel has it.
    InitIn { major: u32, minor: u32, max_readahead: u32, flags: u32, }
    InitOut {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16,
        congestion_threshold: u16, max_write: u32, time_gran: u32, max_pages: u16,
        map_alignment: u16, flags2: u32, max_stack_depth: u32, unused: [u32; 6],
    }
    Attr {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64, atimensec: u32,
        mtimensec: u32, ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32,
        blksize: u32, flags: u32,
    }
    EntryOut {
        node: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32,
        attr_valid_nsec: u32, attr: Attr,
    }
    AttrOut { valid: u64, valid_nsec: u32, dummy: u32, attr: Attr, }
    SetattrIn {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64,
        ctime: u64, atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32,
        uid: u32, gid: u32, unused5: u32,
    }
    OpenIn { flags: u32, open_flags: u32, }
    OpenOut { fh: u64, open_flags: u32, backing: i32, }
    ReleaseIn { fh: u64, flags: u32, release_flags: u32, lock_owner: u64, }
    FlushIn { fh: u64, unused: u32, padding: u32, lock_owner: u64, }
    /// READ and READDIR.
    ReadIn {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    }
    WriteIn {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    }
    WriteOut { size: u32, padding: u32, }
    FsyncIn { fh: u64, fsync_flags: u32, padding: u32, }
    StatfsOut {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32,
        frsize: u32, padding: u32, spare: [u32; 6],
    }
    InterruptIn { unique: u64, }
    IoctlIn { fh: u64, flags: u32, cmd: u32, arg: u64, in_size: u32, out_size: u32, }
    IoctlOut { result: i32, flags: u32, in_iovs: u32, out_iovs: u32, }
    PollIn { fh: u64, kh: u64, flags: u32, events: u32, }
    PollOut { revents: u32, padding: u32, }
    FallocateIn { fh: u64, offset: u64, length: u64, mode: u32, padding: u32, }
    LseekIn { fh: u64, offset: u64, whence: u32, padding: u32, }
    LseekOut { offset: u64, }
    /// One name of a directory; the name follows, filled up to eight bytes.
    Dirent { ino: u64, off: u64, namelen: u32, kind: u32, }
    InvalidateInode { ino: u64, off: i64, len: i64, }
    PollWakeup { kh: u64, }
}

/// How long a message is, ahead of the data of a WRITE: the two structures that it begins with.
pub const WRITE_AHEAD: usize = size_of::<InHeader>() + size_of::<WriteIn>();

/// Returns the answer's header: `len` bytes follow it.
pub(crate) fn header(unique: u64, error: i32, len: usize) -> OutHeader {
    let whole = size_of::<OutHeader>() + len;
    OutHeader {
        len: u32::try_from(whole).expect("an answer is no longer than a request asks"),
        error,
        unique,
    }
}

/// Returns the notification that a file, from its first byte to its last, and its attributes are
/// out of date.
pub fn invalidation(inode: u64) -> Vec<u8> {
    let body = InvalidateInode { ino: inode, off: 0, len: 0 };
    let header = header(0, INVALIDATE_INODE, size_of::<InvalidateInode>());
    [header.as_bytes(), body.as_bytes()].concat()
}

/// Returns the notification that a poll, by the kernel's name for it, is to look again.
pub fn poll_wakeup(poll: u64) -> Vec<u8> {
    let body = PollWakeup { kh: poll };
    let header = header(0, POLL, size_of::<PollWakeup>());
    [header.as_bytes(), body.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        let sizes = [
            (size_of::<InHeader>(), 40),
            (size_of::<OutHeader>(), 16),
            (size_of::<InitIn>(), 16),
            (size_of::<InitOut>(), 64),
            (size_of::<Attr>(), 88),
            (size_of::<EntryOut>(), 128),
            (size_of::<AttrOut>(), 104),
            (size_of::<SetattrIn>(), 88),
            (size_of::<OpenIn>(), 8),
            (size_of::<OpenOut>(), 16),
            (size_of::<ReleaseIn>(), 24),
            (size_of::<FlushIn>(), 24),
            (size_of::<ReadIn>(), 40),
            (size_of::<WriteIn>(), 40),
            (size_of::<WriteOut>(), 8),
            (size_of::<FsyncIn>(), 16),
            (size_of::<StatfsOut>(), 80),
            (size_of::<IoctlIn>(), 32),
            (size_of::<IoctlOut>(), 16),
            (size_of::<PollIn>(), 24),
            (size_of::<PollOut>(), 8),
            (size_of::<FallocateIn>(), 32),
            (size_of::<LseekIn>(), 24),
            (size_of::<LseekOut>(), 8),
            (size_of::<Dirent>(), 24),
            (size_of::<InvalidateInode>(), 24),
        ];
        assert!(sizes.iter().all(|(ours, theirs)| ours == theirs), "{sizes:?}");
    }
}
