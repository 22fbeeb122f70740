//! Opens and locks the file of an image, and finds out what it is.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    FallocateFlags, FlockOperation, OFlags, SeekFrom, fallocate, flock, fstatfs, seek,
};
use sim_core::{Access, Errno, Sectors};

use crate::image::attach::{Attach, AttachError};
use crate::runtime::flusher::errno_of;

/// An image file that is open, locked, and long enough.
pub(crate) struct Opened {
    pub(crate) file: Arc<File>,
    /// With all symbolic links followed.
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    /// In bytes; a multiple of the logical block size.
    pub(crate) size: u64,
    pub(crate) kind: Kind,
}

/// What lies behind the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// A regular file whose pages are its storage: reading a hole of it through a mapping takes
    /// memory, and raises SIGBUS where there is none left.
    InMemory,
    /// A block device node.
    Node,
}

/// Tells apart files that have several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// Device and inode of a regular file.
    File(u64, u64),
    /// The number of a block device.
    Node(u64),
}

impl Identity {
    /// Returns the identity of the file that `path` leads to, or why it can be no image.
    pub(crate) fn of(path: &Path) -> Result<Identity, AttachError> {
        let metadata = fs::metadata(path).map_err(system("open", path))?;
        Identity::new(&metadata, path)
    }

    fn new(metadata: &Metadata, path: &Path) -> Result<Identity, AttachError> {
        let kind = metadata.file_type();
        let found = if kind.is_file() {
            return Ok(Identity::File(metadata.dev(), metadata.ino()));
        } else if kind.is_block_device() {
            return Ok(Identity::Node(metadata.rdev()));
        } else if kind.is_dir() {
            "a directory"
        } else if kind.is_char_device() {
            "a character device"
        } else if kind.is_fifo() {
            "a pipe"
        } else {
            "a socket"
        };
        Err(AttachError::NotADisk { path: path.to_owned(), found })
    }
}

impl Opened {
    /// Opens what is asked for, making it first if need be. A file that was made and then cannot
    /// be used is removed again.
    pub(crate) fn new(ask: &Attach) -> Result<Opened, AttachError> {
        if !matches!(ask.sector_size, 512 | 4096) {
            return Err(AttachError::SectorSize { found: ask.sector_size });
        }
        if ask.access.is_read_only() && (ask.create.is_some() || ask.preallocate) {
            return Err(AttachError::ReadOnlyCreate { path: ask.path.clone() });
        }
        let Some(size) = ask.create else { return Opened::existing(ask, open(ask)?) };
        let path = &ask.path;
        let file = options(ask.access).create_new(true).mode(0o600).open(path);
        let file = file.map_err(system("create", path))?;
        let made = file.set_len(size).map_err(system("set the size", path));
        let opened = made.and_then(|()| Opened::existing(ask, file));
        if opened.is_err() {
            // Ours, and empty. The error that made it useless is the one to report.
            let _ = fs::remove_file(path);
        }
        opened
    }

    fn existing(ask: &Attach, file: File) -> Result<Opened, AttachError> {
        let path = &ask.path;
        lock(&file, ask)?;
        let metadata = file.metadata().map_err(system("stat", path))?;
        let identity = Identity::new(&metadata, path)?;
        if matches!(identity, Identity::Node(_)) && !ask.host_device {
            // Put there after the first look.
            return Err(AttachError::HostDevice { path: path.clone() });
        }
        let size = size_of(&file, path, Sectors::in_bytes(ask.sector_size.into()))?;
        if ask.preallocate && matches!(identity, Identity::File(..)) {
            let filled = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size);
            filled.map_err(|e| system("preallocate", path)(e.into()))?;
        }
        if ask.create.is_some() {
            make_durable(&file, path).map_err(system("flush", path))?;
        }
        let kind = match identity {
            Identity::Node(_) => Kind::Node,
            Identity::File(..) if is_in_memory(&file) => Kind::InMemory,
            Identity::File(..) => Kind::File,
        };
        let path = fs::canonicalize(path).map_err(system("find", path))?;
        if path.to_str().is_none() {
            return Err(AttachError::NotText { path });
        }
        // It goes by its path from here on, on record too.
        if !Identity::of(&path).is_ok_and(|there| there == identity) {
            let why = "its path leads to another file by now".to_owned();
            return Err(AttachError::OnDmsim { path, why });
        }
        Ok(Opened { file: Arc::new(file), path, identity, size, kind })
    }
}

/// Returns how many bytes an image has by its file, in whole logical blocks; one at least.
pub(crate) fn size_of(file: &File, path: &Path, block: Sectors) -> Result<u64, AttachError> {
    let metadata = file.metadata().map_err(system("stat", path))?;
    let size = match metadata.file_type().is_block_device() {
        false => metadata.len(),
        // What BLKGETSIZE64 says, without an ioctl. Nothing goes by the position of the file.
        true => seek(file, SeekFrom::End(0)).map_err(|e| system("size", path)(e.into()))?,
    };
    match size - size % block.bytes() {
        0 => {
            let sector_size = block.bytes() as u32;
            Err(AttachError::TooSmall { path: path.to_owned(), size, sector_size })
        }
        size => Ok(size),
    }
}

/// Tells whether every byte of a file has its room.
pub(crate) fn has_no_holes(file: &File, size: u64) -> bool {
    // Blocks of 512 bytes, whatever the file system's own.
    file.metadata().is_ok_and(|metadata| metadata.blocks().saturating_mul(512) >= size)
}

fn open(ask: &Attach) -> Result<File, AttachError> {
    let mut options = options(ask.access);
    // A look before the file is opened: to open a pipe or a tape has effects.
    let identity = Identity::of(&ask.path)?;
    if matches!(identity, Identity::Node(_)) {
        if !ask.host_device {
            return Err(AttachError::HostDevice { path: ask.path.clone() });
        }
        // Refused while the kernel has it mounted, or uses it otherwise.
        options.custom_flags((base_flags() | OFlags::EXCL).bits() as i32);
    }
    options.open(&ask.path).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) if matches!(identity, Identity::Node(_)) => {
            AttachError::HostDeviceBusy { path: ask.path.clone() }
        }
        _ => system("open", &ask.path)(error),
    })
}

fn options(access: Access) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(!access.is_read_only());
    options.custom_flags(base_flags().bits() as i32);
    options
}

fn base_flags() -> OFlags {
    OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

fn lock(file: &File, ask: &Attach) -> Result<(), AttachError> {
    let how = match ask.access {
        Access::ReadWrite => FlockOperation::NonBlockingLockExclusive,
        Access::ReadOnly => FlockOperation::NonBlockingLockShared,
    };
    match flock(file, how) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(AttachError::Locked { path: ask.path.clone() }),
        Err(other) => Err(system("lock", &ask.path)(other.into())),
    }
}

/// Makes a new file, and its name, survive a crash.
fn make_durable(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

fn is_in_memory(file: &File) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    fstatfs(file).is_ok_and(|fs| matches!(fs.f_type as u64 & 0xffff_ffff, TMPFS | RAMFS))
}

fn system(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AttachError {
    let path = path.to_owned();
    move |error| AttachError::System {
        what,
        path,
        errno: match errno_of(&error) {
            // A directory that is opened for writing, seen before it could be looked at.
            Errno::ISDIR => Errno::NOTBLK,
            errno => errno,
        },
    }
}
