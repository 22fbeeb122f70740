//! How a target opens the devices that its words name, and why it cannot.

use std::fmt;
use std::sync::Arc;

use crate::graph::{MAX_DEPTH, Refused};
use crate::{Access, Errno, OpenDevice, Refusal};

/// The devices of the table that a target is made for.
pub(crate) trait OpenByWord {
    fn open(&mut self, word: &str) -> Result<Arc<OpenDevice>, OpenError>;
    fn access(&self) -> Access;
}

/// Why a device cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    Refused(Refusal),
    TooDeep(u32),
    /// The device is being opened: the target is made once more when that has ended.
    Waits,
}

impl OpenError {
    pub(crate) fn errno(&self) -> Errno {
        match self {
            OpenError::Refused(refusal) => refusal.errno,
            OpenError::TooDeep(_) => Errno::LOOP,
            OpenError::Waits => Errno::AGAIN,
        }
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> OpenError {
        OpenError::Refused(errno.into())
    }
}

impl From<Refusal> for OpenError {
    fn from(refusal: Refusal) -> OpenError {
        OpenError::Refused(refusal)
    }
}

impl From<Refused> for OpenError {
    fn from(refused: Refused) -> OpenError {
        match refused {
            Refused::Loop => Errno::LOOP.into(),
            Refused::TooDeep(depth) => OpenError::TooDeep(depth),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // As the kernel's errno has it, this were about symbolic links.
            OpenError::Refused(refusal) if *refusal == Errno::LOOP.into() => {
                f.write_str("the device would lie on itself, by way of this one")
            }
            OpenError::Refused(refusal) => write!(f, "{refusal}"),
            OpenError::Waits => write!(f, "{}", Refusal::from(self.errno())),
            OpenError::TooDeep(depth) => {
                write!(f, "{depth} mapped devices on top of one another, of {MAX_DEPTH} at most")
            }
        }
    }
}
