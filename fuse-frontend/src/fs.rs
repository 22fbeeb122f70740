//! Translates what the kernel asks of the mount into requests on devices.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use futures_util::FutureExt;
use sim_core::control::{Command, Id, Node, Shown};
use sim_core::{Access, BlockDevice, Errno, SECTOR_SIZE};

use crate::files::{Files, OpenFile, Opening, ROOT, size_of};
use crate::ranges::Seek;
use crate::reply::fuse;
use crate::request::Durability;

/// The largest write, and the largest read: 1 MiB, which is what Linux allows unless told
/// otherwise (`fs.fuse.max_pages_limit`).
const MAX_WRITE: u32 = 1 << 20;

/// How many asynchronous requests the kernel may have under way: above any queue depth in use.
const MAX_BACKGROUND: u16 = 256;

/// How long the kernel may rely on a size or a name: a resume may change the one at any time, a
/// rename the other.
const TTL: Duration = Duration::ZERO;

/// What is asked of the kernel where it has it.
///
/// Not FUSE_ATOMIC_O_TRUNC: with it Linux takes a file for empty after an open with `O_TRUNC`,
/// until somebody asks for the size, and a loop device over the file fails to read meanwhile.
/// Without it the open brings a truncation, whose answer tells the size that the file still has.
const CAPABILITIES: [InitFlags; 4] = [
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_PARALLEL_DIROPS,
];

// open(2), lseek(2) and linux/fs.h, on every architecture that this runs on.
const O_DSYNC: i32 = 0o10000;
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;
const BLKGETSIZE64: u32 = 0x8008_1272;

/// What the files of a mount have in common.
pub(crate) struct Fs {
    pub(crate) files: Arc<Files>,
    pub(crate) cache: bool,
    pub(crate) allow_other: bool,
    pub(crate) mounted: SystemTime,
    pub(crate) owner: (u32, u32),
}

impl Fs {
    fn attr(&self, shown: &Shown) -> FileAttr {
        let (node, size) = (shown.node, size_of(shown));
        FileAttr {
            ino: INodeNo(self.files.inode(&shown.device)),
            size,
            blocks: size / SECTOR_SIZE,
            kind: FileType::RegularFile,
            perm: permissions(node.mode),
            nlink: 1,
            uid: node.uid.unwrap_or(self.owner.0),
            gid: node.gid.unwrap_or(self.owner.1),
            ..self.root_attr()
        }
    }

