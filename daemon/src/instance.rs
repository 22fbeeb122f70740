//! The directory of an instance, what lies in it, and the lock that one daemon holds on it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk, geteuid};

use crate::fault::{About, Fault};

/// The environment variable that names the directory.
pub const DIR_VARIABLE: &str = "DMSIM_DIR";

/// The longest path that a socket address takes (`sun_path`, with its final zero).
const MAX_SOCKET_PATH: usize = 107;

/// An instance's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    dir: PathBuf,
}

impl Instance {
    /// Finds the instance that a command is for: `dir` where it is given, else `$DMSIM_DIR`, else
    /// `$XDG_RUNTIME_DIR/dmsim`, else `/run/dmsim` for root. Nothing has to be there yet.
    pub fn find(dir: Option<&Path>) -> Result<Instance, Fault> {
        let variable = |name| std::env::var_os(name).filter(|dir| !dir.is_empty());
        let dir = dir
            .map(PathBuf::from)
            .or_else(|| variable(DIR_VARIABLE).map(PathBuf::from))
            .or_else(|| variable("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join("dmsim")))
            .or_else(|| geteuid().is_root().then(|| PathBuf::from("/run/dmsim")))
            .ok_or_else(|| {
                Fault::new("instance", "no directory: give --dir DIR, or set DMSIM_DIR")
            })?;
        let dir = std::path::absolute(&dir).about(dir.display())?;
        Ok(Instance { dir })
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns where devices are shown, unless the daemon was told another place.
    pub fn mapper(&self) -> PathBuf {
        self.dir.join("mapper")
    }

    /// Returns the file with the lines that the kernel would log.
    pub fn kmsg(&self) -> PathBuf {
        self.dir.join("kmsg")
    }

    /// Returns the daemon's own log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Returns the record of what is attached and loaded.
    pub fn record(&self) -> PathBuf {
        self.dir.join(RECORD)
    }

    /// Returns the folder of the stores that `snapshot` makes where none is named.
    pub fn cows(&self) -> PathBuf {
        self.dir.join("cow")
    }

    /// Returns the store that `snapshot` makes for a snapshot.
    pub fn cow(&self, snapshot: &str) -> PathBuf {
        self.cows().join(format!("{snapshot}.cow"))
    }

    /// Returns the note that `merge` leaves while it is under way.
    pub fn merging(&self, snapshot: &str) -> PathBuf {
        self.cows().join(format!("{snapshot}.merging"))
    }

    /// Returns the socket that the daemon listens on.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    fn lock_file(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Makes the directory, for its owner alone, where there is none.
    pub fn make_dir(&self) -> Result<(), Fault> {
        make_private_dir(&self.dir)
    }

    /// Takes the lock for a daemon that shows devices in `mount`. A process can be the daemon of
    /// several instances, but must not take the lock of one twice.
    pub fn lock(&self, mount: &Path) -> Result<Lock, Fault> {
        let path = self.lock_file();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).about(path.display())?;
        let deadline = Instant::now() + ENDING;
        while fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let owner = Owner::read(&mut file);
            if owner.as_ref().is_some_and(Owner::is_ending) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let by = owner.map(|owner| format!(" (pid {})", owner.pid)).unwrap_or_default();
            return Err(Fault::new(self.dir.display(), format!("{ALREADY_RUNS}{by}")));
        }
        let left_behind = Owner::read(&mut file).map(|owner| owner.mount);
        let owner = Owner { pid: std::process::id(), mount: mount.to_path_buf() };
        owner.write(&mut file).about(path.display())?;
        Ok(Lock { file, left_behind })
    }

    /// Returns the process that holds the lock; nothing where none does. Only looks, so that it
    /// is in nobody's way.
    pub fn holder(&self) -> Option<u32> {
        let mut file = File::open(self.lock_file()).ok()?;
        let held = fcntl_getlk(&file, &Flock::from(FlockType::ReadLock)).ok()??;
        // A holder in another process namespace has no number here: its own has to do.
        let pid = held.pid.map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok());
        pid.or_else(|| Owner::read(&mut file).map(|owner| owner.pid)).or(Some(0))
    }

    /// Listens on the socket, in the place of a daemon that died without removing its own. To be
    /// called by the holder of the lock.
    pub fn listen(&self) -> io::Result<UnixListener> {
        match std::fs::remove_file(self.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = self.at_socket(|path| UnixListener::bind(path))?;
        std::fs::set_permissions(self.socket(), Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Connects to the daemon.
    pub fn connect(&self) -> io::Result<UnixStream> {
        self.at_socket(|path| UnixStream::connect(path))
    }

    /// A socket's path is limited to a hundred odd bytes; one through the open directory fits.
    fn at_socket<T>(&self, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let path = self.socket();
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return act(&path);
        }
        let dir = File::open(&self.dir)?;
        act(&PathBuf::from(format!("/proc/self/fd/{}/control.sock", dir.as_raw_fd())))
    }
}

/// How long a daemon that was killed may take to let go of its lock.
const ENDING: Duration = Duration::from_secs(5);

/// The name of the record of what is attached and loaded.
pub const RECORD: &str = "record.log";

/// What the fault says when a second daemon is started over a directory.
pub const ALREADY_RUNS: &str = "a daemon runs here already";

/// Makes a directory for its owner alone, with those above it, where there is none.
pub fn make_private_dir(dir: &Path) -> Result<(), Fault> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).about(dir.display())
}

/// The lock on an instance: held until it is dropped, or its process ends in whatever way.
pub struct Lock {
    file: File,
    /// Where the daemon before showed its devices, if it died without saying good-bye.
    pub left_behind: Option<PathBuf>,
}

impl Lock {
    /// Notes that the daemon left nothing behind.
    pub fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }
}

/// What the lock file says of its holder.
struct Owner {
    pid: u32,
    mount: PathBuf,
}

impl Owner {
    fn read(file: &mut File) -> Option<Owner> {
        let mut text = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        let (pid, mount) = text.trim_end_matches('\n').split_once(' ')?;
        Some(Owner { pid: pid.parse().ok()?, mount: mount.into() })
    }

    /// Tells whether the process was killed, and has yet to let go of its files: its memory, and
    /// with it its command line, goes first.
    fn is_ending(&self) -> bool {
        std::fs::read(format!("/proc/{}/cmdline", self.pid)).is_ok_and(|words| words.is_empty())
    }

    fn write(&self, file: &mut File) -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{} {}\n", self.pid, self.mount.display()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> (tempfile::TempDir, Instance) {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::find(Some(dir.path())).unwrap();
        (dir, instance)
    }

    #[test]
    fn who_died_leaves_a_note_of_its_mount_and_who_stopped_does_not() {
        let (_dir, instance) = instance();
        drop(instance.lock(Path::new("/a place")).unwrap());
        let lock = instance.lock(Path::new("/other")).unwrap();
        assert_eq!(lock.left_behind.as_deref(), Some(Path::new("/a place")));
        lock.clear().unwrap();
        drop(lock);
        assert_eq!(instance.lock(Path::new("/x")).unwrap().left_behind, None);
    }

    #[test]
    fn a_path_longer_than_a_socket_address_can_be_listened_on() {
        let (dir, _) = instance();
        let deep = dir.path().join("d".repeat(120));
        let instance = Instance::find(Some(&deep)).unwrap();
        instance.make_dir().unwrap();
        let listener = instance.listen().unwrap();
        instance.connect().unwrap();
        drop(listener);
    }
}
