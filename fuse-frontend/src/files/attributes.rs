//! What is told of a file: its size, its owner, its mode.

use std::time::SystemTime;

/// What `stat` tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The inode.
    pub inode: u64,
    /// Which kind of file it is.
    pub kind: Kind,
    /// The size in bytes.
    pub size: u64,
    /// The permissions.
    pub mode: u32,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When it was made, and changed for the last time: when the mount was.
    pub time: SystemTime,
}

/// Which kind a file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The directory of the mount.
    Directory,
    /// A device's file.
    File,
}
