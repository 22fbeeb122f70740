//! What a caller sees of files.

use std::fs::{self, File};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use sim_core::{DevNumber, Errno};

/// What a caller sees of files. Nothing is looked at before it is asked for.
#[derive(Clone, Copy)]
pub(super) struct View {
    process: u32,
}

impl View {
    /// That of a process.
    pub(super) fn of(process: u32) -> View {
        View { process }
    }

    /// Returns the directory that it is in.
    pub(super) fn directory(self) -> String {
        let directory = fs::read_link(format!("/proc/{}/cwd", self.process)).ok();
        let directory = directory.and_then(|path| path.into_os_string().into_string().ok());
        directory.unwrap_or_else(|| "/".to_owned())
    }

    /// Returns the number of the block device that a path leads to, as the caller sees it.
    ///
    /// # Errors
    /// [`Errno::NOTBLK`] where it leads to something else; what the system says where it leads nowhere.
    pub(super) fn number(self, path: &str) -> Result<DevNumber, Errno> {
        let root = File::open(format!("/proc/{}/root", self.process)).map_err(|_| Errno::NOENT)?;
        let (flags, how) = (OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::IN_ROOT);
        let found = openat2(root, path, flags, Mode::empty(), how).and_then(fstat);
        let found = found.map_err(|error| Errno(error.raw_os_error()))?;
        let is_node = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
        let number = found.st_rdev;
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        is_node.then_some(DevNumber { major, minor }).ok_or(Errno::NOTBLK)
    }
}
