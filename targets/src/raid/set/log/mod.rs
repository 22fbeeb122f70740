//! The journal in use: what a write changes is in it, durably, before any leg is written. After a
//! power cut all of it is written again, so that data and parity are always of the same writes.
//!
//! The log begins at the first block always, as a set that starts looks there. Where it is full, the
//! legs are flushed when all that was logged is on them, and it begins anew, with a block that says
//! so: durable before any other, as what would be left of the old log is older than the legs.
//!
//! A journal that fails is used no more, and nothing is written any more: the legs may lack what it
//! has.
//!
//! In the mode `writeback` the journal has data alone at first, and the cache has it too
//! (`stripes/cache`). There is room kept for the parity of all that is in the cache: what is to be
//! written to the legs need not wait for a new beginning, which in turn waits for that. Where the
//! journal fails, what is in the cache is written to the legs, and nothing else.

mod replay;

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Area, Bio, BlkError, BlkResult, Buffer, Locked, Sector};

use super::RaidSet;
use crate::lines::raid::JournalHealth;
use crate::raid::journal::{BLOCK, Meta, PAGE, Payload, ROOM, checksum};

/// How far a new log's number is from the last one, so that no old block is taken for one of it.
const APART: u64 = 10_000;

/// A journal.
pub(super) struct Log {
    area: Area,
    /// How many blocks there are.
    blocks: u64,
    /// What a status says of it while it is good.
    mode: JournalHealth,
    state: Locked<LogState>,
}

#[derive(Default)]
struct LogState {
    /// It has been replayed.
    started: bool,
    failed: bool,
    /// Where the next meta block goes, and its number.
    next: u64,
    seq: u64,
    /// What nobody has begun to write.
    queue: Vec<Entry>,
    /// How many blocks all take that have no place yet.
    unplaced: u64,
    /// How many were ever queued, how many are written, and how many are durable.
    queued: u64,
    written: u64,
    durable: u64,
    /// Up to which one somebody waits for that.
    asked: u64,
    is_running: bool,
    /// How many are logged, and not on the legs yet.
    in_flight: u64,
}

/// What a write changes in rows of one stripe: pages, and what they are.
pub(super) struct Entry {
    payloads: Vec<Payload>,
    pages: Vec<Buffer>,
}

/// What was logged; dropped when the legs have it.
pub(super) struct Logged {
    set: Arc<RaidSet>,
    log: Arc<Log>,
}

impl Drop for Logged {
    fn drop(&mut self) {
        if let Some(mut state) = self.log.state.lock_if_whole() {
            state.in_flight -= 1;
        }
        self.set.signal.notify();
    }
}

impl Entry {
    /// Makes an entry of data, each with its sector of the set, and of parity of rows: P, then Q.
    pub(super) fn new<'d>(
        rows: &Range<Sector>,
        data: impl Iterator<Item = (Sector, &'d [u8])>,
        parity: &[&[u8]],
    ) -> Entry {
        let mut entry = Entry { payloads: Vec::new(), pages: Vec::new() };
        data.for_each(|(at, bytes)| entry.add(at, bytes));
        let count = parity.first().map_or(0, |parity| parity.len() / BLOCK);
        for nr in 0..count {
            let page = |parity: &&[u8]| Buffer::copy_of(&parity[nr * BLOCK..(nr + 1) * BLOCK]);
            let pages: Vec<Buffer> = parity.iter().map(page).collect();
            let checksums = pages.iter().map(|page| checksum(page)).collect();
            let row = Sector(rows.start.0 + nr as u64 * PAGE.0);
            entry.payloads.push(Payload::Parity { row, checksums });
            entry.pages.extend(pages);
        }
        entry
    }

    /// Makes an entry of data alone, from a sector of the set on.
    pub(super) fn of_data(at: Sector, bytes: &[u8]) -> Entry {
        let mut entry = Entry { payloads: Vec::new(), pages: Vec::new() };
        entry.add(at, bytes);
        entry
    }

