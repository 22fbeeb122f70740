//! What is to be logged, in its order, and who writes it to the log device.

use std::collections::VecDeque;
use std::sync::Arc;

use sim_core::{Area, Bio, BlkResult, Locked, Runtime, Sector, Sectors, Signal, TargetLog};

use super::format::{END_MARK, ENTRY_LEN, EntryHead, Kinds, Superblock};
use crate::lines::log_writes::Status;

/// The log of a device.
pub(super) struct Logger {
    log_device: Area,
    /// In which everything is counted: a logical block of the device that is logged.
    unit: Sectors,
    state: Locked<State>,
    /// Given when everything is written.
    idle: Signal,
    runtime: Arc<dyn Runtime>,
    kernel_log: TargetLog,
}

struct State {
    /// What has ended since the last flush was sent: in the order of its end. It lies in memory, as in
    /// the kernel.
    unflushed: Vec<Block>,
    /// What is to be written.
    waiting: VecDeque<Block>,
    /// Somebody writes it.
    is_writing: bool,
    entries: u64,
    /// Where the next entry begins.
    next: Sector,
    enabled: bool,
}

/// An entry that is to be written.
pub(super) struct Block {
    head: EntryHead,
    /// All of it, as it is on the device.
    bytes: Vec<u8>,
}

impl Logger {
    pub(super) fn new(
        log_device: Area,
        unit: Sectors,
        runtime: Arc<dyn Runtime>,
        kernel_log: TargetLog,
    ) -> Logger {
        let state = State {
            unflushed: Vec::new(),
            waiting: VecDeque::new(),
            is_writing: false,
            entries: 0,
            next: unit.to_sector(),
            enabled: true,
        };
        let (state, idle) = (Locked::new(state), Signal::default());
        Logger { log_device, unit, state, idle, runtime, kernel_log }
    }

    pub(super) fn log_device(&self) -> &Area {
        &self.log_device
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.state.lock().enabled
    }

    pub(super) fn status(&self) -> Status {
        let State { entries, next, enabled, .. } = *self.state.lock();
        Status { entries, last: Sector(next.0 - 1), disabled: !enabled }
    }

    /// Makes the entry of a bio, whose first sector is that of its device. Nothing where there is no
    /// memory for its data: nothing is logged any more then.
    pub(super) fn block(&self, bio: &Bio<'_>, kinds: Kinds) -> Option<Block> {
        let (at, len) = (bio.sector.0 / self.unit.0, bio.len().0 / self.unit.0);
        let block = Block::new(EntryHead { at, len, kinds, text_len: 0 }, self.unit, bio.data());
        if block.is_none() {
            self.kernel_log.line("Error allocing page");
            self.state.lock().enabled = false;
        }
        block
    }

    /// Takes what has ended since the last flush was sent, for one that is sent now.
    pub(super) fn take_unflushed(&self) -> Vec<Block> {
        std::mem::take(&mut self.state.lock().unflushed)
    }

    /// Takes a bio that has ended: it waits for the next flush, or is to be written.
    pub(super) fn ended(self: &Arc<Self>, before: Vec<Block>, block: Block) {
        {
            // From a `drop`.
            let Some(mut state) = self.state.lock_if_whole() else { return };
            if !block.head.kinds.has(Kinds(Kinds::FLUSH.0 | Kinds::FUA.0)) {
                state.unflushed.push(block);
                return;
            }
            state.waiting.extend(before);
            state.waiting.push_back(block);
        }
        self.begin();
    }

    /// Logs a mark, behind what is to be written, and waits until it is.
    pub(super) async fn mark(self: &Arc<Self>, text: &str) {
        self.queue_mark(text, false);
        self.idle().await;
    }

    /// Writes what no flush has come for, and the mark that ends a log.
    pub(super) async fn finish(self: &Arc<Self>) {
        self.queue_mark(END_MARK, true);
        self.idle().await;
    }

