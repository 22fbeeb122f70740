//! How a request ends: an answer, an error, or the caller's death.

use std::borrow::Borrow;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use sim_core::{Buffer, Errno};

use super::answers::{Attributes, Entry, Listing, Opened, Output, Polled, Position, Statistics};

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

    /// As [`interruption`](Self::interruption), for what any signal breaks off that the caller gets.
    fn signal(&mut self) -> Option<Arc<Interruption>> {
        None
    }
}

/// Takes the answer to one request.
pub trait Reply<T: ?Sized>: Refuse {
    /// The request succeeded.
    fn ok(self, answer: &T);
}

/// A reply before which something may be left to do, however the request ends.
pub(crate) struct Preceded<R> {
    first: Option<Box<dyn FnOnce() + Send>>,
    reply: R,
}

impl<R> Preceded<R> {
    pub(crate) fn new(first: Option<Box<dyn FnOnce() + Send>>, reply: R) -> Preceded<R> {
        Preceded { first, reply }
    }

    fn into_reply(self) -> R {
        if let Some(first) = self.first {
            first();
        }
        self.reply
    }
}

impl<R: Refuse> Refuse for Preceded<R> {
    fn error(self, errno: Errno) {
        self.into_reply().error(errno);
    }

    fn interruption(&mut self) -> Option<Arc<Interruption>> {
        self.reply.interruption()
    }

    fn signal(&mut self) -> Option<Arc<Interruption>> {
        self.reply.signal()
    }
}

impl<T: ?Sized, R: Reply<T>> Reply<T> for Preceded<R> {
    fn ok(self, answer: &T) {
        self.into_reply().ok(answer);
    }
}

/// Names once whatever a request may be answered with.
macro_rules! replies {
    ($($answer:ty),* $(,)?) => {
        /// Takes whatever a request may be answered with.
        pub trait Replies: Refuse $(+ Reply<$answer>)* {}

        impl<R: Refuse $(+ Reply<$answer>)*> Replies for R {}
    };
}

replies!((), [u8], u32, Attributes, Entry, Listing, Opened, Output, Polled, Position, Statistics,);

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
