//! What a caller sees of files.

use std::fs::{self, File};
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use sim_core::DevNumber;

use crate::loops::mounted_at;

/// What a caller sees of files.
pub(super) struct View {
    process: u32,
    root: Option<File>,
    /// The directory that it is in.
    pub(super) directory: String,
}

impl View {
    /// That of a process.
    pub(super) fn of(process: u32) -> View {
        let root = File::open(format!("/proc/{process}/root")).ok();
        let directory = fs::read_link(format!("/proc/{process}/cwd")).ok();
        let directory = directory.and_then(|path| path.into_os_string().into_string().ok());
        View { process, root, directory: directory.unwrap_or_else(|| "/".to_owned()) }
    }

    /// Returns the number of the block device that a path leads to, as the caller sees it.
    pub(super) fn number(&self, path: &str) -> Option<DevNumber> {
        let (flags, how) = (OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::IN_ROOT);
        let found = openat2(self.root.as_ref()?.as_fd(), path, flags, Mode::empty(), how).ok()?;
        let found = fstat(&found).ok()?;
        let number = found.st_rdev;
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let is_node = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
        is_node.then_some(DevNumber { major, minor })
    }

    /// Writes out the file systems that the caller sees mounted from these block devices. Those of a
    /// kernel's device are frozen when it is suspended, which comes to the same for what has been written
    /// by then.
    pub(super) fn sync(&self, node: DevNumber) {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.process));
        let mounts = mounts.unwrap_or_default();
        let Some(at) = mounted_at(&mounts, &node.to_string()) else { return };
        let (flags, how) = (OFlags::RDONLY | OFlags::CLOEXEC, ResolveFlags::IN_ROOT);
        let root = self.root.as_ref().map(AsFd::as_fd);
        let opened = root.map(|root| openat2(root, at, flags, Mode::empty(), how));
        if let Some(Ok(opened)) = opened
            && let Err(error) = rustix::fs::syncfs(&opened)
        {
            tracing::warn!(%error, %node, "a file system is suspended unwritten");
        }
    }
}
