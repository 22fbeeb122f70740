//! What is known of a dirty log beside its device: which regions are marked, and by which commit.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use sim_core::{Area, Runtime, Sectors, Signal};

use super::health::LogHealth;
use super::image::Image;

/// Who has a dirty log in its state, under its one lock.
pub(crate) trait Keeper: Send + Sync + 'static {
    /// Locks the state.
    fn with_log<T>(&self, look: impl FnOnce(&mut DirtyLog) -> T) -> T;

    /// Returns the device of a log that has one.
    fn log_device(&self) -> Option<&Area>;

    fn runtime(&self) -> &Arc<dyn Runtime>;

    /// Returns what is given whenever a commit has ended.
    fn committed(&self) -> &Signal;

    /// Is told that the log's device has failed, the first time it does.
    fn log_has_failed(&self);
}

/// The log, but for its device.
pub(crate) struct DirtyLog {
    /// Nothing for a `core` log.
    pub(super) image: Option<Image>,
    /// Blocks that the device does not have as they are here.
    pub(super) changed: BTreeSet<u64>,
    /// Among the changes is a mark.
    pub(super) marked: bool,
    /// The last commit that somebody waits for, the last that began, the last that ended, and the
    /// last that went well. Commits are counted from 1.
    pub(super) asked: u64,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) durable: u64,
    /// What regions that are not clean, and not in the map, were marked by at the latest.
    floor: u64,
    pub(super) committing: bool,
    /// The device failed (`D`), or its flush did (`F`).
    pub(crate) failed: bool,
    pub(crate) flush_failed: bool,
    /// The copies could not be flushed: nothing becomes clean any more.
    copies_failed: bool,
}

impl DirtyLog {
    /// Makes a log that is kept in memory alone (`core`): all that it knows is marked already.
    pub(crate) fn core() -> DirtyLog {
        DirtyLog::new(None)
    }

    /// Makes the log of a device with logical blocks of this size (`disk`).
    pub(crate) fn disk(regions: u64, logical_block: Sectors) -> DirtyLog {
        DirtyLog::new(Some(Image::new(regions, logical_block)))
    }

    fn new(image: Option<Image>) -> DirtyLog {
        DirtyLog {
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
            copies_failed: false,
        }
    }

    /// Marks a region, and returns which commit makes that durable.
    #[must_use]
    pub(crate) fn mark(&mut self, region: u64) -> u64 {
        let Some(image) = self.image.as_mut().filter(|image| image.get(region)) else {
            return self.floor;
        };
        self.changed.insert(image.put(region, false));
        self.marked = true;
        self.began + 1
    }

    /// Returns which commit has marked a region that is not clean.
    pub(crate) fn unclean(&self) -> u64 {
        self.floor
    }

    /// Tells whether what this commit marks is durable.
    pub(crate) fn is_durable(&self, mark: u64) -> bool {
        mark <= self.durable
    }

    /// Returns the commit that will make a mark durable: another, where its own has failed.
    #[must_use]
    pub(crate) fn pending(&self, mark: u64) -> u64 {
        if mark <= self.ended { self.began + 1 } else { mark }
    }

    /// Makes a region clean; the copies have been flushed since its last write.
    pub(crate) fn clean(&mut self, region: u64) {
        if let Some(image) = self.image.as_mut().filter(|_| !self.copies_failed) {
            self.changed.insert(image.put(region, true));
        }
    }

    /// Returns what the device went through.
    pub(crate) fn health(&self) -> LogHealth {
        match (self.flush_failed, self.failed) {
            (true, _) => LogHealth::FlushFailed,
            (false, true) => LogHealth::Failed,
            (false, false) => LogHealth::Good,
        }
    }

    /// Lets go of a region that was marked and does not become clean.
    pub(crate) fn leave(&mut self, mark: u64) {
        if !self.is_durable(mark) {
            self.floor = self.began + 1;
        }
    }

    /// Makes every region dirty, for good: the copies could not be flushed, and nobody knows which
    /// clean bits the device has.
    pub(crate) fn distrust_copies(&mut self) {
        self.copies_failed = true;
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

    /// Returns the runs of blocks that changed, as ranges of bytes.
    pub(super) fn changed_bytes(&self) -> Vec<Range<u64>> {
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

    /// Returns the regions that are clean, by a log on a device.
    #[cfg(test)]
    pub(crate) fn clean_regions(&self) -> &crate::parts::bits::Bits {
        self.image().clean()
    }

    pub(super) fn image(&self) -> &Image {
        self.image.as_ref().expect("a core log has nothing to commit")
    }
}
