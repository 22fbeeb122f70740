//! `kmsg`: the lines that the kernel would log.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sim_core::KernelLog;

use crate::fault::{About, Fault};
use crate::folders::open_own;

/// How long the file may become, in bytes, before it is put aside as `kmsg.old`: in the place of the one
/// before, as the kernel's log has room for so much too, and programs may log as fast as they can call.
const MOST: u64 = 4 << 20;

/// Appends each line to a file, with one write, before the operation that logs it goes on.
pub(super) struct Kmsg {
    path: PathBuf,
    most: u64,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    /// How long it is, in bytes.
    len: u64,
}

impl Kmsg {
    /// Opens the file, and makes it where there is none.
    pub(super) fn open(path: &Path) -> Result<Kmsg, Fault> {
        Kmsg::with_most(path, MOST).about(path.display())
    }

    fn with_most(path: &Path, most: u64) -> io::Result<Kmsg> {
        let open = Mutex::new(Open::new(path)?);
        Ok(Kmsg { path: path.to_owned(), most, open })
    }

    fn write(&self, line: &str) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let len = line.len() as u64;
        if open.len > 0 && open.len + len > self.most {
            let aside = self.path.with_extension("old");
            // Where that fails it goes on as it is.
            if rename(&self.path, aside).is_ok() {
                *open = Open::new(&self.path)?;
            }
        }
        // One write for a line: whoever reads meanwhile sees whole ones.
        open.file.write_all(line.as_bytes())?;
        open.len += len;
        Ok(())
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Open> {
        let file = open_own(path, OpenOptions::new().append(true).create(true))?;
        let len = file.metadata()?.len();
        Ok(Open { file, len })
    }
}

impl KernelLog for Kmsg {
    fn line(&self, line: &str) {
        let line = format!("{}\n", line.replace('\n', " "));
        if let Err(error) = self.write(&line) {
            tracing::warn!(%error, line = line.trim_end(), "kmsg: a line is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::read_to_string;

    use super::*;

    #[test]
    fn it_does_not_grow_for_ever_and_loses_none_of_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kmsg");
        let lines: Vec<String> = (0..100).map(|nr| format!("device-mapper: line {nr}")).collect();
        let (first, later) = lines.split_at(50);
        for part in [first, later] {
            // Another daemon goes on with what is there.
            let kmsg = Kmsg::with_most(&path, 600).unwrap();
            part.iter().for_each(|line| kmsg.line(line));
        }
        let (old, new) = (read_to_string(dir.path().join("kmsg.old")), read_to_string(&path));
        let (old, new) = (old.unwrap(), new.unwrap());
        assert!(old.len() <= 600 && new.len() <= 600 && old.len() > 500, "{old}{new}");
        let kept: Vec<String> = format!("{old}{new}").lines().map(str::to_owned).collect();
        assert_eq!(kept, lines[lines.len() - kept.len()..]);
    }
}
