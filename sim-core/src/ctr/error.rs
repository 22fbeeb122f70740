//! Why a target could not be made.

use std::fmt;

use crate::Errno;

/// Why a target could not be made from its table line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CtrError {
    /// The errno that the load fails with.
    pub errno: Errno,
    /// The kernel's text for this fault (`ti->error`).
    pub kernel: String,
    /// Which word is at fault, counted from 0 after the type; none where it is the line itself.
    pub arg: Option<usize>,
    /// What was expected and what was found; empty where the kernel's text says it all.
    pub detail: String,
}

impl CtrError {
    /// Makes the error of a line that is wrong as a whole.
    pub fn new(kernel: impl Into<String>) -> CtrError {
        CtrError { errno: Errno::INVAL, kernel: kernel.into(), arg: None, detail: String::new() }
    }

    /// Says which errno the load fails with, where it is not [`Errno::INVAL`].
    #[must_use]
    pub fn errno(mut self, errno: Errno) -> CtrError {
        self.errno = errno;
        self
    }

    /// Says which word is at fault.
    #[must_use]
    pub fn arg(mut self, arg: usize) -> CtrError {
        self.arg = Some(arg);
        self
    }

    /// Says what was expected, and what was found.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> CtrError {
        self.detail = detail.into();
        self
    }
}

impl fmt::Display for CtrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(arg) = self.arg {
            write!(f, "argument {}: ", arg + 1)?;
        }
        if !self.detail.is_empty() {
            write!(f, "{}: ", self.detail)?;
        }
        f.write_str(&self.kernel)
    }
}

impl std::error::Error for CtrError {}
