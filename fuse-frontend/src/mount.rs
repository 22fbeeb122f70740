//! Making and ending mounts: by system calls where they are allowed, else by `fusermount3`.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::options::{Busy, Options};

/// What the mount is called in the mount table, and the file system's subtype there.
const NAME: &str = "dmsim";

/// The programs that mount for ordinary users, the one of today first.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// Why there may be no `/dev/fuse`, and what helps.
pub const NO_FUSE: &str = "the kernel has no FUSE (`modprobe fuse`), the container was not given the device (docker and podman: \
     `--device /dev/fuse`), or this user may not read and write it (`chmod 666`, or its group)";

/// What is missing where only a program may mount, and what helps.
pub const NO_FUSERMOUNT: &str = "fusermount3 is not installed: an ordinary user mounts by it (package fuse3: `apt install fuse3`, `dnf install \
     fuse3`); root needs the capability CAP_SYS_ADMIN instead (docker and podman: `--cap-add SYS_ADMIN`)";

/// The most dead mounts on top of one another that are cleaned.
const MAX_DEAD: usize = 16;

/// Why a directory could not be mounted on, or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The machine has no FUSE, or does not let this user have it.
    #[error("/dev/fuse: cannot be opened: {}", NO_FUSE)]
    NoFuse(#[source] io::Error),
    /// Files in the mount are open, or somebody has it as working directory.
    #[error("{}: busy: files in it are open", dir.display())]
    Busy {
        /// The directory.
        dir: PathBuf,
    },
    /// A system call failed.
    #[error("{}: {what}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The program that mounts for ordinary users refused, or there is none.
    #[error("{}: {said}", dir.display())]
    Helper {
        /// The directory.
        dir: PathBuf,
        /// What it said.
        said: String,
    },
}

/// Which mount a path lies on, found without asking whoever serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceId(u32, u32);

impl DeviceId {
    pub(crate) fn of(dir: &Path) -> io::Result<DeviceId> {
        let stat = rustix::fs::statx(CWD, dir, AtFlags::STATX_DONT_SYNC, StatxFlags::empty())?;
        Ok(DeviceId(stat.stx_dev_major, stat.stx_dev_minor))
    }
}

/// Unmounts what a daemon that died has left at `dir`, and tells whether there was something.
///
/// Touches no mount that is served, and none but FUSE's: a dead one alone answers `ENOTCONN`.
pub fn clean_dead_mount(dir: &Path) -> Result<bool, MountError> {
    for cleaned in 0..MAX_DEAD {
        match std::fs::metadata(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Ok(_) | Err(_) => return Ok(cleaned > 0),
        }
        detach(dir, Busy::Detach)?;
    }
    Ok(true)
}

/// Returns the user and group that a mount belongs to.
pub(crate) fn owner() -> (u32, u32) {
    (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
}

/// Mounts, and returns the connection to the kernel.
pub(crate) fn attach(dir: &Path, options: &Options) -> Result<OwnedFd, MountError> {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let device = device.map_err(MountError::NoFuse)?;
    let (uid, gid) = owner();
    let fd = device.as_raw_fd();
    let mut data =
        format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid},default_permissions");
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if options.allow_other {
        data.push_str(",allow_other");
    }
    if options.read_only {
        flags |= MountFlags::RDONLY;
    }
    let data = CString::new(data).expect("numbers and words");
    match rustix::mount::mount(NAME, dir, format!("fuse.{NAME}"), flags, data.as_c_str()) {
        Ok(()) => Ok(device.into()),
        Err(rustix::io::Errno::PERM) => attach_by_helper(dir, options),
        Err(error) => {
            Err(MountError::Io { dir: dir.to_owned(), what: "cannot mount", source: error.into() })
        }
    }
}

/// Unmounts. With [`Busy::Detach`] the mount goes from its directory also when it is in use.
pub(crate) fn detach(dir: &Path, busy: Busy) -> Result<(), MountError> {
    let flags = match busy {
        Busy::Refuse => UnmountFlags::NOFOLLOW,
        Busy::Detach => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(dir, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => detach_by_helper(dir, busy),
        Err(rustix::io::Errno::BUSY) => Err(MountError::Busy { dir: dir.to_owned() }),
        Err(error) => {
            let source = error.into();
            Err(MountError::Io { dir: dir.to_owned(), what: "cannot unmount", source })
        }
    }
}

fn attach_by_helper(dir: &Path, options: &Options) -> Result<OwnedFd, MountError> {
    let mut words = format!("nosuid,nodev,fsname={NAME},subtype={NAME},default_permissions");
    if options.allow_other {
        words.push_str(",allow_other");
    }
    if options.read_only {
        words.push_str(",ro");
    }
    let fault = |source| MountError::Io {
        dir: dir.to_owned(),
        what: "no connection to fusermount3",
        source,
    };
    let (ours, theirs) = UnixStream::pair().map_err(fault)?;
    // The helper sends the connection over the descriptor that this names: its standard input,
    // as that is the one that can be handed down without unsafe code.
    let prepare = |command: &mut Command| {
        command.env("_FUSE_COMMFD", "0").arg("-o").arg(&words).arg("--").arg(dir);
        command.stdin(OwnedFd::from(theirs.try_clone()?));
        Ok(())
    };
    run_helper(dir, prepare)?;
    drop(theirs);
    receive(&ours).map_err(fault)
}

fn detach_by_helper(dir: &Path, busy: Busy) -> Result<(), MountError> {
    let prepare = |command: &mut Command| {
        command.arg("-u");
        if busy == Busy::Detach {
            command.arg("-z");
        }
        command.arg("--").arg(dir);
        Ok(())
    };
    match run_helper(dir, prepare) {
        Err(MountError::Helper { said, .. }) if said.contains("resource busy") => {
            Err(MountError::Busy { dir: dir.to_owned() })
        }
        result => result,
    }
}

/// Runs the first of the helpers that is installed to its end.
fn run_helper(
    dir: &Path,
    prepare: impl Fn(&mut Command) -> io::Result<()>,
) -> Result<(), MountError> {
    let said = |said: String| MountError::Helper { dir: dir.to_owned(), said };
    let fault = |source| MountError::Io { dir: dir.to_owned(), what: HELPERS[0], source };
    for helper in HELPERS {
        let mut command = Command::new(helper);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        prepare(&mut command).map_err(fault)?;
        match command.output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(error)),
            Ok(Output { status, .. }) if status.success() => return Ok(()),
            Ok(Output { stderr, .. }) => {
                let text = String::from_utf8_lossy(&stderr);
                return Err(said(text.trim().to_lowercase()));
            }
        }
    }
    Err(said(NO_FUSERMOUNT.to_owned()))
}

/// Receives the descriptor that a helper has sent.
fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sent = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    sent.ok_or_else(|| io::Error::other("fusermount3 sent no connection"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helper_mounts_and_unmounts_as_the_system_calls_do() {
        let dir = tempfile::tempdir().unwrap();
        let connection = match attach_by_helper(dir.path(), &Options::default()) {
            Ok(connection) => connection,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "{error}");
                return println!("skipped: {error}");
            }
        };
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let line = format!("{} fuse.{NAME} ", dir.path().display());
        assert!(mounts.contains(&line), "{mounts}");
        // Nobody serves it: a dead mount, as soon as the connection goes.
        drop(connection);
        assert!(clean_dead_mount(dir.path()).unwrap());
        assert!(matches!(
            detach_by_helper(dir.path(), Busy::Refuse),
            Err(MountError::Helper { .. })
        ));
    }
}
