//! Programs of the system, as far as they are there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use daemon::{About, Fault};

/// Where administrators' programs are, which an ordinary user's path leaves out.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A program.
pub(super) struct Tool {
    name: String,
    file: PathBuf,
}

/// Finds a program.
pub(super) fn find(name: &str) -> Option<Tool> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from));
    let file = dirs.map(|dir| dir.join(name)).find(|file| is_program(file))?;
    Some(Tool { name: name.to_owned(), file })
}

fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

impl Tool {
    /// Runs it, and keeps what it says for the case that it fails.
    pub(super) fn run<'a>(
        &self,
        args: impl IntoIterator<Item = &'a OsStr>,
    ) -> Result<Option<String>, Fault> {
        let mut command = Command::new(&self.file);
        command.args(args).env("LC_ALL", "C").stdin(Stdio::null());
        let output = command.output().about(&self.name)?;
        if output.status.success() {
            return Ok(None);
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        Err(Fault::new(&self.name, format!("{}\n{}", output.status, said.trim_end())))
    }
}
