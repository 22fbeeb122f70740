//! What a bio and what a control operation can fail with.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a bio ended: the kernel's `blk_status_t`.
pub type BlkResult = Result<(), BlkError>;

/// Why a bio failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum BlkError {
    /// `BLK_STS_IOERR`: the device could not do it, or the range is not on it.
    #[error("input/output error")]
    Io,
    /// `BLK_STS_NOTSUPP`: the device has no such operation.
    #[error("operation not supported")]
    NotSupported,
    /// `BLK_STS_NOSPC`: no room is left below.
    #[error("no space left on device")]
    NoSpace,
    /// `BLK_STS_AGAIN`: the bio would have had to wait, and was told not to.
    #[error("operation would block")]
    Again,
    /// `BLK_STS_DM_REQUEUE`: a target hands the bio back. Honoured while a noflush suspend is
    /// under way (the bio waits for the resume), an I/O error otherwise.
    #[error("requeued")]
    Requeue,
    /// `BLK_STS_TIMEOUT`.
    #[error("operation timed out")]
    Timeout,
    /// `BLK_STS_MEDIUM`: the data below is known to be lost.
    #[error("medium error")]
    Medium,
    /// `BLK_STS_PROTECTION`: the data below does not check out.
    #[error("integrity error")]
    Protection,
    /// `BLK_STS_OFFLINE`: the device was removed while the bio waited.
    #[error("device removed")]
    Gone,
}

impl BlkError {
    /// Returns the errno that a reader or writer of the device sees.
    pub fn errno(self) -> Errno {
        match self {
            BlkError::Io | BlkError::Requeue => Errno::IO,
            BlkError::NotSupported => Errno::OPNOTSUPP,
            BlkError::NoSpace => Errno::NOSPC,
            BlkError::Again => Errno::AGAIN,
            BlkError::Timeout => Errno::TIMEDOUT,
            BlkError::Medium => Errno::NODATA,
            BlkError::Protection => Errno::ILSEQ,
            BlkError::Gone => Errno::NODEV,
        }
    }
}

/// An error number of Linux: what an ioctl returns, with its name and its `strerror` text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident $number:literal $text:literal,)*) => {
        #[allow(missing_docs, reason = "the names are those of errno(3)")]
        impl Errno {
            $(pub const $name: Errno = Errno($number);)*

            /// Returns the symbol as the kernel prints it (`EINVAL`), or `?` for one it has no name for.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($number => concat!("E", stringify!($name)),)*
                    _ => "?",
                }
            }

            /// Returns the text of `strerror`.
            pub fn text(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "Unknown error",
                }
            }
        }
    };
}

errnos! {
    PERM 1 "Operation not permitted",
    NOENT 2 "No such file or directory",
    INTR 4 "Interrupted system call",
    IO 5 "Input/output error",
    NXIO 6 "No such device or address",
    BADF 9 "Bad file descriptor",
    AGAIN 11 "Resource temporarily unavailable",
    NOMEM 12 "Cannot allocate memory",
    ACCES 13 "Permission denied",
    FAULT 14 "Bad address",
    NOTBLK 15 "Block device required",
    BUSY 16 "Device or resource busy",
    EXIST 17 "File exists",
    NODEV 19 "No such device",
    NOTDIR 20 "Not a directory",
    ISDIR 21 "Is a directory",
    INVAL 22 "Invalid argument",
    NFILE 23 "Too many open files in system",
    MFILE 24 "Too many open files",
    NOTTY 25 "Inappropriate ioctl for device",
    TXTBSY 26 "Text file busy",
    FBIG 27 "File too large",
    NOSPC 28 "No space left on device",
    ROFS 30 "Read-only file system",
    RANGE 34 "Numerical result out of range",
    NAMETOOLONG 36 "File name too long",
    NOSYS 38 "Function not implemented",
    LOOP 40 "Too many levels of symbolic links",
    NODATA 61 "No data available",
    PROTO 71 "Protocol error",
    OVERFLOW 75 "Value too large for defined data type",
    ILSEQ 84 "Invalid or incomplete multibyte or wide character",
    OPNOTSUPP 95 "Operation not supported",
    TIMEDOUT 110 "Connection timed out",
    NOKEY 126 "Required key not available",
    KEYREJECTED 129 "Key was rejected by service",
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl std::error::Error for Errno {}

impl From<BlkError> for Errno {
    fn from(error: BlkError) -> Errno {
        error.errno()
    }
}

/// Why a device is not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error.
    pub errno: Errno,
    /// What the errno does not say.
    pub why: Option<String>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { errno, why: None }
    }
}

impl From<BlkError> for Refusal {
    fn from(error: BlkError) -> Refusal {
        error.errno().into()
    }
}

impl Refusal {
    /// Makes one that says why, in the kernel's words where it has some.
    pub fn because(errno: Errno, why: impl Into<String>) -> Refusal {
        Refusal { errno, why: Some(why.into()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Some(why) => f.write_str(why),
            None => {
                // Within a message, which goes on in lower case.
                let mut text = self.errno.text().chars();
                let first = text.next().into_iter().flat_map(char::to_lowercase);
                first.chain(text).try_for_each(|c| write!(f, "{c}"))
            }
        }
    }
}