    fn add(&mut self, at: Sector, bytes: &[u8]) {
        for (nr, page) in (0..).zip(bytes.chunks(BLOCK)) {
            let at = Sector(at.0 + nr * PAGE.0);
            self.payloads.push(Payload::Data { at, checksum: checksum(page) });
            self.pages.push(Buffer::copy_of(page));
        }
    }

    /// Returns how many pages of each leg fit in an entry of so many legs, of which some have parity. None
    /// where there are too many for one.
    pub(super) fn most_pages(legs: usize, parities: usize) -> Option<NonZeroU64> {
        let data = Payload::Data { at: Sector::ZERO, checksum: 0 };
        let parity = Payload::Parity { row: Sector::ZERO, checksums: vec![0; parities] };
        let page = data.size() * (legs - parities) + parity.size();
        NonZeroU64::new((ROOM / page) as u64)
    }

    fn blocks(&self) -> u64 {
        1 + self.pages.len() as u64
    }
}

impl Log {
    /// Makes a journal that has to be replayed first; none where it is too short.
    pub(super) fn new(area: Area, mode: JournalHealth) -> Log {
        let blocks = area.size().bytes() / BLOCK as u64;
        Log { area, blocks, mode, state: Locked::new(LogState::default()) }
    }

    pub(super) fn area(&self) -> &Area {
        &self.area
    }

