//! The dirty log at work: marks and clean bits are collected, and committed together.
//!
//! A commit writes the blocks that changed, and flushes the device where there is a mark among
//! the changes; it serves whoever came before it began. A clean bit is set only when the legs were
//! flushed after the last write of its region, and is a hint: nobody waits for it to be durable.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use sim_core::{Area, Bio, BlkError, BlkResult, Buffer, Flags, Sector, Sectors};

use super::disk::Image;
use super::mirror_set::MirrorSet;

/// The log is read and written in pieces of this many bytes, and so many pieces at a time.
pub(super) const PIECE: u64 = 1 << 20;
const AT_A_TIME: usize = 4;

/// The log, but for its device.
pub(super) struct Log {
    /// Nothing for a `core` log.
    pub(super) image: Option<Image>,
    /// Blocks that the device does not have as they are here.
    changed: BTreeSet<u64>,
    /// Among the changes is a mark.
    marked: bool,
    /// The last commit that somebody waits for, the last that began, the last that ended, and the
    /// last that went well. Commits are counted from 1.
    asked: u64,
    began: u64,
    ended: u64,
    durable: u64,
    /// What regions that are not clean, and not in the map, were marked by at the latest.
    floor: u64,
    committing: bool,
    /// The device failed (`D`), or its flush did (`F`).
    pub(super) failed: bool,
    pub(super) flush_failed: bool,
    /// The legs could not be flushed: nothing becomes clean any more.
    legs_failed: bool,
}

impl Log {
    pub(super) fn new(image: Option<Image>) -> Log {
        Log {
            image,
            changed: BTreeSet::new(),
            marked: false,
            asked: 0,
            began: 0,
            ended: 0,
            durable: 0,
            floor: 0,
            committing: false,
            failed: false,
            flush_failed: false,
            legs_failed: false,
        }
    }

    /// Marks a region, and returns which commit makes that durable.
    #[must_use]
    pub(super) fn mark(&mut self, region: u64) -> u64 {
        let Some(image) = self.image.as_mut().filter(|image| image.get(region)) else {
            return self.floor;
        };
        self.changed.insert(image.put(region, false));
        self.marked = true;
        self.began + 1
    }

    /// Returns which commit has marked a region that is not clean.
    pub(super) fn unclean(&self) -> u64 {
        self.floor
    }

    /// Tells whether what this commit marks is durable.
    pub(super) fn is_durable(&self, mark: u64) -> bool {
        mark <= self.durable
    }

    /// Returns the commit that will make a mark durable: another, where its own has failed.
    #[must_use]
    pub(super) fn pending(&self, mark: u64) -> u64 {
        if mark <= self.ended { self.began + 1 } else { mark }
    }

    /// Makes a region clean; the legs have been flushed since its last write.
    pub(super) fn clean(&mut self, region: u64) {
        if let Some(image) = self.image.as_mut().filter(|_| !self.legs_failed) {
            self.changed.insert(image.put(region, true));
        }
    }

    /// Lets go of a region that was marked and does not become clean.
    pub(super) fn leave(&mut self, mark: u64) {
        if !self.is_durable(mark) {
            self.floor = self.began + 1;
        }
    }

    /// Makes every region dirty, for good: the legs could not be flushed, and nobody knows which
    /// clean bits the device has.
    pub(super) fn distrust_legs(&mut self) {
        self.legs_failed = true;
        if let Some(image) = &mut self.image {
            self.changed.extend(image.clear());
            self.marked = true;
            self.floor = self.began + 1;
        }
    }

    /// Forgets what was to be written: the image is what the device has.
    pub(super) fn settle(&mut self) {
        self.changed.clear();
        self.marked = false;
        self.floor = 0;
    }

    /// Takes in that the device may not have what it was given when the target came into use.
    pub(super) fn header_is_volatile(&mut self) {
        if let Some(image) = &self.image {
            self.changed.extend(image.blocks());
        }
        self.floor = self.began + 1;
        self.marked = true;
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty() || self.marked
    }

    /// Returns the runs of blocks that changed, as bytes.
    fn runs(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for &block in &self.changed {
            match runs.last_mut() {
                Some(run) if run.end == block => run.end += 1,
                Some(_) | None => runs.push(block..block + 1),
            }
        }
        let image = self.image();
        runs.iter().map(|run| image.bytes_of(run)).collect()
    }

    fn image(&self) -> &Image {
        self.image.as_ref().expect("a core log has nothing to commit")
    }
}

/// Cuts a range of bytes into pieces.
pub(super) fn pieces(bytes: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = bytes.end;
    bytes.step_by(PIECE as usize).map(move |at| at..end.min(at + PIECE))
}

