//! What requests are answered with.

use std::time::SystemTime;

use sim_core::DevNumber;

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
    /// A character device with this number, as `stat` shows it.
    CharacterDevice(DevNumber),
    /// A block device with this number, as `stat` shows it.
    BlockDevice(DevNumber),
    /// A symbolic link.
    Link,
}

/// A file that was found by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub Attributes);

/// A file that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What later requests name it by.
    pub handle: u64,
    /// How the kernel treats its pages.
    pub pages: Pages,
}

/// How the kernel treats the pages of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// It keeps none; reads and writes go through, several at a time.
    Direct,
    /// It keeps them, those of earlier opens too.
    Kept,
    /// It does as it likes: a directory's.
    Default,
}

/// A place in a file that a seek has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub u64);

/// What an ioctl returns, and writes to where its argument points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The value of the call.
    pub value: i32,
    /// What is written.
    pub bytes: Vec<u8>,
}

/// The events that have come to an open file: the bits of poll(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled(pub u32);

/// Names of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing(pub Vec<Listed>);

/// One name of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The inode.
    pub inode: u64,
    /// Where a listing goes on after it.
    pub place: u64,
    /// Which kind of file it is.
    pub kind: Kind,
    /// The name.
    pub name: String,
}

/// What `statfs` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// How large all devices are together, in blocks of [`BLOCK`](Self::BLOCK) bytes.
    pub blocks: u64,
    /// How many files there are.
    pub files: u64,
}

impl Statistics {
    /// The unit of a size.
    pub const BLOCK: u32 = 4096;

    /// The longest name.
    pub const NAME: u32 = sim_core::control::MAX_NAME as u32;
}
