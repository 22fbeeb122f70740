//! The persistent store at work: gives out chunks, commits exceptions, takes them back in a merge.
//!
//! An exception is committed in steps that a power cut may come between: its data lies in the
//! store, a flush, the block of metadata with its entry, a flush. A commit serves all exceptions
//! whose data is there when it begins, and its last flush is the first of those whose data is there
//! by then: a busy store takes one flush for a commit, or two, and not two always.

mod load;

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard};

use sim_core::{
    Area, Bio, BlkError, BlkResult, Buffer, Flags, Locked, Outcome, Runtime, Sector, Sectors,
    TargetLog,
};

use super::format::{ENTRY, Entry, Header, Layout, VERSION};
use super::scan::PIECE;
use super::{Run, Usage};
use crate::snapshot::ChunkSize;
use crate::snapshot::table::{ExceptionTable, MAX_NEW};

/// Metadata is written in blocks of this many bytes: those of a chunk in which something changed.
const BLOCK: u64 = 4096;

/// What came before is durable first, then this.
const DURABLE: Flags = Flags { preflush: true, fua: true, nowait: false, readahead: false };

/// A store that outlives its device.
pub(crate) struct Persistent {
    cow: Area,
    layout: Layout,
    runtime: Arc<dyn Runtime>,
    log: TargetLog,
    state: Locked<State>,
}

#[derive(Default)]
struct State {
    /// The chunk that the next exception gets.
    next_free: u64,
    /// Where the next exception would lie, had those that a merge left been committed in order:
    /// what its status counts.
    merged_to: Option<u64>,
    /// The area that the next entry goes to.
    area: u64,
    /// What is committed of that area.
    entries: Vec<Entry>,
    /// Exceptions whose chunks are given out, and whose data is not there yet.
    copying: u64,
    /// Entries that wait for a commit; with the last of a run, who waits for it.
    queue: VecDeque<(Entry, Option<Arc<Outcome<BlkResult>>>)>,
    /// How many of those, from the front on, have data that is durable already.
    durable: usize,
    committing: bool,
    /// A write of metadata failed: nothing is committed any more.
    failed: bool,
}

impl Persistent {
    pub(crate) fn chunk(&self) -> ChunkSize {
        self.layout.chunk()
    }

    /// Moves what is known of the store, and of its exceptions, to another target's; nothing is
    /// under way in it.
    pub(crate) fn hand_over(
        &self,
        cow: Area,
        exceptions: &ExceptionTable,
        runtime: Arc<dyn Runtime>,
    ) -> Persistent {
        let mut state = self.state();
        assert!(state.copying == 0 && state.queue.is_empty(), "a store at rest is handed over");
        let given = State { next_free: state.next_free, failed: true, ..State::default() };
        let mut taken = std::mem::replace(&mut *state, given);
        if taken.merged_to.take().is_some() {
            // What a merge has left need not lie where its count says.
            let ends = exceptions.iter().map(|(_, new, len)| new + len);
            taken.next_free = self.layout.data_at_or_after(ends.max().unwrap_or(0));
        }
        let log = self.log.clone();
        Persistent { cow, layout: self.layout, runtime, log, state: Locked::new(taken) }
    }

    /// Gives out up to `len` chunks, one after the other; none where there is no room.
    pub(crate) fn allocate(&self, len: u64) -> Option<Run> {
        let mut state = self.state();
        let room = self.chunks().saturating_sub(state.next_free);
        let len = len.min(room).min(self.layout.data_run(state.next_free));
        if len == 0 {
            return None;
        }
        let new = state.next_free;
        state.next_free = self.layout.data_at_or_after(new + len);
        state.copying += len;
        Some(Run { new, len })
    }

