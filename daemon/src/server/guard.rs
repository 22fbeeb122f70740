//! The guard of a mount: a process that ends it where the daemon was killed and cannot end.
//!
//! A thread of a daemon that waits in the kernel for its own mount (by a file system whose program
//! has a device's file open, by a page that a request of a suspended device holds) cannot be killed,
//! and as long as it is there, so is the mount: both wait for each other. The guard sees the daemon's
//! death, and ends the connection, with an error for whoever waits.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::fault::{About, Fault};

/// What the kernel sends the guard when the thread that started it is dead.
const DEATH: Signal = Signal::USR1;

/// A guard; it ends when dropped.
pub(super) struct Guard(Child);

impl Guard {
    /// Starts the guard of a mount, with this number of its file system, by a program of dmsim. The
    /// thread that calls is to live as long as the daemon does.
    pub(super) fn start(program: &Path, mount: &Path, number: &str) -> Result<Guard, Fault> {
        let mut command = Command::new(program);
        command.arg0("dmsim").arg("guard").arg(mount).arg(number);
        command.arg(std::process::id().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The guard must keep no directory busy.
        Ok(Guard(command.current_dir("/").spawn().about("guard")?))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Waits for the death of a daemon, and ends its mount then: what the guard process does.
pub fn guard(mount: &Path, number: &str, daemon: u32) -> Result<(), Fault> {
    let about = || format!("guard of {}", mount.display());
    let mut signals = signal_hook::iterator::Signals::new([SIGUSR1, SIGTERM, SIGINT, SIGHUP]);
    let signals = signals.as_mut().map_err(|error| Fault::new(about(), error.to_string()))?;
    set_parent_process_death_signal(Some(DEATH))
        .map_err(|error| Fault::new(about(), std::io::Error::from(error)))?;
    let parent = getppid().map(Pid::as_raw_pid);
    let is_here = parent.is_some_and(|parent| u32::try_from(parent) == Ok(daemon));
    // What a terminal sends is for the daemon, which may have something to end.
    if is_here && !signals.forever().any(|signal| signal == SIGUSR1) {
        return Ok(());
    }
    if backing::mount_number(mount).as_deref() == Some(number) {
        end(mount, number);
    }
    Ok(())
}

/// Ends a connection by the way that there is: root may always, whoever has mounted it where the
/// kernel shows its connections.
fn end(mount: &Path, number: &str) {
    let connection = number.rsplit(':').next().unwrap_or(number);
    let abort = PathBuf::from("/sys/fs/fuse/connections").join(connection).join("abort");
    if std::fs::write(abort, "1").is_err() {
        // Busy for sure; it ends the connection first.
        let _busy = rustix::mount::unmount(mount, UnmountFlags::FORCE);
    }
}
