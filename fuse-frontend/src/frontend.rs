//! A mount that serves.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sim_core::control::Changed;
use sim_core::{Control, MappedDevice, Runtime};

use crate::files::request::Disk;
use crate::files::{Files, Mount, Replies, Request, Service, Tasks, User};
use crate::invalidate::Invalidator;
use crate::mount::{self, MountError};
use crate::options::{Busy, Options};
use crate::served::Served;

/// How long an unmount waits for the replies that are due, and then for the threads to end.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(5);

/// How long is waited at most until the kernel has dropped its pages of a changed file.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);

/// The most threads that serve a mount.
const MAX_THREADS: usize = 64;

/// A control plane's devices, as files in a mount. Dropping it unmounts, busy or not.
pub struct Frontend {
    served: Served,
    cache: bool,
    files: Arc<Files>,
    tasks: Arc<Tasks>,
    invalidator: Arc<Invalidator>,
}

/// The files as the threads hold them that serve the mount.
struct Shared(Arc<Files>);

impl Service for Shared {
    fn serve(&self, request: Request<'_>, reply: impl Replies) {
        self.0.serve(request, reply);
    }
    fn end(&self) {
        self.0.end();
    }
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
        let tasks = Arc::new(Tasks::new(runtime.clone()));
        let shown = Mount {
            cache: options.cache,
            allow_other: options.allow_other,
            mounted: SystemTime::now(),
            owner: mount::owner(),
        };
        let files = Arc::new(Files::new(control, tasks.clone(), shown));
        let threads = options.threads.clamp(1, MAX_THREADS);
        let options = Options { threads, ..options.clone() };
        let served = Served::mount(Shared(files.clone()), runtime, dir, &options)?;
        let invalidator = Invalidator::new(files.clone(), served.connection.clone());
        let cache = options.cache;
        // A mapping, or sendfile, has pages without the cache too.
        invalidator.serve_files();
        Ok(Frontend { served, cache, files, tasks, invalidator })
    }

    /// Returns the disk behind a device's file, for whoever shows the device by another way: what writes
    /// a block in part keeps out whoever writes to the file, and the reverse. The kernel is told of no
    /// change that is made so: pages that it keeps of the file stay as they are.
    pub fn disk(&self, device: &Arc<MappedDevice>) -> Arc<Disk> {
        self.files.disk_of(device)
    }

    /// Lists who has which device open.
    pub fn users(&self) -> Vec<User> {
        self.files.users()
    }

    /// Takes note of a change of the control plane: to be called by whoever
    /// [watches](Control::watch) it. Never waits; [`settled`](Self::settled) does.
    pub fn changed(&self, changed: &Changed) {
        match changed {
            // The kernel relies on no name: it asks each time.
            Changed::Name(_) => {}
            Changed::Content(minor) => self.invalidator.start(*minor),
        }
    }

    /// Waits until the kernel shows the new content of all that has changed before, half a second
    /// at most: where it must wait for pages of a file that are in use, that goes on by itself. What
    /// a suspended device holds is not waited for.
    /// To be called before a client is told that its command is done.
    pub fn settled(&self) {
        if self.cache {
            self.told();
        }
    }

    /// Waits until the kernel has been told of all that has changed before, half a second at most, with the
    /// cache or without. What it is told takes back what it asks meanwhile: the size of a file that it reads
    /// before would stay the old one.
    pub fn told(&self) {
        if !self.invalidator.wait(SETTLE_LIMIT) {
            tracing::warn!("the kernel still holds pages of a changed device");
        }
    }

    /// Tells whether the mount is where it was made, and served.
    pub fn is_mounted(&self) -> bool {
        self.served.is_mounted()
    }

    /// Unmounts. Does nothing where somebody else has.
    ///
    /// Waits up to 5 seconds for replies that are due. Requests that a suspended device holds
    /// get theirs after [`fail_held`](sim_core::MappedDevice::fail_held), which is the caller's
    /// to call.
    pub fn unmount(&self, busy: Busy) -> Result<(), MountError> {
        self.served.unmount(busy)?;
        self.tasks.wait(UNMOUNT_LIMIT);
        // Open files, or a copy of the mount in another namespace, keep it served.
        if self.files.users().is_empty() {
            self.served.connection.wait(UNMOUNT_LIMIT);
        }
        Ok(())
    }
}
