//! How a target opens the devices that its words name, and why it cannot.

use std::fmt;
use std::sync::Arc;

use crate::graph::{MAX_DEPTH, Refused};
use crate::{Access, Errno, OpenDevice};

/// The devices of the table that a target is made for.
pub(crate) trait OpenByWord {
    fn open(&mut self, word: &str) -> Result<Arc<OpenDevice>, OpenError>;
    fn access(&self) -> Access;
}

/// Why a device cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    Errno(Errno),
    TooDeep(u32),
    /// The device is being opened: the target is made once more when that has ended.
    Waits,
}

impl OpenError {
    pub(crate) fn errno(self) -> Errno {
        match self {
            OpenError::Errno(errno) => errno,
            OpenError::TooDeep(_) => Errno::LOOP,
            OpenError::Waits => Errno::AGAIN,
        }
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> OpenError {
        OpenError::Errno(errno)
    }
}

impl From<Refused> for OpenError {
    fn from(refused: Refused) -> OpenError {
        match refused {
            Refused::Loop => OpenError::Errno(Errno::LOOP),
            Refused::TooDeep(depth) => OpenError::TooDeep(depth),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Within a message, which goes on in lower case.
            OpenError::Errno(_) | OpenError::Waits => {
                let mut text = self.errno().text().chars();
                let first = text.next().into_iter().flat_map(char::to_lowercase);
                first.chain(text).try_for_each(|c| write!(f, "{c}"))
            }
            OpenError::TooDeep(depth) => {
                write!(f, "{depth} mapped devices on top of one another, of {MAX_DEPTH} at most")
            }
        }
    }
}
