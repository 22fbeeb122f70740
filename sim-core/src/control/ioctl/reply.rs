//! What a call is answered with.

use std::fmt;

use zeroize::Zeroizing;

use super::header::VERSION_LEN;
use crate::Errno;
use crate::control::INTERFACE_VERSION;

/// What becomes of a call.
#[must_use]
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// What the ioctl returns: 0, or the errno.
    pub result: Result<(), Errno>,
    /// Lines for the kernel's log, with their prefix. Those of commands that were carried out are
    /// not among them: the control plane writes its own.
    pub log: Vec<String>,
    /// So many bytes of the caller's buffer are to be overwritten with zeros, from its start, before
    /// `bytes` are written; more than 0 where the caller asked for a wipe alone
    /// (`DM_SECURE_DATA_FLAG`).
    pub wiped: usize,
    /// What is to be written to the caller's buffer, from its start. May hold keys.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reply { result, log, wiped, bytes } = self;
        write!(f, "{result:?}, wipes {wiped}, writes {}, log {log:?}", bytes.len())
    }
}

impl Reply {
    /// A refusal that leaves the caller's buffer as it is.
    pub(super) fn untouched(errno: Errno) -> Reply {
        let bytes = Zeroizing::default();
        Reply { result: Err(errno), log: Vec::new(), wiped: 0, bytes }
    }

    /// A refusal that tells the version alone.
    pub(super) fn refused(errno: Errno) -> Reply {
        Reply { bytes: version(), ..Reply::untouched(errno) }
    }

    /// The refusal of a call of which the caller's memory cannot be read, or wiped, as far as its
    /// `data_size`: `EFAULT`, and nothing but the version is told.
    pub fn bad_address() -> Reply {
        Reply::refused(Errno::FAULT)
    }

    /// The refusal of a call whose caller was told by a signal to wait no longer: `EINTR`.
    pub fn interrupted() -> Reply {
        Reply::refused(Errno::INTR)
    }

    /// Adds a line of the ioctl part's.
    pub(super) fn log(mut self, line: impl fmt::Display) -> Reply {
        self.log.push(format!("device-mapper: ioctl: {line}"));
        self
    }

    /// Does to a buffer what is to be done to the caller's.
    ///
    /// # Panics
    /// When the buffer is shorter than the caller's.
    pub fn apply(&self, buffer: &mut [u8]) {
        buffer[..self.wiped].fill(0);
        buffer[..self.bytes.len()].copy_from_slice(&self.bytes);
    }
}

/// The kernel's version, as it is written before anything else is looked at.
pub(super) fn version() -> Zeroizing<Vec<u8>> {
    let bytes: Vec<u8> = INTERFACE_VERSION.iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert_eq!(bytes.len(), VERSION_LEN);
    Zeroizing::new(bytes)
}