    fn queue_mark(self: &Arc<Self>, text: &str, with_unflushed: bool) {
        // The kernel leaves a byte for the zero that ends it.
        let most = self.unit.bytes() as usize - ENTRY_LEN - 1;
        let text = &text.as_bytes()[..text.len().min(most)];
        let head = EntryHead { at: 0, len: 0, kinds: Kinds::MARK, text_len: text.len() as u64 };
        let mark = Block::new(head, self.unit, &[]).map(|mut mark| {
            mark.bytes[ENTRY_LEN..ENTRY_LEN + text.len()].copy_from_slice(text);
            mark
        });
        {
            let mut state = self.state.lock();
            if with_unflushed {
                let unflushed = std::mem::take(&mut state.unflushed);
                state.waiting.extend(unflushed);
            }
            state.waiting.extend(mark);
        }
        self.begin();
    }

    /// Waits until everything is written that is to be.
    pub(super) async fn idle(&self) {
        self.idle.until(|| (!self.state.lock().is_writing).then_some(())).await;
    }

    /// Has what waits be written, by a task of its own: no bio waits for it.
    fn begin(self: &Arc<Self>) {
        let is_writing = std::mem::replace(&mut self.state.lock().is_writing, true);
        if !is_writing {
            // Not with the state locked: a runtime that is at its end drops the task at once.
            let writing = Writing { logger: self.clone(), is_over: false };
            self.runtime.spawn(Box::pin(writing.run()));
        }
    }

    /// Returns where the next entry that waits is to be written; none where there is none, or it is
    /// dropped.
    fn place(&self, state: &mut State) -> Option<(Sector, Block)> {
        let block = state.waiting.pop_front()?;
        if !state.enabled {
            return None;
        }
        let at = state.next;
        let len = Sectors::in_bytes(block.bytes.len() as u64);
        state.next = at.wrapping_add(len);
        // A device that has no table yet has no size.
        let end = self.log_device.device_size();
        if !end.is_zero() && state.next.0 >= end.0 {
            self.kernel_log.line("Ran out of space on the logdev");
            state.enabled = false;
            return None;
        }
        state.entries += 1;
        Some((at, block))
    }

    /// Writes an entry, and the superblock where it counts from now on.
    async fn write(&self, at: Sector, block: &Block) -> BlkResult {
        self.log_device.submit(at, Bio::write(at, &block.bytes)).await?;
        if block.head.kinds.has(Kinds(Kinds::FUA.0 | Kinds::MARK.0)) {
            let mut unit = vec![0; self.unit.bytes() as usize];
            let entries = self.state.lock().entries;
            Superblock { entries, unit: unit.len() as u32 }.write(&mut unit);
            self.log_device.submit(Sector::ZERO, Bio::write(Sector::ZERO, &unit)).await?;
        }
        Ok(())
    }
}

impl Block {
    fn new(head: EntryHead, unit: Sectors, data: &[u8]) -> Option<Block> {
        let unit = unit.bytes() as usize;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(unit + data.len()).ok()?;
        bytes.resize(unit, 0);
        bytes.extend_from_slice(data);
        head.write(&mut bytes);
        Some(Block { head, bytes })
    }
}

/// Whoever writes; nobody does once it is dropped.
struct Writing {
    logger: Arc<Logger>,
    /// Another may write by now.
    is_over: bool,
}

impl Writing {
    async fn run(mut self) {
        while let Some(next) = self.next() {
            let Some((at, block)) = next else { continue };
            let logger = &*self.logger;
            if logger.write(at, &block).await.is_err() {
                // `BLK_STS_IOERR`, as the kernel numbers it.
                logger.kernel_log.line("Error writing log block, error=10");
                logger.state.lock().enabled = false;
            }
        }
    }

    /// Takes the next entry; none where none is left, and nothing of one that is not written.
    fn next(&mut self) -> Option<Option<(Sector, Block)>> {
        let mut state = self.logger.state.lock();
        if state.waiting.is_empty() {
            // With the state locked: whoever comes next begins anew.
            state.is_writing = false;
            self.is_over = true;
            return None;
        }
        Some(self.logger.place(&mut state))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // By a panic, or with the runtime.
        if !self.is_over
            && let Some(mut state) = self.logger.state.lock_if_whole()
        {
            state.is_writing = false;
        }
        self.logger.idle.notify();
    }
}
