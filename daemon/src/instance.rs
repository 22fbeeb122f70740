//! The directories of an instance, what lies in them, and the lock that one daemon holds on them.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock, statfs};
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk, geteuid};

use crate::fault::{About, Fault};
use crate::folders::{self, make_private_dir, make_usable, open_own, refuse_others_dir};

/// The environment variable that names the directory.
pub const DIR_VARIABLE: &str = "DMSIM_DIR";

/// The longest path that a socket address takes (`sun_path`, with its final zero).
const MAX_SOCKET_PATH: usize = 107;

/// An instance: where its daemon is met, and where what survives a reboot lies. Both are one
/// directory where the instance was given one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    dir: PathBuf,
    state: PathBuf,
    /// The environment names no place for what survives a reboot: a daemon that runs may have been told
    /// one, and none can be started.
    lacks_state: bool,
}

impl Instance {
    /// Finds the instance that a command is for. One with a directory of its own (`dir`, else
    /// `$DMSIM_DIR`) keeps everything there. The default one is met in `$XDG_RUNTIME_DIR/dmsim`, or
    /// `/run/dmsim` for root, and keeps what must survive a reboot in `$XDG_STATE_HOME/dmsim`, or
    /// `/var/lib/dmsim` for root, or `~/.local/state/dmsim`. Nothing has to be there yet; where the
    /// environment says nothing of the latter, a daemon that runs can be met, and none be started.
    pub fn find(dir: Option<&Path>) -> Result<Instance, Fault> {
        let variable = |name: &str| std::env::var_os(name).filter(|dir| !dir.is_empty());
        let own = dir.map(PathBuf::from).or_else(|| variable(DIR_VARIABLE).map(PathBuf::from));
        if let Some(own) = own {
            let dir = std::path::absolute(&own).about(own.display())?;
            return Ok(Instance { state: dir.clone(), dir, lacks_state: false });
        }
        let is_root = geteuid().is_root();
        let dir = folders::run(variable, is_root).ok_or_else(|| {
            Fault::new("instance", "no directory: give --dir DIR, or set DMSIM_DIR")
        })?;
        let state = folders::state(variable, is_root);
        let lacks_state = state.is_none();
        // Where earlier versions kept it.
        Ok(Instance { state: state.unwrap_or_else(|| dir.clone()), dir, lacks_state })
    }

    /// Returns the instance with what survives a reboot in this directory, as its daemon says.
    #[must_use]
    pub fn with_state(&self, state: &Path) -> Instance {
        Instance { dir: self.dir.clone(), state: state.to_owned(), lacks_state: false }
    }

    /// Returns the directory of its socket, lock and mount.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the directory of what survives a reboot.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Tells whether what should survive a reboot lies in memory.
    pub fn is_in_memory(&self) -> bool {
        is_in_memory(&self.state)
    }

