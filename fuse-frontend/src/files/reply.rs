//! How a request ends: an answer, an error, or the caller's death.

use std::borrow::Borrow;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use sim_core::{Buffer, Errno};

use super::{Attributes, Listing, Statistics};

/// Takes the end of one request, on whichever thread that comes.
///
/// One that is dropped without an answer answers an I/O error.
pub trait Refuse: Send + 'static {
    /// The request failed.
    fn error(self, errno: Errno);

    /// The request waits from here on. Returns what tells that the caller does not want its
    /// answer any more, where the transport can know.
    fn interruption(&mut self) -> Option<Arc<Interruption>> {
        None
    }
}

/// Takes the answer to one request.
pub trait Reply<T: ?Sized>: Refuse {
    /// The request succeeded.
    fn ok(self, answer: &T);
}

/// Takes whatever a request may be answered with.
pub trait Replies:
    Reply<()>
    + Reply<[u8]>
    + Reply<u32>
    + Reply<Attributes>
    + Reply<Entry>
    + Reply<Listing>
    + Reply<Opened>
    + Reply<Output>
    + Reply<Position>
    + Reply<Statistics>
{
}

impl<R> Replies for R where
    R: Reply<()>
        + Reply<[u8]>
        + Reply<u32>
        + Reply<Attributes>
        + Reply<Entry>
        + Reply<Listing>
        + Reply<Opened>
        + Reply<Output>
        + Reply<Position>
        + Reply<Statistics>
{
}

/// A file that was found by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub Attributes);

/// A file that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What later requests name it by.
    pub handle: u64,
    /// How the kernel treats its pages.
    pub pages: Pages,
}

/// How the kernel treats the pages of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// It keeps none; reads and writes go through, several at a time.
    Direct,
    /// It keeps them, those of earlier opens too.
    Kept,
    /// It does as it likes: a directory's.
    Default,
}

/// A place in a file that a seek has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub u64);

/// What an ioctl returns, and writes to where its argument points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The value of the call.
    pub value: i32,
    /// What is written.
    pub bytes: Vec<u8>,
}

/// Tells a request that waits that its caller is about to die.
#[derive(Debug, Default)]
pub struct Interruption {
    unwanted: AtomicBool,
    waiting: AtomicWaker,
}

impl Interruption {
    /// Says so, and wakes the request.
    pub fn set(&self) {
        self.unwanted.store(true, SeqCst);
        self.waiting.wake();
    }

    /// Tells whether it was said, and wakes `waker` when it is later.
    pub(crate) fn is_set(&self, waker: &Waker) -> bool {
        self.waiting.register(waker);
        self.unwanted.load(SeqCst)
    }
}

/// A part of a buffer.
pub(crate) struct Part {
    pub(crate) buffer: Buffer,
    pub(crate) range: Range<usize>,
}

impl Deref for Part {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

impl Borrow<[u8]> for Part {
    fn borrow(&self) -> &[u8] {
        self
    }
}

/// Ends a request.
pub(crate) fn answer<T: ?Sized>(reply: impl Reply<T>, result: Result<impl Borrow<T>, Errno>) {
    match result {
        Ok(answer) => reply.ok(answer.borrow()),
        Err(errno) => reply.error(errno),
    }
}
