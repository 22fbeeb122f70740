//! A connection to the kernel, as the threads that serve it share it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use sim_core::Runtime;

use super::waiting::Waiting;
use crate::files::Service;
use crate::wire;

/// A connection to the kernel that is served.
pub(crate) struct Connection {
    /// One for each thread, or one for all. An answer goes back the way that its request came.
    pub(super) lanes: Vec<Arc<OwnedFd>>,
    pub(super) waiting: Waiting,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) ended: Mutex<bool>,
    pub(super) changed: Condvar,
}

impl Connection {
    /// Tells whether a request about this inode waits.
    pub(crate) fn waits(&self, inode: u64) -> bool {
        self.waiting.has(inode)
    }

    /// Tells the kernel that a file and its attributes are out of date. Waits for those of its
    /// pages that are being read or written, and nothing ends that wait, not even SIGKILL.
    pub(crate) fn invalidate(&self, inode: u64) -> io::Result<()> {
        rustix::io::write(&self.lanes[0], &wire::invalidation(inode))?;
        Ok(())
    }

    /// Tells the kernel that a poll is to look again.
    pub(crate) fn wake_poll(&self, poll: u64) {
        if let Err(error) = rustix::io::write(&self.lanes[0], &wire::poll_wakeup(poll)) {
            // The file has been closed meanwhile.
            tracing::debug!(%error, poll, "nobody polls");
        }
    }

    /// Tells whether the connection has ended.
    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the connection has ended, `limit` at most.
    pub(crate) fn wait(&self, limit: Duration) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.changed.wait_timeout_while(ended, limit, |ended| !*ended);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Ends the service when the last thread goes that serves it, however it goes.
pub(super) struct EndGuard<S: Service> {
    pub(super) service: S,
    pub(super) connection: Arc<Connection>,
}

impl<S: Service> Drop for EndGuard<S> {
    fn drop(&mut self) {
        crate::files::barred("the end of a mount", || self.service.end());
        *self.connection.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.connection.changed.notify_all();
    }
}
