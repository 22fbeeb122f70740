//! The transport by `/dev/fuse`: several threads read a request each, carry it out, and write the
//! answer back.
//!
//! `worker` is the loop of one thread, `reply` what is told the kernel, `waiting` the requests
//! that can be interrupted. What a request asks is decoded and answered by [`wire`](crate::wire),
//! and carried out by a [`Service`], which knows nothing of all this.

mod buffer;
mod connection;
mod interrupt;
mod reply;
mod waiting;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use sim_core::{Errno, Runtime};

use crate::files::Service;
use crate::wire::{self, Header, Message, Negotiated};
use buffer::RequestBuffer;
pub(crate) use connection::Connection;
use connection::EndGuard;
pub(crate) use interrupt::is_being_killed;
use waiting::Waiting;
use worker::{Incoming, Worker, listen};

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
        let end = Arc::new(EndGuard { service, connection: connection.clone() });
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
            Incoming::Message(message) => message,
            Incoming::Nothing => continue,
            Incoming::End => return Err(io::ErrorKind::NotConnected.into()),
            Incoming::Error(error) => return Err(error.into()),
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
