//! Asks whether whoever serves a file answers.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long whoever serves a file may take to say what it is.
const DEADLINE: Duration = Duration::from_secs(10);

/// Looks at a file: a pipe, for one, must not be opened.
const LOOK: &str = r#"[ -f "$0" ] && : < "$0""#;

/// Looks at files of others, each by a process: one that waits for a program that does not answer
/// cannot be killed, and a thread in its place would hold up the end of the daemon.
#[derive(Default)]
pub(super) struct Questions {
    /// Those that were not answered in time, with what their file systems are called.
    open: Mutex<Vec<(String, Child)>>,
}

impl Questions {
    /// Asks for a file in the file system `of`; says why it must not be opened.
    pub(super) fn ask(&self, of: &str, path: &Path) -> Result<(), String> {
        if self.is_open(of) {
            return Err(
                "whoever serves the file has not answered since it was last asked".to_owned()
            );
        }
        let mut process = match look(path) {
            Ok(process) => process,
            Err(error) => {
                tracing::warn!(%error, "no process looks at a file that may hang");
                return Ok(());
            }
        };
        let deadline = Instant::now() + DEADLINE;
        let mut pause = Duration::from_millis(1);
        while let Ok(None) = process.try_wait() {
            if Instant::now() > deadline {
                // It ends when it can.
                let _ended_already = process.kill();
                self.locked().push((of.to_owned(), process));
                let seconds = DEADLINE.as_secs();
                return Err(format!("whoever serves the file does not answer: waited {seconds} s"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Tells whether a file system has been asked something that it has not answered. One process
    /// waits for each at most.
    fn is_open(&self, of: &str) -> bool {
        let mut open = self.locked();
        open.retain_mut(|(_, process)| matches!(process.try_wait(), Ok(None)));
        open.iter().any(|(silent, _)| silent == of)
    }

    fn locked(&self) -> MutexGuard<'_, Vec<(String, Child)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(path: &Path) -> io::Result<Child> {
    let mut shell = Command::new("/bin/sh");
    shell.args([OsStr::new("-c"), OsStr::new(LOOK), path.as_os_str()]);
    shell.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn()
}
