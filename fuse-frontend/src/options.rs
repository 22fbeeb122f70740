//! How a mount is made, and ended.

use std::thread;

/// How a mount is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Let other users in, as far as the modes of the files allow.
    pub allow_other: bool,
    /// Let the kernel keep pages of the files. They are dropped when a table changes.
    pub cache: bool,
    /// Refuse to open for writing.
    pub read_only: bool,
    /// How many threads take requests: from 1 to 64.
    pub threads: usize,
}

impl Default for Options {
    /// The owner alone, direct, for writing, with as many threads as there are processors, from
    /// 2 to 8.
    fn default() -> Options {
        let processors = thread::available_parallelism().map_or(2, usize::from);
        let threads = processors.clamp(2, 8);
        Options { allow_other: false, cache: false, read_only: false, threads }
    }
}

/// What becomes of an unmount while files in the mount are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// It fails with [`MountError::Busy`](crate::MountError::Busy), and the mount goes on.
    Refuse,
    /// The mount goes from its directory at once. Files that are open are served until they are
    /// closed or the process ends.
    Detach,
}
