//! The guard of a mount: a process that ends it where the daemon was killed and cannot end.
//!
//! A thread of a daemon that waits in the kernel for its own mount (by a file system whose program
//! has a device's file open, by a page that a request of a suspended device holds) cannot be killed,
//! and as long as it is there, so is the mount: both wait for each other. The guard sees the daemon's
//! death, and ends the connection, with an error for whoever waits.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, UnmountFlags, fsconfig_create, fsmount, fsopen,
};
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
    // Now, as the mount may be out of every table by then; and as another's may have its number.
    let abort = is_here.then(|| abort_of(number)).flatten();
    // What a terminal sends is for the daemon, which may have something to end.
    if is_here && !signals.forever().any(|signal| signal == SIGUSR1) {
        return Ok(());
    }
    let aborted = abort.is_some_and(|mut abort| abort.write_all(b"1").is_ok());
    if !aborted && backing::mount_number(mount).as_deref() == Some(number) {
        // Busy for sure; it ends the connection first. Root may.
        let _busy = rustix::mount::unmount(mount, UnmountFlags::FORCE);
    }
    Ok(())
}

/// Opens what ends a connection: where the kernel shows its connections, for whoever has mounted it;
/// by a view of them that is mounted nowhere, for root.
fn abort_of(number: &str) -> Option<File> {
    let connection = Path::new(number.rsplit(':').next()?).join("abort");
    let shown = Path::new("/sys/fs/fuse/connections").join(&connection);
    File::options().write(true).open(shown).ok().or_else(|| {
        let view = fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
        fsconfig_create(&view).ok()?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let root = fsmount(&view, flags, MountAttrFlags::empty()).ok()?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        openat(root, &connection, flags, Mode::empty()).ok().map(File::from)
    })
}
