//! Writes, reads and flushes of a set with a cache.

use std::ops::Range;
use std::sync::Arc;

use sim_core::{Bio, BlkError, BlkResult, Sector, Signal};

use super::super::super::RaidSet;
use super::super::super::write::range_of;
use super::super::write::whole_pages;
use super::{Cache, Taken};
use crate::parts::held_ranges::{HeldRanges, Hold, Holder};
use crate::raid::journal::PAGE;

/// The most pages that come in at once: they fit in one entry, and in a journal that is empty.
const MOST: u64 = 128;

impl RaidSet {
    /// Carries out a write: it ends when the journal has it, durably where it is to be.
    pub(in super::super::super) async fn write_cached(
        self: &Arc<Self>,
        cache: &Arc<Cache>,
        mut bio: Bio<'_>,
    ) -> BlkResult {
        let range = range_of(&bio);
        let mut at = range.start;
        let mut last = None;
        while at < range.end {
            let end = Sector((at.0 / PAGE.0 + MOST) * PAGE.0).min(range.end);
            match self.cache(cache, at..end, &bio.part(at - range.start, end - at)).await? {
                Taken::Cached(nr) => last = Some(nr),
                Taken::Through => {
                    self.signal.until(|| cache.is_through()).await?;
                    let rest = bio.part(at - range.start, range.end - at);
                    return self.write_stripes(cache.parity, rest, None, None).await;
                }
            }
            at = end;
        }
        match last {
            Some(nr) => self.is_logged(&cache.log, nr, bio.flags.fua).await,
            None => Ok(()),
        }
    }

    /// Takes in what lies in some pages, as soon as that can be.
    async fn cache(
        self: &Arc<Self>,
        cache: &Arc<Cache>,
        range: Range<Sector>,
        bio: &Bio<'_>,
    ) -> Result<Taken, BlkError> {
        let pages = whole_pages(&range);
        let take = |data: &[u8], is_filled: bool| {
            let taken = cache.take(self, pages.start, data, is_filled);
            self.start_writing_out(cache);
            taken
        };
        if pages == range {
            return self.signal.until(|| take(bio.data(), false)).await;
        }
        // Nobody else changes them from what is read of them to what is put there.
        let filling = Filling(self, cache);
        let hold = || {
            let mut state = cache.state.lock();
            let free = state.filled.leave_free(&pages);
            free.then(|| Hold::new(&filling, &mut state.filled, pages.clone()))
        };
        let _held = self.signal.until(hold).await;
        let data = self.filled_up(&cache.parity, &pages, bio, Some(cache)).await?;
        self.signal.until(|| take(&data, true)).await
    }

    /// Carries out a read of what is in the cache, or on the legs.
    pub(in super::super) async fn read_cached(
        self: &Arc<Self>,
        cache: &Cache,
        mut bio: Bio<'_>,
    ) -> BlkResult {
        let range = range_of(&bio);
        for part in cache.copy_to(&range, bio.buffer()) {
            let (skip, len) = (part.start - range.start, part.end - part.start);
            self.read_chunks(&cache.parity, bio.part(skip, len)).await?;
        }
        Ok(())
    }

    /// Makes all writes that have ended durable: in the journal, or on the legs where that is lost, or
    /// they are written.
    pub(in super::super::super) async fn flush_cached(
        self: &Arc<Self>,
        cache: &Arc<Cache>,
    ) -> BlkResult {
        let is_in_journal = self.flush_log(&cache.log).await.is_ok();
        if is_in_journal && !cache.state.lock().is_over {
            return Ok(());
        }
        self.start_writing_out(cache);
        let is_settled = || {
            let state = cache.state.lock();
            let is_settled = state.is_settled() && !cache.is_to_begin_anew(&state);
            is_settled
                .then(|| state.is_void != Some(false) && (is_in_journal || state.rows.is_empty()))
        };
        match self.signal.until(is_settled).await {
            true => self.flush_legs().await,
            // What is there comes back with the next start, and is older than the legs.
            false => Err(BlkError::Io),
        }
    }
}

/// The pages that are filled up.
struct Filling<'a>(&'a RaidSet, &'a Cache);

impl Holder for Filling<'_> {
    type At = Sector;

    fn if_whole(&self, change: impl FnOnce(&mut HeldRanges<Sector>)) {
        if let Some(mut state) = self.1.state.lock_if_whole() {
            change(&mut state.filled);
        }
    }

    fn freed(&self) -> &Signal {
        &self.0.signal
    }
}
