//! Tells the kernel how a request has ended.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno as Failed;
use sim_core::Errno;
use zerocopy::IntoBytes;

use super::connection::Connection;
use super::waiting::Ends;
use crate::files::{
    Attributes, Entry, Interruption, Listing, Opened, Output, Polled, Position, Refuse, Reply,
    Statistics,
};
use crate::wire::{self, Header, LseekOut, PollOut, WriteOut};

/// The answer that one request is due.
pub(super) struct DeviceReply {
    lane: Arc<OwnedFd>,
    connection: Arc<Connection>,
    header: Header,
    /// How many bytes a listing may take.
    room: usize,
    is_due: bool,
    waits: bool,
}

impl DeviceReply {
    pub(super) fn new(
        lane: &Arc<OwnedFd>,
        connection: &Arc<Connection>,
        header: Header,
        room: usize,
    ) -> DeviceReply {
        let (lane, connection) = (lane.clone(), connection.clone());
        DeviceReply { lane, connection, header, room, is_due: true, waits: false }
    }

    fn send(mut self, answer: &[u8]) {
        self.is_due = false;
        if let Err(error) = send(&self.lane, self.header.unique, answer) {
            self.failed(error);
        }
    }

    /// An answer that did not reach the kernel: pages of an image that it was to take from there
    /// are gone. It then ends the request by itself, with EIO; where it does not, it is told to.
    fn failed(&self, error: Failed) {
        match error {
            // The caller is dead, or the mount gone.
            Failed::NOENT | Failed::NODEV => {}
            error => {
                tracing::warn!(%error, "an answer is lost, and its request fails");
                let _ended_already = refuse(&self.lane, self.header.unique, Errno::IO);
            }
        }
    }

    fn refuse(&mut self, errno: Errno) {
        self.is_due = false;
        if let Err(error) = refuse(&self.lane, self.header.unique, errno) {
            self.failed(error);
        }
    }
}

impl Drop for DeviceReply {
    fn drop(&mut self) {
        if self.waits {
            self.connection.waiting.remove(self.header.unique);
        }
        if self.is_due {
            self.refuse(Errno::IO);
        }
    }
}

impl Refuse for DeviceReply {
    fn error(mut self, errno: Errno) {
        self.refuse(errno);
    }

    fn interruption(&mut self) -> Option<Arc<Interruption>> {
        self.waits = true;
        Some(self.connection.waiting.add(&self.header, Ends::Killed))
    }

    fn signal(&mut self) -> Option<Arc<Interruption>> {
        self.waits = true;
        Some(self.connection.waiting.add(&self.header, Ends::Signalled))
    }
}

impl Reply<()> for DeviceReply {
    fn ok(self, (): &()) {
        self.send(&[]);
    }
}

impl Reply<[u8]> for DeviceReply {
    fn ok(self, data: &[u8]) {
        self.send(data);
    }
}

impl Reply<u32> for DeviceReply {
    fn ok(self, written: &u32) {
        self.send(WriteOut { size: *written, padding: 0 }.as_bytes());
    }
}

impl Reply<Attributes> for DeviceReply {
    fn ok(self, attributes: &Attributes) {
        self.send(&wire::attributes(attributes));
    }
}

impl Reply<Entry> for DeviceReply {
    fn ok(self, Entry(found): &Entry) {
        self.send(&wire::entry(found));
    }
}

impl Reply<Listing> for DeviceReply {
    fn ok(self, names: &Listing) {
        let bytes = wire::listing(names, self.room);
        self.send(&bytes);
    }
}

impl Reply<Opened> for DeviceReply {
    fn ok(self, file: &Opened) {
        self.send(&wire::opened(file));
    }
}

impl Reply<Output> for DeviceReply {
    fn ok(self, output: &Output) {
        self.send(&wire::output(output));
    }
}

impl Reply<Polled> for DeviceReply {
    fn ok(self, Polled(events): &Polled) {
        self.send(PollOut { revents: *events, padding: 0 }.as_bytes());
    }
}

impl Reply<Position> for DeviceReply {
    fn ok(self, Position(offset): &Position) {
        self.send(LseekOut { offset: *offset }.as_bytes());
    }
}

impl Reply<Statistics> for DeviceReply {
    fn ok(self, statistics: &Statistics) {
        self.send(&wire::statistics(statistics));
    }
}

/// Answers a request, whole or not at all. The kernel takes the bytes from where they lie.
pub(super) fn send(device: &OwnedFd, unique: u64, answer: &[u8]) -> Result<(), Failed> {
    let header = wire::header(unique, 0, answer.len());
    let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(answer)];
    let parts = if answer.is_empty() { &parts[..1] } else { &parts };
    rustix::io::writev(device, parts).map(drop)
}

/// Answers a request with an error.
pub(super) fn refuse(device: &OwnedFd, unique: u64, errno: Errno) -> Result<(), Failed> {
    let header = wire::header(unique, -errno.0, 0);
    rustix::io::write(device, header.as_bytes()).map(drop)
}
