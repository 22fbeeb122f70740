//! Why a table was refused.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Errno;

/// Why a table was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableError {
    /// The errno that the load fails with.
    pub errno: Errno,
    /// The kernel's text for this fault.
    pub kernel: String,
    /// Which target is at fault, from 0; none where it is the table as a whole.
    pub target: Option<usize>,
    /// Which word of its line is at fault, counted from 0 after the type.
    pub arg: Option<usize>,
    /// What was expected and what was found; empty where the kernel's text says it all.
    pub detail: String,
}

impl TableError {
    pub(crate) fn new(kernel: impl Into<String>) -> TableError {
        let (errno, target, arg, detail) = (Errno::INVAL, None, None, String::new());
        TableError { errno, kernel: kernel.into(), target, arg, detail }
    }

    pub(super) fn in_target(self, index: usize) -> TableError {
        TableError { target: Some(index), ..self }
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.detail.is_empty() {
            write!(f, "{}: ", self.detail)?;
        }
        f.write_str(&self.kernel)
    }
}

impl std::error::Error for TableError {}
