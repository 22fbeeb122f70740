//! The loop of one thread: a request in, and its answer out or a task begun.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno as Failed;
use sim_core::Errno;

use super::buffer::RequestBuffer;
use super::connection::EndGuard;
use super::reply::DeviceReply;
use crate::files::{Refuse, Reply, Request, Service, barred};
use crate::wire::{self, Header, Message};

/// How long a thread rests that cannot read, and how often before it gives up.
const REST: Duration = Duration::from_millis(10);
const MOST_RESTS: u32 = 1000;

/// One of the threads that serve a connection.
pub(super) struct Worker<S: Service> {
    pub(super) end: Arc<EndGuard<S>>,
    pub(super) lane: Arc<OwnedFd>,
}

/// What the kernel has for a thread.
pub(super) enum Incoming<'a> {
    /// A request.
    Message(&'a [u8]),
    /// One that was taken back before it could be read.
    Nothing,
    /// The mount is gone.
    End,
    /// Another error.
    Error(Failed),
}

/// Waits for a request.
pub(super) fn listen<'a>(device: &OwnedFd, buffer: &'a mut RequestBuffer) -> Incoming<'a> {
    let room = buffer.room();
    match rustix::io::read(device, &mut *room) {
        Ok(0) | Err(Failed::NODEV | Failed::CONNABORTED) => Incoming::End,
        Ok(len) => Incoming::Message(&room[..len]),
        Err(Failed::NOENT | Failed::INTR | Failed::AGAIN) => Incoming::Nothing,
        Err(error) => Incoming::Error(error),
    }
}

impl<S: Service> Worker<S> {
    pub(super) fn run(self) {
        let mut buffer = RequestBuffer::new();
        let mut rests = 0;
        loop {
            match listen(&self.lane, &mut buffer) {
                Incoming::Message(message) => {
                    rests = 0;
                    if self.handle(message).is_break() {
                        return;
                    }
                }
                Incoming::Nothing => {}
                Incoming::End => return,
                // Out of memory, say: the request has failed or comes again.
                Incoming::Error(error) if rests < MOST_RESTS => {
                    tracing::warn!(%error, "a request is lost");
                    rests += 1;
                    thread::sleep(REST);
                }
                Incoming::Error(error) => {
                    return tracing::error!(%error, "a thread serves the mount no longer");
                }
            }
        }
    }

    /// Carries out one request. Whatever goes wrong in it ends it, and nothing else.
    fn handle(&self, message: &[u8]) -> ControlFlow<()> {
        let Some((header, body)) = Header::split(message) else {
            tracing::error!(len = message.len(), "a message without a header");
            return ControlFlow::Continue(());
        };
        if wire::is_silent(header.opcode) {
            if let Ok(Message::Interrupt { unique }) = wire::decode(header.opcode, body) {
                self.end.connection.interrupt(unique);
            }
            return ControlFlow::Continue(());
        }
        let room = wire::room(header.opcode, body);
        let reply = DeviceReply::new(&self.lane, &self.end.connection, header, room);
        // The reply is dropped where this panics, and answers an I/O error then.
        let flow = barred("a request", move || self.dispatch(&header, body, reply));
        flow.unwrap_or(ControlFlow::Continue(()))
    }

    fn dispatch(&self, header: &Header, body: &[u8], reply: DeviceReply) -> ControlFlow<()> {
        match wire::decode(header.opcode, body) {
            Ok(Message::Operation(operation)) => {
                let (caller, inode) = (header.caller, header.inode);
                self.end.service.serve(Request { caller, inode, operation }, reply);
            }
            // Once is enough.
            Ok(Message::Init { .. }) => reply.error(Errno::IO),
            Ok(Message::Destroy) => {
                Reply::<()>::ok(reply, &());
                return ControlFlow::Break(());
            }
            Ok(Message::Interrupt { .. } | Message::Forget) => {
                unreachable!("messages without an answer are seen to before")
            }
            Err(errno) => reply.error(errno),
        }
        ControlFlow::Continue(())
    }
}