    pub(super) fn health(&self) -> JournalHealth {
        match self.has_failed() {
            true => JournalHealth::Failed,
            false => self.mode,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    /// Tells whether it has been replayed: writes go through it.
    pub(super) fn has_started(&self) -> bool {
        self.state.lock().started
    }

    /// Queues an entry, where so many blocks are left behind it. Returns its number; none where the
    /// log has no room for it.
    pub(super) fn put(&self, entry: Entry, spare: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let end = state.next + state.unplaced + entry.blocks() + spare;
        (end <= self.blocks).then(|| state.put(entry))
    }

    /// Has it used no more.
    pub(super) fn fail(&self) {
        let mut state = self.state.lock();
        (state.failed, state.is_running) = (true, false);
        state.queue.clear();
    }

    async fn read(&self, block: u64) -> Result<Buffer, BlkError> {
        let at = Sector(block * PAGE.0);
        let mut bytes = Buffer::take(BLOCK);
        self.area.submit(at, Bio::read(at, &mut bytes)).await?;
        Ok(bytes)
    }

    async fn write(&self, block: u64, bytes: &[u8]) -> BlkResult {
        let at = Sector(block * PAGE.0);
        self.area.submit(at, Bio::write(at, bytes)).await
    }

    async fn flush(&self) -> BlkResult {
        self.area.submit(Sector::ZERO, Bio::flush()).await
    }

    /// Begins a log without entries, durably.
    async fn begin(&self, seq: u64) -> BlkResult {
        let meta = Meta { seq, block: 0, payloads: Vec::new() };
        self.write(0, &meta.write()).await?;
        self.flush().await?;
        let mut state = self.state.lock();
        (state.next, state.seq) = (1, seq.wrapping_add(1));
        Ok(())
    }
}

impl LogState {
    fn has_work(&self) -> bool {
        !self.failed && (!self.queue.is_empty() || self.asked > self.durable)
    }

    fn put(&mut self, entry: Entry) -> u64 {
        self.unplaced += entry.blocks();
        self.queue.push(entry);
        self.queued += 1;
        self.queued
    }
}

impl RaidSet {
    /// Makes an entry durable; the legs may be written then.
    pub(super) async fn log(
        self: &Arc<Self>,
        log: &Arc<Log>,
        entry: Entry,
    ) -> Result<Logged, BlkError> {
        let nr = {
            let mut state = log.state.lock();
            if state.failed {
                return Err(BlkError::Io);
            }
            state.in_flight += 1;
            state.put(entry)
        };
        let logged = Logged { set: self.clone(), log: log.clone() };
        self.is_logged(log, nr, true).await.map(|()| logged)
    }

    /// Waits until an entry is in the journal.
    pub(super) async fn is_logged(
        self: &Arc<Self>,
        log: &Arc<Log>,
        nr: u64,
        durably: bool,
    ) -> BlkResult {
        let begins = {
            let mut state = log.state.lock();
            if durably {
                state.asked = state.asked.max(nr);
            }
            state.has_work() && !std::mem::replace(&mut state.is_running, true)
        };
        if begins {
            let (set, log) = (self.clone(), log.clone());
            self.runtime.spawn_here(Box::pin(async move { set.write_log(&log).await }));
        }
        let ended = || {
            let state = log.state.lock();
            let is_there = if durably { state.durable } else { state.written } >= nr;
            match is_there {
                true => Some(Ok(())),
                false => state.failed.then_some(Err(BlkError::Io)),
            }
        };
        self.signal.until(ended).await
    }

    /// Makes all that was written durable.
    pub(super) async fn flush_log(self: &Arc<Self>, log: &Arc<Log>) -> BlkResult {
        let written = log.state.lock().written;
        self.is_logged(log, written, true).await
    }

    /// Writes entries as long as there are any: all that came meanwhile at once, with one flush, where
    /// somebody waits for that.
    async fn write_log(self: &Arc<Self>, log: &Arc<Log>) {
        let next = || {
            let mut state = log.state.lock();
            state.is_running = state.has_work();
            state.is_running.then(|| std::mem::take(&mut state.queue))
        };
        while let Some(entries) = next() {
            let mut entries = entries.into_iter().peekable();
            loop {
                if self.write_some(log, &mut entries).await.is_err() {
                    log.fail();
                    self.tell_failure(&self.state(), log.area());
                    self.events.raise();
                    self.signal.notify();
                    return;
                }
                self.signal.notify();
                if entries.peek().is_none() {
                    break;
                }
            }
        }
    }

    /// Writes entries as far as they fit, after a new beginning where none does, and makes them
    /// durable where somebody waits for that.
    async fn write_some(
        self: &Arc<Self>,
        log: &Arc<Log>,
        entries: &mut std::iter::Peekable<impl Iterator<Item = Entry>>,
    ) -> BlkResult {
        let fits = |entry: &Entry| log.state.lock().next + entry.blocks() <= log.blocks;
        if !entries.peek().is_none_or(fits) {
            // Those that wait here are in flight, too.
            let waiting = entries.size_hint().0 as u64;
            let idle = || {
                let state = log.state.lock();
                (state.in_flight <= waiting + state.queue.len() as u64).then_some(())
            };
            self.signal.until(idle).await;
            self.begin_anew(log).await?;
        }
        let mut writes: Vec<(u64, Buffer)> = Vec::new();
        let mut count = 0;
        while let Some(entry) = entries.next_if(fits) {
            let (block, seq) = {
                let mut state = log.state.lock();
                let at = (state.next, state.seq);
                state.next += entry.blocks();
                state.unplaced -= entry.blocks();
                state.seq = state.seq.wrapping_add(1);
                at
            };
            let meta = Meta { seq, block, payloads: entry.payloads };
            writes.push((block, Buffer::copy_of(&meta.write())));
            writes.extend((block + 1..).zip(entry.pages));
            count += 1;
        }
        let mut ends: FuturesUnordered<_> =
            writes.iter().map(|(block, bytes)| log.write(*block, bytes)).collect();
        let mut result = Ok(());
        while let Some(end) = ends.next().await {
            result = result.and(end);
        }
        result?;
        let (written, is_asked) = {
            let mut state = log.state.lock();
            state.written += count;
            (state.written, state.asked > state.durable)
        };
        if is_asked {
            self.signal.notify();
            log.flush().await?;
            log.state.lock().durable = written;
        }
        Ok(())
    }

    /// Begins a new log when the legs have all that was logged.
    pub(super) async fn begin_anew(self: &Arc<Self>, log: &Log) -> BlkResult {
        self.flush_legs().await?;
        let seq = log.state.lock().seq;
        log.begin(seq).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_room_for_a_page_of_each_of_203_legs() {
        let most = |legs, parities| Entry::most_pages(legs, parities).map(NonZeroU64::get);
        assert_eq!((most(203, 1), most(204, 1)), (Some(1), None));
        assert_eq!((most(203, 2), most(253, 2)), (Some(1), None));
        assert_eq!(most(3, 1), Some(67));
    }
}
