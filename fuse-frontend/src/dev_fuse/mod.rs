//! The transport by `/dev/fuse`: several threads read a request each, carry it out, and write the
//! answer back.
//!
//! `worker` is the loop of one thread, `reply` what is told the kernel, `waiting` the requests
//! that can be interrupted. What a request asks is decoded and answered by [`wire`](crate::wire),
//! and carried out by a [`Service`], which knows nothing of all this.

mod buffer;
mod reply;
mod waiting;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sim_core::{Errno, Runtime};

use crate::files::Service;
use crate::wire::{self, Header, Message, Negotiated};
use buffer::RequestBuffer;
use waiting::Waiting;
use worker::{Heard, Worker, listen};

/// A connection to the kernel that is served.
pub(crate) struct Connection {
    /// One for each thread, or one for all. An answer goes back the way that its request came.
    lanes: Vec<Arc<OwnedFd>>,
    waiting: Waiting,
    runtime: Arc<dyn Runtime>,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Connection {
    /// Agrees with the kernel on the protocol, and starts the threads that serve it; the kernel is
    /// answered from here on.
    pub(crate) fn serve(
        device: OwnedFd,
        service: impl Service,
        runtime: Arc<dyn Runtime>,
        threads: usize,
    ) -> io::Result<Arc<Connection>> {
        shake_hands(&device)?;
        let connection = Arc::new(Connection {
            lanes: lanes(device, threads),
            waiting: Waiting::default(),
            runtime,
            ended: Mutex::default(),
            changed: Condvar::new(),
        });
        let end = Arc::new(End { service, connection: connection.clone() });
        let mut started = Ok(());
        for (index, lane) in connection.lanes.iter().enumerate() {
            let worker = Worker { end: end.clone(), lane: lane.clone() };
            let thread = thread::Builder::new().name(format!("fuse-{index}"));
            if let Err(error) = thread.spawn(move || worker.run()) {
                // One thread is enough to serve.
                tracing::warn!(%error, "fewer threads serve the mount");
                started = if index == 0 { Err(error) } else { Ok(()) };
                break;
            }
        }
        started.map(|()| connection)
    }

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
struct End<S: Service> {
    service: S,
    connection: Arc<Connection>,
}

impl<S: Service> Drop for End<S> {
    fn drop(&mut self) {
        crate::files::barred("the end of a mount", || self.service.end());
        *self.connection.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.connection.changed.notify_all();
    }
}

/// Returns the ways to the kernel for some threads: one each, so that they share no queue of
/// requests under way. Where the machine gives no more than one, they share that.
fn lanes(device: OwnedFd, threads: usize) -> Vec<Arc<OwnedFd>> {
    let first = Arc::new(device);
    let mut lanes = vec![first.clone()];
    while lanes.len() < threads {
        lanes.push(match backing::clone_fuse_device(&first) {
            Ok(lane) => Arc::new(lane),
            Err(error) => {
                // As where fusermount3 may open the device and this user may not.
                tracing::debug!(%error, "threads share one way to the kernel");
                first.clone()
            }
        });
    }
    lanes
}

/// Answers the kernel's first request, which says what it can do.
fn shake_hands(device: &OwnedFd) -> io::Result<()> {
    let mut buffer = RequestBuffer::new();
    loop {
        let message = match listen(device, &mut buffer) {
            Heard::Message(message) => message,
            Heard::Nothing => continue,
            Heard::End => return Err(io::ErrorKind::NotConnected.into()),
            Heard::Error(error) => return Err(error.into()),
        };
        let Some((header, body)) = Header::split(message) else {
            return Err(io::Error::other("a message without a header"));
        };
        let Ok(Message::Init { major, minor, max_readahead, flags }) =
            wire::decode(header.opcode, body)
        else {
            return Err(io::Error::other("the first message is another than expected"));
        };
        let (negotiated, answer) = wire::init(major, minor, max_readahead, flags);
        match negotiated {
            Negotiated::Agreed => return Ok(reply::send(device, header.unique, &answer)?),
            Negotiated::Again => reply::send(device, header.unique, &answer)?,
            Negotiated::TooOld => {
                reply::refuse(device, header.unique, Errno::PROTO)?;
                let found = format!("the kernel's FUSE is of version {major}.{minor}, too old");
                return Err(io::Error::new(io::ErrorKind::Unsupported, found));
            }
        }
    }
}
