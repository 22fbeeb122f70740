//! What is asked of the files, and by whom.

use std::ffi::OsStr;

use sim_core::Access;

use super::reply::Replies;
use super::request::{Durability, Units};

/// Carries out requests.
pub trait Service: Send + Sync + 'static {
    /// Carries out one request, now or in a task that it starts; it never waits.
    fn serve(&self, request: Request<'_>, reply: impl Replies);

    /// No request will come any more: open files are closed.
    fn end(&self);
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who asks.
    pub caller: Caller,
    /// The inode that it is about.
    pub inode: u64,
    /// What is asked.
    pub operation: Operation<'a>,
}

/// Who asks: a thread and its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The thread; 0 for one that cannot be seen from here.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What is asked. Handles are those that an open has answered; the answer of each is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Which file has this name in the directory: [`Entry`](super::Entry).
    LookUp {
        /// The name.
        name: &'a OsStr,
    },
    /// A file's [`Attributes`](super::Attributes).
    Attributes,
    /// Changes a file's [`Attributes`](super::Attributes), and answers those.
    SetAttributes(SetAttributes),
    /// Where a symbolic link leads: its bytes.
    ReadLink,
    /// Opens a file: [`Opened`](super::Opened).
    Open {
        /// What for.
        access: Access,
    },
    /// Opens the directory: [`Opened`](super::Opened).
    OpenDirectory,
    /// Reads bytes, or what there is of them.
    Read {
        /// The open file.
        handle: u64,
        /// The first byte.
        at: u64,
        /// How many.
        len: u32,
        /// What place and length are multiples of.
        units: Units,
    },
    /// Writes bytes, and answers how many were.
    Write {
        /// The open file.
        handle: u64,
        /// The first byte.
        at: u64,
        /// What is written.
        data: &'a [u8],
        /// When it is to be durable.
        durability: Durability,
        /// Where the data comes from.
        origin: Origin,
        /// What place and length are multiples of.
        units: Units,
    },
    /// Makes durable what was written.
    Flush {
        /// The open file.
        handle: u64,
    },
    /// One descriptor of an open file is closed; others may be left.
    Close {
        /// The open file.
        handle: u64,
    },
    /// `fallocate`.
    Allocate {
        /// The open file.
        handle: u64,
        /// What is done with the range, by the kernel's numbers.
        mode: u32,
        /// The first byte.
        at: u64,
        /// How many.
        len: u64,
    },
    /// `lseek` to data or to a hole: [`Position`](super::Position).
    Seek {
        /// The open file.
        handle: u64,
        /// Where the search begins.
        at: u64,
        /// What is looked for, by the kernel's numbers.
        whence: u32,
    },
    /// An ioctl: [`Output`](super::Output).
    Ioctl(Ioctl<'a>),
    /// Which events have come to an open file: [`Polled`](super::Polled).
    Poll {
        /// The open file.
        handle: u64,
        /// Who is to be woken when one comes later, by the kernel's name for it.
        wakes: Option<u64>,
    },
    /// The last descriptor of an open file is closed.
    Release {
        /// The open file.
        handle: u64,
    },
    /// The last descriptor of the open directory is closed.
    ReleaseDirectory,
    /// Names of the directory: [`Listing`](super::Listing).
    List {
        /// The place after which the listing goes on, 0 at first.
        after: u64,
        /// How many there is room for.
        most: usize,
    },
    /// Makes the directory durable.
    FlushDirectory,
    /// [`Statistics`](super::Statistics).
    Statistics,
    /// Makes, removes or renames a file.
    Rearrange,
}

/// Which attributes are changed, and to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// The mode.
    pub mode: Option<u32>,
    /// The user.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The size.
    pub size: Option<u64>,
    /// The open file that it was done by: `ftruncate`, and no `truncate`.
    pub handle: Option<u64>,
}

/// Where the data of a write comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A program's own write.
    Program,
    /// A program's own write to what it takes for the end: the kernel has looked that up, and the
    /// device may have grown since.
    Append,
    /// Pages that the kernel keeps: whoever changed them, and when, is not known.
    Cache,
}

/// An ioctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ioctl<'a> {
    /// The open file.
    pub handle: u64,
    /// The command.
    pub command: u32,
    /// The argument as the caller gave it: an address in its memory, for most commands.
    pub argument: u64,
    /// Flags, by the protocol's numbers.
    pub flags: u32,
    /// What the kernel has copied from there.
    pub input: &'a [u8],
    /// How many bytes it will copy there.
    pub room: u32,
}
