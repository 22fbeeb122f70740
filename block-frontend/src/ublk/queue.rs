//! The requests of one disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sim_core::{Buffer, Errno, SECTOR_SIZE, panic_text};

use super::content::{Asker, Content, Io, Reply};
use super::control::DEPTH;
use super::format::{Descriptor, Operation, data_at};
use super::lane::{Lane, Place};
use super::ring::Descriptors;

/// The requests of one disk, and what they are asked of.
pub(super) struct Queue {
    pub(super) id: u32,
    pub(super) device: File,
    descriptors: Descriptors,
    /// Who serves it, and as which of its queues.
    pub(super) place: Place,
    content: Mutex<Option<Arc<dyn Content>>>,
    turns: Vec<Turn>,
}

/// Whose turn it is with a tag: twice the number of its requests so far, and one more as long as the last
/// of them has no answer. So a request that was answered by somebody else cannot be taken for the next.
#[derive(Default)]
struct Turn(AtomicU64);

impl Turn {
    fn begin(&self) -> u64 {
        self.0.fetch_add(1, SeqCst) + 1
    }

    /// Takes the right to answer a request; once.
    fn claim(&self, turn: u64) -> bool {
        turn % 2 == 1 && self.0.compare_exchange(turn, turn + 1, SeqCst, SeqCst).is_ok()
    }

    fn now(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

impl Queue {
    /// Takes a disk's character device, to be served by this lane.
    pub(super) fn new(id: u32, device: File, lane: &Arc<Lane>) -> io::Result<Arc<Queue>> {
        let descriptors = Descriptors::map(&device, DEPTH)?;
        let turns = (0..DEPTH).map(|_| Turn::default()).collect();
        let place = Place::new(lane);
        Ok(Arc::new(Queue { id, device, descriptors, place, content: Mutex::default(), turns }))
    }

    /// Says what requests are asked of from now on. Without a content, reads read zeros, and writes fail.
    pub(super) fn set_content(&self, content: Option<Arc<dyn Content>>) {
        let before = std::mem::replace(&mut *self.content(), content);
        drop(before);
    }

    /// Answers an error to all that has no answer: where what it waits for may never come.
    pub(super) fn fail_all(&self) {
        for tag in 0..DEPTH {
            let turn = &self.turns[usize::from(tag)];
            if turn.claim(turn.now()) {
                self.answer(tag, -Errno::IO.0);
            }
        }
    }

    /// Carries out the request of a tag. A panic is an I/O error of that request.
    pub(super) fn serve(self: &Arc<Queue>, tag: u16) {
        let asked = self.descriptors.read(tag);
        let turn = self.turns[usize::from(tag)].begin();
        let reply = Reply::new(self.clone(), tag, turn, bytes_of(&asked));
        let served = catch_unwind(AssertUnwindSafe(|| self.dispatch(tag, &asked, reply)));
        if let Err(panic) = served {
            let (id, panic) = (self.id, panic_text(&panic));
            tracing::error!(id, panic, "a request of a block node panicked, and fails");
        }
    }

    fn dispatch(&self, tag: u16, asked: &Descriptor, reply: Reply) {
        let Some(operation) = asked.operation() else { return reply.error(Errno::OPNOTSUPP) };
        let content = self.content().clone();
        let len = u64::from(asked.sectors) * SECTOR_SIZE;
        // A flush has no place: the driver says any.
        let at = asked.start.saturating_mul(SECTOR_SIZE);
        let in_memory = usize::try_from(len).expect("a length of 32 bits and nine");
        let Some(content) = content else { return without(operation, in_memory, reply) };
        match operation {
            Operation::Read => content.serve(Io::Read { at, len: in_memory }, reply),
            Operation::Write { fua } => {
                let mut data = Buffer::take(in_memory);
                match self.device.read_exact_at(&mut data, data_at(0, tag)) {
                    Ok(()) => content.serve(Io::Write { at, data: &data, fua }, reply),
                    Err(error) => {
                        tracing::error!(%error, id = self.id, "the data of a write is not to be had");
                    }
                }
            }
            Operation::Flush => content.serve(Io::Flush, reply),
            Operation::Discard => content.serve(Io::Discard { at, len }, reply),
            Operation::WriteZeroes => content.serve(Io::WriteZeroes { at, len }, reply),
        }
    }

    fn content(&self) -> MutexGuard<'_, Option<Arc<dyn Content>>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asker for Queue {
    fn claim(&self, tag: u16, turn: u64) -> bool {
        self.turns[usize::from(tag)].claim(turn)
    }

    fn copy(&self, tag: u16, data: &[u8]) -> io::Result<()> {
        self.device.write_all_at(data, data_at(0, tag))
    }

    fn answer(&self, tag: u16, result: i32) {
        self.place.answer(tag, result);
    }
}

/// How many bytes are answered to a request that has ended well.
fn bytes_of(asked: &Descriptor) -> u32 {
    match asked.operation() {
        Some(Operation::Read | Operation::Write { .. }) => {
            asked.sectors.saturating_mul(SECTOR_SIZE as u32)
        }
        Some(Operation::Flush | Operation::Discard | Operation::WriteZeroes) | None => 0,
    }
}

/// What a disk answers that holds nothing: programs look at each new one.
fn without(operation: Operation, len: usize, reply: Reply) {
    match operation {
        Operation::Read => {
            let mut zeros = Buffer::take(len);
            zeros.fill(0);
            reply.read(&zeros);
        }
        Operation::Flush => reply.done(),
        Operation::Write { .. } | Operation::Discard | Operation::WriteZeroes => {
            reply.error(Errno::IO);
        }
    }
}

#[cfg(test)]
mod tests;
