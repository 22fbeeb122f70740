//! `kmsg`: the lines that the kernel would log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sim_core::KernelLog;

use crate::fault::{About, Fault};

/// Appends each line to a file, with one write, before the operation that logs it goes on.
pub(super) struct Kmsg {
    file: File,
}

impl Kmsg {
    /// Opens the file, and makes it where there is none.
    pub(super) fn open(path: &Path) -> Result<Kmsg, Fault> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path);
        Ok(Kmsg { file: file.about(path.display())? })
    }
}

impl KernelLog for Kmsg {
    fn line(&self, line: &str) {
        // One write for a line: lines of several threads do not mix.
        let line = format!("{}\n", line.replace('\n', " "));
        if let Err(error) = (&self.file).write_all(line.as_bytes()) {
            tracing::warn!(%error, line = line.trim_end(), "kmsg: a line is lost");
        }
    }
}