/// What one commit writes.
struct Batch {
    blocks: BTreeSet<u64>,
    /// Of the log's bytes, as they are when their turn comes: what has changed meanwhile may be
    /// written too early, and is written again.
    writes: Vec<Range<u64>>,
    marked: bool,
}

/// Why a commit failed.
enum Failed {
    Write,
    Flush,
}

impl MirrorSet {
    /// Waits until a mark is durable, and makes it so if nobody else does.
    pub(super) async fn commit(self: &Arc<Self>, commit: u64) -> BlkResult {
        let begins = {
            let mut state = self.state();
            let log = &mut state.log;
            log.asked = log.asked.max(commit);
            !std::mem::replace(&mut log.committing, true)
        };
        if begins {
            let set = self.clone();
            self.runtime.spawn_here(Box::pin(async move { set.commit_all().await }));
        }
        let ended = || {
            let state = self.state();
            (state.log.ended >= commit).then(|| state.log.is_durable(commit))
        };
        if self.signal.until(ended).await { Ok(()) } else { Err(BlkError::Io) }
    }

    /// Commits what has changed, whether somebody waits for it or not.
    pub(super) async fn commit_changes(self: &Arc<Self>) -> BlkResult {
        let commit = {
            let state = self.state();
            match (state.log.has_changes(), state.log.committing) {
                (false, false) => return Ok(()),
                (true, _) => state.log.began + 1,
                (false, true) => state.log.began,
            }
        };
        self.commit(commit).await
    }

    /// Commits as long as somebody waits for it.
    async fn commit_all(&self) {
        loop {
            let batch = {
                let mut state = self.state();
                let log = &mut state.log;
                if log.asked <= log.began {
                    log.committing = false;
                    return;
                }
                log.began += 1;
                MirrorSet::batch(log)
            };
            let result = self.write_batch(&batch).await;
            let failed = {
                let mut state = self.state();
                let log = &mut state.log;
                log.ended = log.began;
                match &result {
                    Ok(()) => log.durable = log.began,
                    Err(failed) => {
                        log.changed.extend(batch.blocks);
                        log.marked |= batch.marked;
                        log.flush_failed |= matches!(failed, Failed::Flush);
                    }
                }
                result.is_err() && !std::mem::replace(&mut log.failed, true)
            };
            if failed {
                self.events.raise();
            }
            self.signal.notify();
        }
    }

    fn batch(log: &mut Log) -> Batch {
        Batch {
            writes: log.runs().into_iter().flat_map(pieces).collect(),
            blocks: std::mem::take(&mut log.changed),
            marked: std::mem::take(&mut log.marked),
        }
    }

    async fn write_batch(&self, batch: &Batch) -> Result<(), Failed> {
        let device = self.log_device.as_ref().expect("a core log has nothing to commit");
        let writes = batch.writes.iter().cloned().map(|bytes| self.write_log(device, bytes));
        let mut writes = stream::iter(writes).buffer_unordered(AT_A_TIME);
        let mut result = Ok(());
        while let Some(end) = writes.next().await {
            result = result.and(end);
        }
        result.map_err(|_| Failed::Write)?;
        if batch.marked {
            let flush = device.submit(Sector::ZERO, Bio::flush());
            flush.await.map_err(|_| Failed::Flush)?;
        }
        Ok(())
    }

    async fn write_log(&self, device: &Area, bytes: Range<u64>) -> BlkResult {
        let mut buffer = Buffer::take((bytes.end - bytes.start) as usize);
        self.state().log.image().get_bytes(bytes.start, &mut buffer);
        write_at(device, bytes.start, &buffer, Flags::default()).await
    }
}

/// Writes some bytes of the log to its device.
pub(super) async fn write_at(device: &Area, at: u64, bytes: &[u8], flags: Flags) -> BlkResult {
    let sector = Sectors::in_bytes(at).to_sector();
    device.submit(sector, Bio::write(sector, bytes).with_flags(flags)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_that_is_let_go_of_has_the_mark_that_it_lacks() {
        let mut log = Log::new(Some(Image::new(64, Sectors(1))));
        (0..8).for_each(|region| log.clean(region));
        // Two commits have ended well.
        (log.began, log.ended, log.durable) = (2, 2, 2);
        let mark = log.mark(5);
        assert!(!log.is_durable(mark));
        log.leave(mark);
        let again = log.mark(5);
        assert!(!log.is_durable(again) && !log.is_durable(log.unclean()));
        assert_eq!((log.pending(again), log.mark(6)), (3, 3));
        // The third fails: whoever needs the mark asks for a fourth.
        (log.began, log.ended) = (3, 3);
        assert_eq!((log.is_durable(again), log.pending(again)), (false, 4));
        // What was durable when it was let go of asks for nothing.
        log.durable = 3;
        log.leave(again);
        let mark = log.mark(5);
        assert!(log.is_durable(mark));
    }
}
