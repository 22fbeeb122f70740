//! Tells the kernel that a file reads as something else from now on, or has another size.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use fuser::{INodeNo, Notifier};

use crate::files::Files;

/// Drops the pages that the kernel keeps of files.
///
/// The kernel waits in it for pages that are being read or written, so it is done by a thread of
/// its own for each file: where that file's device is suspended again, nothing else waits.
pub(crate) struct Invalidator {
    pub(crate) files: Arc<Files>,
    pub(crate) notifier: Arc<OnceLock<Notifier>>,
    /// The minors with a thread under way, and whether they have changed once more since.
    running: Mutex<HashMap<u32, Again>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

impl Invalidator {
    pub(crate) fn new(files: Arc<Files>, notifier: Arc<OnceLock<Notifier>>) -> Arc<Invalidator> {
        Arc::new(Invalidator { files, notifier, running: Mutex::default() })
    }

    /// Starts to drop the pages of the device with this minor. The receiver is told when that is
    /// done; `None` where there is nothing to drop, or a thread at it already.
    pub(crate) fn start(self: &Arc<Invalidator>, minor: u32) -> Option<Receiver<()>> {
        // A file that the kernel has not seen has no pages.
        self.files.seen(minor)?;
        if self.running().insert(minor, Again::Yes).is_some() {
            return None;
        }
        let (done, ended) = sync_channel(1);
        let invalidator = self.clone();
        let thread = thread::Builder::new().name(format!("dm-{minor}-inval"));
        let spawned = thread.spawn(move || {
            invalidator.run(minor);
            // Whoever waited may have given up.
            let _ = done.try_send(());
        });
        match spawned {
            Ok(_) => Some(ended),
            Err(error) => {
                self.running().remove(&minor);
                tracing::error!(%error, minor, "no thread to drop the pages of a device");
                None
            }
        }
    }

    fn run(&self, minor: u32) {
        while self.is_wanted(minor) {
            let (Some(notifier), Some(inode)) = (self.notifier.get(), self.files.seen(minor))
            else {
                continue;
            };
            // The whole file, and the size with it.
            if let Err(error) = notifier.inval_inode(INodeNo(inode), 0, 0) {
                tracing::debug!(%error, minor, "the kernel keeps its pages of a device");
            }
        }
    }

    /// Tells whether the device has changed since the last call; its thread ends if not. One lock
    /// for both, so that no change falls in between.
    fn is_wanted(&self, minor: u32) -> bool {
        let mut running = self.running();
        match running.insert(minor, Again::No) {
            Some(Again::Yes) => true,
            Some(Again::No) | None => {
                running.remove(&minor);
                false
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u32, Again>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
