//! A mount that serves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{Config, Notifier, Session, SessionACL};
use sim_core::control::Changed;
use sim_core::{Control, Runtime};

use crate::files::{Files, User};
use crate::fs::Fs;
use crate::invalidate::Invalidator;
use crate::mount::{self, DeviceId, MountError};
use crate::task::Tasks;

/// How long an unmount waits for the replies that are due, and then for the threads to end.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(5);

/// How long a change of a cached file is held up until the kernel has dropped its pages.
const INVALIDATE_LIMIT: Duration = Duration::from_millis(500);

/// The most threads that serve a mount.
const MAX_THREADS: usize = 64;

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
    /// It fails with [`MountError::Busy`], and the mount goes on.
    Refuse,
    /// The mount goes from its directory at once. Files that are open are served until they are
    /// closed or the process ends.
    Detach,
}

/// A control plane's devices, as files in a mount. Dropping it unmounts, busy or not.
pub struct Frontend {
    dir: PathBuf,
    device: DeviceId,
    cache: bool,
    files: Arc<Files>,
    tasks: Arc<Tasks>,
    invalidator: Arc<Invalidator>,
    ended: Arc<Ended>,
}

impl Frontend {
    /// Mounts at `dir`, and returns when the mount serves.
    ///
    /// Mounts by itself where it may (root, or the root of a user namespace), and by
    /// `fusermount3` elsewhere. What a request waits for runs on `runtime`.
    pub fn mount(
        control: Arc<Control>,
        runtime: Arc<dyn Runtime>,
        dir: &Path,
        options: &Options,
    ) -> Result<Frontend, MountError> {
        let fault = |what| move |source| MountError::Io { dir: dir.to_owned(), what, source };
        let dir = dir.canonicalize().map_err(fault("no such directory"))?;
        let tasks = Arc::new(Tasks::new(runtime));
        let files = Arc::new(Files::new(control, tasks.clone()));
        let notifier: Arc<OnceLock<Notifier>> = Arc::default();
        let fs = Fs {
            files: files.clone(),
            cache: options.cache,
            allow_other: options.allow_other,
            mounted: SystemTime::now(),
            owner: mount::owner(),
        };
        let connection = mount::attach(&dir, options)?;
        let served = serve(fs, connection, options, &notifier);
        let ended = served.map_err(fault("cannot serve the mount")).inspect_err(|_| {
            let _ = mount::detach(&dir, Busy::Detach);
        })?;
        let device = DeviceId::of(&dir).map_err(fault("the mount does not answer"))?;
        let invalidator = Invalidator::new(files.clone(), notifier);
        Ok(Frontend { dir, device, cache: options.cache, files, tasks, invalidator, ended })
    }

    /// Lists who has which device open.
    pub fn users(&self) -> Vec<User> {
        self.files.users()
    }

    /// Takes note of a change of the control plane: to be called by whoever
    /// [watches](Control::watch) it.
    ///
    /// When it returns, the kernel shows the new content; where it must wait for pages of the
    /// file that are in use, that is held up for half a second at most and goes on by itself.
    pub fn changed(&self, changed: &Changed) {
        match changed {
            // The kernel relies on no name: it asks each time.
            Changed::Name(_) => {}
            Changed::Content(minor) => {
                let dropped = self.invalidator.start(*minor);
                if let Some(dropped) = dropped
                    && self.cache
                    && dropped.recv_timeout(INVALIDATE_LIMIT).is_err()
                {
                    tracing::warn!(minor, "the kernel still holds pages of a changed device");
                }
            }
        }
    }

    /// Tells whether the mount is where it was made, and served.
    pub fn is_mounted(&self) -> bool {
        !self.ended.get() && DeviceId::of(&self.dir).is_ok_and(|device| device == self.device)
    }

    /// Unmounts. Does nothing where somebody else has.
    ///
    /// Waits up to 5 seconds for replies that are due. Requests that a suspended device holds
    /// get theirs after [`fail_held`](sim_core::MappedDevice::fail_held), which is the caller's
    /// to call.
    pub fn unmount(&self, busy: Busy) -> Result<(), MountError> {
        if self.is_mounted() {
            mount::detach(&self.dir, busy)?;
        }
        self.tasks.wait(UNMOUNT_LIMIT);
        // Open files, or a copy of the mount in another namespace, keep it served.
        if self.files.users().is_empty() {
            self.ended.wait(UNMOUNT_LIMIT);
        }
        Ok(())
    }
}

impl Drop for Frontend {
    fn drop(&mut self) {
        if self.is_mounted()
            && let Err(error) = mount::detach(&self.dir, Busy::Detach)
        {
            tracing::error!(%error, "a mount is left behind");
        }
    }
}

/// Starts the threads that serve a connection; the kernel is answered from here on.
fn serve(
    fs: Fs,
    connection: std::os::fd::OwnedFd,
    options: &Options,
    notifier: &OnceLock<Notifier>,
) -> std::io::Result<Arc<Ended>> {
    let acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let mut config = Config::default();
    config.acl = acl;
    config.n_threads = Some(options.threads.clamp(1, MAX_THREADS));
    config.clone_fd = true;
    let session = Session::from_fd(fs, connection, acl, config)?;
    notifier.get_or_init(|| session.notifier());
    let ended = Arc::new(Ended::default());
    let end = ended.clone();
    thread::Builder::new().name("fuse-session".to_owned()).spawn(move || {
        if let Err(error) = session.run() {
            tracing::error!(%error, "the mount is no longer served");
        }
        end.set();
    })?;
    Ok(ended)
}

/// Whether the connection to the kernel has ended.
#[derive(Default)]
struct Ended {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    fn get(&self) -> bool {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.changed.wait_timeout_while(ended, limit, |ended| !*ended);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }
}
