//! What the two ends speak of.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sim_core::{DevNumber, Errno};

/// A reserved block node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    /// The node's number, which stays until it is removed.
    pub dev: DevNumber,
    /// The disk that it is the partition of.
    pub disk: Whole,
}

/// The whole disk below a node, by the driver that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Whole {
    /// The loop device of this number.
    Loop(u32),
    /// The ublk disk of this number.
    Ublk(u32),
}

impl fmt::Display for Whole {
    /// As the kernel calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whole::Loop(number) => write!(f, "loop{number}"),
            Whole::Ublk(number) => write!(f, "ublkb{number}"),
        }
    }
}

impl Whole {
    /// Returns what the kernel says of it.
    pub(crate) fn sys(self) -> PathBuf {
        Path::new("/sys/devices/virtual/block").join(self.to_string())
    }

    /// Returns what the kernel says of its partition.
    pub(crate) fn partition(self) -> PathBuf {
        self.sys().join(format!("{self}p{}", crate::PARTITION))
    }
}

/// What a node shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The mapped device's file. Another name of the same file may be given at any time.
    #[serde(with = "crate::wire::path")]
    pub file: PathBuf,
    /// The size, in bytes: a multiple of `block`, and not zero.
    pub bytes: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The logical block size, in bytes: a power of two from 512 up to the size of a page.
    pub block: u32,
    /// How far is read ahead, in sectors of 512 bytes; the kernel keeps whole pages of it. It is set
    /// when it changes here, so that what a program has set meanwhile stays.
    pub read_ahead: u32,
}

/// Why a node could not be reserved, shown or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// Somebody has the node open or mounted.
    #[error("{0}")]
    Busy(String),
    /// The system refused.
    #[error("{what}")]
    System {
        /// What was done, to what.
        what: String,
        /// The system's answer.
        #[source]
        errno: Errno,
    },
    /// It cannot be done, for a reason of ours.
    #[error("{0}")]
    Refused(String),
    /// There was no answer in time. What was asked may still happen.
    #[error("{what}: no answer from the block helper in {}.{} s", limit.as_secs(), limit.subsec_millis() / 100)]
    TimedOut {
        /// What was asked.
        what: String,
        /// How long the answer was waited for.
        limit: Duration,
    },
    /// The helper has ended.
    #[error("the block helper has ended")]
    Ended,
}

impl Error {
    /// Tells whether somebody has the node open or mounted: then everything is as it was.
    pub fn is_busy(&self) -> bool {
        matches!(self, Error::Busy(_))
    }

    /// Returns what a system call that failed so would have said.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Busy(_) => Errno::BUSY,
            Error::System { errno, .. } => *errno,
            Error::Refused(_) => Errno::INVAL,
            Error::TimedOut { .. } => Errno::TIMEDOUT,
            Error::Ended => Errno::IO,
        }
    }
}

/// Makes an error of what the system said.
pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |error| Error::System { what, errno: Errno(error.raw_os_error().unwrap_or(Errno::IO.0)) }
}