    /// Tells whether there is a record, where it lies now or where earlier versions kept it.
    pub fn has_record(&self) -> bool {
        let names = [RECORD, OLD_RECORD];
        let places = [&self.state, &self.dir];
        // What cannot be looked at is left to the daemon to complain of.
        let missing = |path: PathBuf| {
            path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        places.iter().any(|place| names.iter().any(|name| !missing(place.join(name))))
    }

    /// Returns where devices are shown, unless the daemon was told another place.
    pub fn mapper(&self) -> PathBuf {
        self.dir.join("mapper")
    }

    /// Returns where the private device-mapper is, which `shell` shows.
    pub fn private(&self) -> PathBuf {
        self.dir.join("private")
    }

    /// Returns the file with the lines that the kernel would log.
    pub fn kmsg(&self) -> PathBuf {
        self.dir.join("kmsg")
    }

    /// Returns the daemon's own log.
    pub fn log(&self) -> PathBuf {
        self.state.join("log")
    }

    /// Returns the record of what is attached and loaded.
    pub fn record(&self) -> PathBuf {
        self.state.join(RECORD)
    }

    /// Returns the file that names the plug-ins of the daemon that served last.
    pub fn plugins(&self) -> PathBuf {
        self.state().join("plugins")
    }

    /// Returns the folder of the stores that `snapshot` makes where none is named.
    pub fn cows(&self) -> PathBuf {
        self.state.join("cow")
    }

    /// Returns the folders in which such stores may lie: the second is where earlier versions made
    /// those of the default instance.
    pub fn cow_folders(&self) -> [PathBuf; 2] {
        [self.cows(), self.dir.join("cow")]
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

    /// Makes the directories, for their owner alone, where there are none.
    ///
    /// # Errors
    /// Where one cannot be made or written to, or is nowhere to be; of the default instance, where it belongs to
    /// another user; of root's, where another user could exchange what lies in it.
    pub fn make_dirs(&self) -> Result<(), Fault> {
        if self.lacks_state {
            let why = "no directory for what survives a reboot: set HOME or XDG_STATE_HOME, or give \
                       --dir DIR";
            return Err(Fault::new("instance", why));
        }
        if self.state == self.dir {
            make_private_dir(&self.dir)?;
            return refuse_others_dir(&self.dir);
        }
        let own = "or give the instance a directory of its own by --dir";
        make_usable(
            &self.dir,
            &format!("the socket and the mount lie there: set XDG_RUNTIME_DIR, {own}"),
        )?;
        let what = "the record and the stores of snapshots lie there";
        make_usable(&self.state, &format!("{what}: set XDG_STATE_HOME, {own}"))?;
        refuse_others_dir(&self.dir)?;
        refuse_others_dir(&self.state)
    }

    /// Takes the lock for a daemon that shows devices in `mount`. A process can be the daemon of
    /// several instances, but must not take the lock of one twice.
    pub fn lock(&self, mount: &Path) -> Result<Lock, Fault> {
        let path = self.lock_file();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = open_own(&path, &options).about(path.display())?;
        let deadline = Instant::now() + ENDING;
        while fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let owner = Owner::read(&mut file);
            if owner.as_ref().is_some_and(|owner| is_ending(owner.pid)) && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let by = owner.map(|owner| format!(" (pid {})", owner.pid)).unwrap_or_default();
            return Err(Fault::new(self.dir.display(), format!("{ALREADY_RUNS}{by}")));
        }
        let left_behind = Owner::read(&mut file).map(|owner| owner.mount);
        let owner = Owner { pid: std::process::id(), mount: mount.to_path_buf() };
        owner.write(&mut file).about(path.display())?;
        let state = if self.state == self.dir { None } else { Some(self.lock_state()?) };
        Ok(Lock { file, _state: state, left_behind })
    }

    /// Locks what survives a reboot: another run directory can lead to the same.
    fn lock_state(&self) -> Result<File, Fault> {
        let path = self.state.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = open_own(&path, &options).about(path.display())?;
        let deadline = Instant::now() + ENDING;
        while fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let Some(pid) = lock_holder(&file) else { continue };
            if is_ending(pid) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let why = format!(
                "the record is kept by another daemon (pid {pid}), which has another directory to \
                 run in: two of them cannot share it"
            );
            return Err(Fault::new(self.state.display(), why));
        }
        Ok(file)
    }

    /// Returns the process that holds the lock; nothing where none does. Only looks, so that it
    /// is in nobody's way.
    pub fn holder(&self) -> Option<u32> {
        let mut file = File::open(self.lock_file()).ok()?;
        // A holder in another process namespace has no number here: its own has to do.
        match lock_holder(&file)? {
            0 => Owner::read(&mut file).map(|owner| owner.pid).or(Some(0)),
            pid => Some(pid),
        }
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

/// The name of the record of earlier versions.
pub(crate) const OLD_RECORD: &str = "state.json";

/// The types of file systems that lie in memory: tmpfs and ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Tells whether a file or directory lies in memory, and is gone after a reboot.
pub fn is_in_memory(path: &Path) -> bool {
    // The types are 32 bits wide, in a word that some machines have signed.
    statfs(path).is_ok_and(|fs| IN_MEMORY.contains(&(fs.f_type as u64 & 0xffff_ffff)))
}

/// Returns the process that holds the lock of a file; 0 for one that has no number here.
fn lock_holder(file: &File) -> Option<u32> {
    let held = fcntl_getlk(file, &Flock::from(FlockType::ReadLock)).ok()??;
    Some(held.pid.map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0))
}

/// Tells whether a process was killed, and has yet to let go of its files: its memory, and with it
/// its command line, goes first.
fn is_ending(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.is_empty())
}

/// The lock on an instance: held until it is dropped, or its process ends in whatever way.
pub struct Lock {
    file: File,
    _state: Option<File>,
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
    fn who_knows_no_place_for_the_record_meets_a_daemon_and_starts_none() {
        let (dir, instance) = instance();
        instance.make_dirs().unwrap();
        let _listener = instance.listen().unwrap();
        let bare = Instance { lacks_state: true, ..instance.clone() };
        bare.connect().unwrap();
        let fault = bare.make_dirs().unwrap_err();
        assert!(fault.why.contains("set HOME or XDG_STATE_HOME"), "{fault}");
        bare.with_state(&dir.path().join("state")).make_dirs().unwrap();
    }

    #[test]
    fn a_path_longer_than_a_socket_address_can_be_listened_on() {
        let (dir, _) = instance();
        let deep = dir.path().join("d".repeat(120));
        let instance = Instance::find(Some(&deep)).unwrap();
        instance.make_dirs().unwrap();
        let listener = instance.listen().unwrap();
        instance.connect().unwrap();
        drop(listener);
    }
}
