//! What a disk holds, and how what is asked of it ends.

use std::io;
use std::sync::Arc;

use sim_core::Errno;

/// What is asked of a disk; offsets and lengths are in bytes, and whole sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io<'a> {
    /// To read `len` bytes.
    Read {
        /// Where.
        at: u64,
        /// How many.
        len: usize,
    },
    /// To write.
    Write {
        /// Where.
        at: u64,
        /// What.
        data: &'a [u8],
        /// It is to be durable when it has ended.
        fua: bool,
    },
    /// To make durable what was written.
    Flush,
    /// To give up a range.
    Discard {
        /// Where.
        at: u64,
        /// How much.
        len: u64,
    },
    /// To make a range read as zeros.
    WriteZeroes {
        /// Where.
        at: u64,
        /// How much.
        len: u64,
    },
}

/// What a disk holds.
pub trait Content: Send + Sync {
    /// Begins to carry out what is asked. It must not wait: other disks have the same thread. It may end on
    /// any.
    fn serve(&self, io: Io<'_>, reply: Reply);
}

/// Who has asked, and is told how it ended.
pub trait Asker: Send + Sync {
    /// Takes the right to answer a request, once: nothing where somebody else has.
    fn claim(&self, tag: u16, turn: u64) -> bool;

    /// Hands over what was read.
    ///
    /// # Errors
    /// What the system says, where the data is not in memory any more among others.
    fn copy(&self, tag: u16, data: &[u8]) -> io::Result<()>;

    /// Says how a claimed request has ended: with so many bytes, or with an errno below zero.
    fn answer(&self, tag: u16, result: i32);
}

/// The end of one request. One that is dropped without an answer answers an I/O error.
#[must_use = "whoever asked waits"]
pub struct Reply {
    /// Nothing once it is answered.
    asker: Option<Arc<dyn Asker>>,
    tag: u16,
    turn: u64,
    /// How many bytes are asked for: those of a read or a write.
    bytes: u32,
}

impl Reply {
    /// Makes the end of the request that has this tag now: the so manyth of them.
    pub fn new(asker: Arc<dyn Asker>, tag: u16, turn: u64, bytes: u32) -> Reply {
        Reply { asker: Some(asker), tag, turn, bytes }
    }

    /// Answers a read. Less than what was asked for is an I/O error.
    pub fn read(mut self, data: &[u8]) {
        let Some(asker) = self.asker.take() else { return };
        // Whoever gave the request up has answered it, and another may have its place by now.
        if !asker.claim(self.tag, self.turn) {
            return;
        }
        let is_all = data.len() == self.bytes as usize;
        let copied = is_all.then(|| asker.copy(self.tag, data));
        let result = match copied {
            Some(Ok(())) => i32::try_from(self.bytes).unwrap_or(-Errno::IO.0),
            // Pages that were lent are gone, as a rule.
            Some(Err(_)) | None => -Errno::IO.0,
        };
        asker.answer(self.tag, result);
    }

    /// All that was asked is done.
    pub fn done(mut self) {
        self.end(i32::try_from(self.bytes).unwrap_or(-Errno::IO.0));
    }

    /// It has failed.
    pub fn error(mut self, errno: Errno) {
        self.end(-errno.0.abs().max(1));
    }

    fn end(&mut self, result: i32) {
        if let Some(asker) = self.asker.take()
            && asker.claim(self.tag, self.turn)
        {
            asker.answer(self.tag, result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.end(-Errno::IO.0);
    }
}
