//! Block devices opened by their number, whatever `/dev` has.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open};
use sim_core::DevNumber;

/// Where a node may be made, the likeliest first: what is mounted with `nodev` refuses to open it.
const FOLDERS: [&str; 3] = ["/dev", "/run", "/tmp"];

/// A device's inode, held without having the device open.
#[derive(Debug)]
pub(crate) struct Special(OwnedFd);

impl Special {
    /// Makes a node, takes hold of it and unlinks it.
    pub(crate) fn block(dev: DevNumber) -> io::Result<Special> {
        Special::make(FileType::BlockDevice, dev, "block")
    }

    /// Makes the node of a character device. Its name ends so: that is how `/proc` tells of it.
    pub(crate) fn character(dev: DevNumber, name: &str) -> io::Result<Special> {
        Special::make(FileType::CharacterDevice, dev, name)
    }

    fn make(kind: FileType, dev: DevNumber, name: &str) -> io::Result<Special> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for folder in FOLDERS.map(Path::new) {
            match made(folder, kind, dev, name) {
                Ok(inode) => return Ok(Special(inode)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Opens the device for reading.
    pub(crate) fn read(&self) -> io::Result<File> {
        File::open(self.path())
    }

    /// Opens the device for reading and writing.
    pub(crate) fn write(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path())
    }

    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

fn made(folder: &Path, kind: FileType, dev: DevNumber, name: &str) -> io::Result<OwnedFd> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".dmsim-{}-{number}-{name}", std::process::id()));
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &path, kind, mode, makedev(dev.major, dev.minor))?;
    let inode = open(&path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty());
    fs::remove_file(&path)?;
    let inode = inode?;
    let statfs = rustix::fs::fstatvfs(&inode)?;
    match statfs.f_flag.contains(rustix::fs::StatVfsMountFlags::NODEV) {
        true => Err(io::ErrorKind::PermissionDenied.into()),
        false => Ok(inode),
    }
}