    /// Commits exceptions whose data is there; they are durable when this ends well.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        entries: impl Iterator<Item = Entry>,
    ) -> BlkResult {
        let outcome = Arc::new(Outcome::new());
        let begin = {
            let mut state = self.state();
            let before = state.queue.len();
            state.queue.extend(entries.map(|entry| (entry, None)));
            state.copying -= (state.queue.len() - before) as u64;
            state.queue.back_mut().expect("a commit is of something").1 = Some(outcome.clone());
            self.begin(&mut state)
        };
        self.run(begin);
        outcome.wait().await
    }

    /// Gives up exceptions whose data could not be copied. Their chunks are lost to the store.
    pub(crate) fn abandon(self: &Arc<Self>, count: u64) {
        let begin = {
            let mut state = self.state();
            state.copying -= count;
            self.begin(&mut state)
        };
        self.run(begin);
    }

    /// Tells whether a commit is due, and whose it is: nothing else is being copied that could
    /// share it, or the area is full.
    fn begin(&self, state: &mut State) -> Begin {
        let full = (state.entries.len() + state.queue.len()) as u64 >= self.layout.entries();
        let due = !state.queue.is_empty() && (state.copying == 0 || full) && !state.committing;
        state.committing |= due;
        if due { Begin::Now } else { Begin::No }
    }

    fn run(self: &Arc<Self>, begin: Begin) {
        match begin {
            Begin::No => {}
            Begin::Now => {
                let store = self.clone();
                self.runtime.spawn_here(Box::pin(async move { store.commit_all().await }));
            }
        }
    }

    /// Commits as long as commits are due.
    async fn commit_all(&self) {
        loop {
            let (first, batch, data) = {
                let mut state = self.state();
                let first = state.entries.len();
                // A store that has failed takes no more, and tells everybody at once.
                let room = match state.failed {
                    true => usize::MAX,
                    false => self.layout.entries() as usize - first,
                };
                let len = state.queue.len().min(room);
                let batch: Vec<_> = state.queue.drain(..len).collect();
                state.entries.extend(batch.iter().map(|(entry, _)| *entry));
                let data = if state.durable < len { Data::Volatile } else { Data::Durable };
                state.durable = state.durable.saturating_sub(len);
                (first, batch, data)
            };
            let result = self.write_batch(first, data).await;
            batch.into_iter().filter_map(|(_, waits)| waits).for_each(|waits| waits.set(result));
            let mut state = self.state();
            state.committing = false;
            if matches!(self.begin(&mut state), Begin::No) {
                return;
            }
        }
    }

    /// Makes the entries of the area from this one on durable, and their data before them.
    async fn write_batch(&self, first: usize, data: Data) -> BlkResult {
        let (area, (at, bytes), full) = {
            let state = self.state();
            if state.failed {
                return Err(BlkError::Io);
            }
            let full = state.entries.len() as u64 == self.layout.entries();
            (state.area, self.blocks(&state.entries, first..state.entries.len()), full)
        };
        let result = self.write_entries(area, at, &bytes, full, data).await;
        let mut state = self.state();
        match result {
            Ok(()) if full => {
                state.area += 1;
                state.entries.clear();
            }
            Ok(()) => {}
            Err(_) => state.failed = true,
        }
        result
    }

    async fn write_entries(
        &self,
        area: u64,
        at: u64,
        bytes: &[u8],
        full: bool,
        data: Data,
    ) -> BlkResult {
        if full {
            // Before the entry that fills this area, so that no reader finds old bytes there.
            self.zero_area(area + 1).await?;
        }
        // The zeros too have to be durable first.
        let preflush = full || data == Data::Volatile;
        let sector = self.layout.area_sector(area) + Sectors::in_bytes(at);
        let bio = Bio::write(sector, bytes).with_flags(Flags { preflush, ..Flags::default() });
        self.cow.submit(sector, bio).await?;
        // Not FUA, which is about these entries alone: a flush is also about the data of those
        // that are in the queue when it begins, and they need no other one.
        let covered = self.state().queue.len();
        self.cow.submit(Sector::ZERO, Bio::flush()).await?;
        self.state().durable = covered;
        Ok(())
    }

    /// Returns the blocks of an area in which these entries lie, and where they begin.
    fn blocks(&self, entries: &[Entry], changed: std::ops::Range<usize>) -> (u64, Buffer) {
        let block = self.block();
        let begin = self.layout.entry(changed.start as u64) / block * block;
        let end = self.layout.entry(changed.end as u64).next_multiple_of(block);
        let mut bytes = Buffer::take((end - begin) as usize);
        bytes.fill(0);
        let first = begin as usize / ENTRY;
        for (to, entry) in bytes.chunks_exact_mut(ENTRY).zip(&entries[first..]) {
            to.copy_from_slice(&entry.to_bytes());
        }
        (begin, bytes)
    }

    async fn zero_area(&self, area: u64) -> BlkResult {
        let (begin, len) = (self.layout.area_sector(area), self.layout.chunk().sectors());
        // All of it or nothing, as the kernel's one write.
        if begin.checked_add(len).is_none_or(|end| end.0 > self.cow.size().0) {
            return Err(BlkError::Io);
        }
        self.zero(begin, len).await
    }

    async fn zero(&self, begin: Sector, len: Sectors) -> BlkResult {
        let mut zeros = Buffer::take(len.bytes().min(PIECE) as usize);
        zeros.fill(0);
        let mut done = Sectors::ZERO;
        while done < len {
            let piece = Sectors::in_bytes(PIECE).min(len - done);
            let bio = Bio::write(begin + done, &zeros[..piece.bytes() as usize]);
            self.cow.submit(begin + done, bio).await?;
            done += piece;
        }
        Ok(())
    }

    /// Marks the store as one that cannot be used any more.
    pub(crate) async fn invalidate(&self) {
        self.state().failed = true;
        if self.write_header(false).await.is_err() {
            self.log.line("write header failed");
        }
    }

    async fn write_header(&self, valid: bool) -> BlkResult {
        let chunk_size = self.layout.chunk().sectors();
        let header = Header { valid, version: VERSION, chunk_size };
        let mut bytes = Buffer::take(self.block() as usize);
        bytes.fill(0);
        bytes[..Header::LEN].copy_from_slice(&header.to_bytes());
        let bio = Bio::write(Sector::ZERO, &bytes).with_flags(DURABLE);
        self.cow.submit(Sector::ZERO, bio).await
    }

    /// Returns how many bytes of a chunk of metadata are written at once, at least.
    fn block(&self) -> u64 {
        let block = self.cow.limits().logical_block().bytes();
        // No more than a chunk, whatever the device below has become since.
        BLOCK.max(block).min(self.layout.chunk().sectors().bytes())
    }

    pub(crate) fn usage(&self) -> Usage {
        let chunk = self.layout.chunk().sectors().0;
        let state = self.state();
        // The header's chunk, and one for each area up to the current one.
        let metadata = Sectors((state.area + 2) * chunk);
        let chunks = state.merged_to.unwrap_or(state.next_free);
        Usage { allocated: Sectors(chunks * chunk), metadata }
    }

    /// Returns the runs at the end of the list, the last first, of `most` chunks at most (one at
    /// least); none when the list is empty.
    pub(crate) async fn last_runs(&self, most: u64) -> Result<Vec<(u64, Run)>, BlkError> {
        let before = {
            let state = self.state();
            (state.entries.is_empty() && state.area > 0).then(|| state.area - 1)
        };
        if let Some(area) = before {
            let entries = self.read_area(area).await?;
            let mut state = self.state();
            (state.area, state.entries) = (area, entries);
        }
        let state = self.state();
        let mut runs: Vec<(u64, Run)> = Vec::new();
        for (entry, _) in state.entries.iter().rev().zip(0..most) {
            match runs.last_mut() {
                Some((old, run)) if entry.old + 1 == *old && entry.new + 1 == run.new => {
                    (*old, run.new, run.len) = (entry.old, entry.new, run.len + 1);
                }
                Some(_) | None => runs.push((entry.old, Run { new: entry.new, len: 1 })),
            }
        }
        Ok(runs)
    }

    async fn read_area(&self, area: u64) -> Result<Vec<Entry>, BlkError> {
        let mut entries = Vec::new();
        let bytes = self.layout.chunk().sectors().bytes();
        let mut buffer = Buffer::take(bytes.min(PIECE) as usize);
        for at in (0..bytes).step_by(buffer.len()) {
            let sector = self.layout.area_sector(area) + Sectors::in_bytes(at);
            self.cow.submit(sector, Bio::read(sector, &mut buffer)).await?;
            entries.try_reserve(buffer.len() / ENTRY).map_err(|_| BlkError::Io)?;
            entries.extend(buffer.chunks_exact(ENTRY).map_while(Entry::read));
        }
        // They were right when the store was loaded, and an area that others follow is full.
        let size = self.cow.size();
        let right = entries.iter().all(|entry| self.layout.check(*entry, size).is_ok());
        if !right || entries.len() as u64 != self.layout.entries() {
            return Err(BlkError::Io);
        }
        Ok(entries)
    }

    /// Takes the last entries off the list, durably; nothing else is under way in the store. They
    /// stay where that fails, and may be merged again.
    pub(crate) async fn clear_last(&self, count: usize) -> BlkResult {
        let (area, left, blocks) = {
            let state = self.state();
            let all = state.entries.len();
            let left = all - count;
            (state.area, left, self.blocks(&state.entries[..left], left..all))
        };
        let (at, bytes) = blocks;
        let sector = self.layout.area_sector(area) + Sectors::in_bytes(at);
        self.cow.submit(sector, Bio::write(sector, &bytes).with_flags(DURABLE)).await?;
        let mut state = self.state();
        state.entries.truncate(left);
        state.merged_to = Some(self.layout.area(area) + left as u64 + 1);
        Ok(())
    }

    /// Returns how many whole chunks there are.
    fn chunks(&self) -> u64 {
        self.layout.chunk().whole_in(self.cow.size()).min(MAX_NEW)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// What is known of the data of exceptions that are to be committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    /// It is in the store, and may be in a cache.
    Volatile,
    Durable,
}

#[must_use]
enum Begin {
    Now,
    No,
}
