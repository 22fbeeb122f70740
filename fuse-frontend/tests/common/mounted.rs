//! A real mount of a world.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use fuse_frontend::{Frontend, Options};
use sim_core::Errno;
use tempfile::TempDir;

use super::World;

pub(crate) struct Mounted {
    // Unmounts before the directory goes.
    pub(crate) frontend: Arc<Frontend>,
    pub(crate) world: World,
    pub(crate) dir: TempDir,
}

impl Drop for Mounted {
    /// Lets go of what waits: a test that fails would wait for itself as it ends.
    fn drop(&mut self) {
        for shown in self.world.control.shown() {
            shown.device.fail_held();
        }
    }
}

impl Mounted {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn open(&self, name: &str) -> File {
        OpenOptions::new().read(true).write(true).open(self.path(name)).unwrap()
    }
}

/// Mounts a new world, or says why it cannot.
pub(crate) fn mount(options: &Options) -> Option<Mounted> {
    mount_world(World::new(), options)
}

/// Mounts a world, or says why it cannot.
pub(crate) fn mount_world(world: World, options: &Options) -> Option<Mounted> {
    let dir = tempfile::tempdir().unwrap();
    match Frontend::mount(world.control.clone(), world.pool.clone(), dir.path(), options) {
        Ok(frontend) => {
            let frontend = Arc::new(frontend);
            let told = Arc::downgrade(&frontend);
            world.control.watch(move |changed| {
                if let Some(frontend) = told.upgrade() {
                    frontend.changed(changed);
                }
            });
            Some(Mounted { frontend, world, dir })
        }
        Err(error) => skip(&format!("no mount: {error}")),
    }
}

pub(crate) fn skip<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    println!("skipped: {why}");
    None
}

pub(crate) fn direct() -> Option<Mounted> {
    mount(&Options::default())
}

pub(crate) fn errno<T>(result: io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| Errno(error.raw_os_error().expect("a system call's error")))
}

/// Runs `work` on a thread of its own, and tells what it returned.
pub(crate) fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, done) = channel();
    thread::spawn(move || {
        let _ = sender.send(work());
    });
    done
}

pub(crate) fn soon<T>(done: &Receiver<T>) -> T {
    done.recv_timeout(Duration::from_secs(20)).expect("an end within 20 seconds")
}

/// Waits for what the kernel does after the fact: RELEASE comes after close has returned.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}