    fn root_attr(&self) -> FileAttr {
        FileAttr {
            ino: INodeNo(ROOT),
            size: 0,
            blocks: 0,
            atime: self.mounted,
            mtime: self.mounted,
            ctime: self.mounted,
            crtime: self.mounted,
            kind: FileType::Directory,
            perm: if self.allow_other { 0o755 } else { 0o700 },
            nlink: 2,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn opened(&self, handle: FileHandle) -> Result<Arc<OpenFile>, Errno> {
        self.files.opened(handle.0)
    }

    fn set_node(&self, shown: &Shown, node: Node) -> Result<(), Errno> {
        let id = Id::Dev(shown.device.number());
        // Noted for the record on the spot, and written without the client waiting for the disk.
        let set = self.files.control.perform(Command::SetNode { id, node });
        // Nothing in it waits; where that changes, the client is told that it could not be done.
        match set.now_or_never() {
            Some(Ok(_)) => Ok(()),
            Some(Err(failure)) => Err(failure.errno),
            None => Err(Errno::AGAIN),
        }
    }
}

impl Filesystem for Fs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            if let Err(missing) = config.add_capabilities(capability) {
                tracing::debug!(?missing, "the kernel's FUSE lacks a capability");
            }
        }
        // Each of these answers the nearest that would do; the values are within all bounds.
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn destroy(&mut self) {
        self.files.close_all();
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let shown = name.to_str().filter(|_| parent.0 == ROOT);
        match shown.and_then(|name| self.files.control.find_shown(name)) {
            Some(shown) => reply.entry(&TTL, &self.attr(&shown), Generation(0)),
            None => reply.error(fuse(Errno::NOENT)),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if ino.0 == ROOT {
            return reply.attr(&TTL, &self.root_attr());
        }
        match self.files.device(ino.0) {
            Ok(shown) => reply.attr(&TTL, &self.attr(&shown)),
            Err(errno) => reply.error(fuse(errno)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut shown = match self.files.device(ino.0) {
            Ok(shown) => shown,
            Err(Errno::ISDIR) => return reply.error(fuse(Errno::PERM)),
            Err(errno) => return reply.error(fuse(errno)),
        };
        match (size, fh) {
            // An open with O_TRUNC, which a device ignores. So is a truncate(2) to no bytes, as
            // it looks the same.
            (None, _) | (Some(0), None) => {}
            (Some(size), _) if size == size_of(&shown) => {}
            // As ftruncate(2) on a block device.
            (Some(_), _) => return reply.error(fuse(Errno::INVAL)),
        }
        let node = Node {
            mode: mode.map_or(shown.node.mode, |mode| mode & 0o7777),
            uid: uid.or(shown.node.uid),
            gid: gid.or(shown.node.gid),
        };
        if node != shown.node {
            // Whether the caller may has been checked by the kernel (default_permissions).
            if let Err(errno) = self.set_node(&shown, node) {
                return reply.error(fuse(errno));
            }
            shown.node = node;
        }
        reply.attr(&TTL, &self.attr(&shown));
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let access = match flags.acc_mode() {
            OpenAccMode::O_RDONLY => Access::ReadOnly,
            OpenAccMode::O_WRONLY | OpenAccMode::O_RDWR => Access::ReadWrite,
        };
        let opening = Opening { access, pid: req.pid(), uid: req.uid() };
        let mode = if self.cache {
            FopenFlags::FOPEN_KEEP_CACHE
        } else {
            FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
        };
        match self.files.open(ino.0, &opening) {
            Ok(handle) => reply.opened(FileHandle(handle), mode),
            Err(errno) => reply.error(fuse(errno)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.opened(fh) {
            Ok(file) => file.disk.read(offset, size as usize, reply),
            Err(errno) => reply.error(fuse(errno)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // O_SYNC includes the bit of O_DSYNC.
        let durability =
            if flags.0 & O_DSYNC != 0 { Durability::AtOnce } else { Durability::AtFlush };
        match self.opened(fh) {
            Ok(file) => file.disk.write(offset, data, durability, reply),
            Err(errno) => reply.error(fuse(errno)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A close makes nothing durable, as on a block device.
        match self.opened(fh) {
            Ok(file) if file.access.is_read_only() => reply.ok(),
            Ok(file) => file.disk.closed(reply),
            Err(errno) => reply.error(fuse(errno)),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.opened(fh) {
            Ok(file) => file.disk.flush(reply),
            Err(errno) => reply.error(fuse(errno)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        match self.opened(fh) {
            Ok(file) => file.disk.allocate(mode, offset, length, reply),
            Err(errno) => reply.error(fuse(errno)),
        }
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let what = match whence {
            SEEK_DATA => Ok(Seek::Data),
            SEEK_HOLE => Ok(Seek::Hole),
            _ => Err(Errno::INVAL),
        };
        let at = u64::try_from(offset).map_err(|_| Errno::NXIO);
        let found = self
            .opened(fh)
            .and_then(|file| file.disk.seek(at?, what?))
            .map(|at| i64::try_from(at).expect("a file is shorter than 2^63 bytes"));
        match found {
            Ok(at) => reply.offset(at),
            Err(errno) => reply.error(fuse(errno)),
        }
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: IoctlFlags,
        cmd: u32,
        _: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        match (cmd, out_size, self.opened(fh)) {
            (BLKGETSIZE64, 8, Ok(file)) => reply.ioctl(0, &file.disk.size().to_ne_bytes()),
            (_, _, Ok(_)) => reply.error(fuse(Errno::NOTTY)),
            (_, _, Err(errno)) => reply.error(fuse(errno)),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.close(fh.0);
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if ino.0 != ROOT {
            return reply.error(fuse(Errno::NOTDIR));
        }
        // An entry's offset is its device's minor number and some: it stays what it is when
        // other devices come and go between two calls.
        let dots = [(ROOT, 1, FileType::Directory, "."), (ROOT, 2, FileType::Directory, "..")];
        let mut shown = self.files.control.shown();
        shown.sort_by_key(|shown| shown.device.minor());
        let devices = shown.iter().map(|shown| {
            let at = u64::from(shown.device.minor()) + 3;
            (self.files.inode(&shown.device), at, FileType::RegularFile, shown.name.as_str())
        });
        for (ino, at, kind, name) in dots.into_iter().chain(devices) {
            if at > offset && reply.add(INodeNo(ino), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        // As large as all devices together, and full: no file can be made here.
        let shown = self.files.control.shown();
        let total = shown.iter().map(size_of).fold(0, u64::saturating_add);
        let names = sim_core::control::MAX_NAME as u32;
        reply.statfs(total / 4096, 0, 0, shown.len() as u64, 0, 4096, names, 4096);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        // The kernel asks for one at each write until it is told that there are none at all.
        reply.error(fuse(Errno::NOSYS));
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(fuse(Errno::NOSYS));
    }

    // Files come and go with their devices, and in no other way.

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        reply.error(fuse(Errno::PERM));
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(fuse(Errno::PERM));
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(fuse(Errno::PERM));
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(fuse(Errno::PERM));
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(fuse(Errno::PERM));
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(fuse(Errno::PERM));
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(fuse(Errno::PERM));
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(fuse(Errno::PERM));
    }
}

fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}
