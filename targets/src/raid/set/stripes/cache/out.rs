//! Rows that are written out: the parity goes to the journal, which has the data, then both go to the
//! legs.

use std::ops::Range;
use std::sync::Arc;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{BlkResult, Buffer, Flags, Sector};

use super::super::super::RaidSet;
use super::super::super::log::Entry;
use super::super::turns::Rows;
use super::super::write::parity_of;
use super::{Cache, CacheState};
use crate::raid::journal::{BLOCK, PAGE};

/// How many groups are written out side by side.
const AT_ONCE: usize = 8;

/// The most pages of a leg in one group: 128 KiB.
pub(super) const MOST: usize = 32;

/// Neighbours in a stripe, with pages of the same legs; they stay in the cache until the legs have
/// them.
pub(super) struct Group {
    cache: Arc<Cache>,
    rows: Rows,
    is_out: bool,
}

impl Group {
    /// Makes one of a row and its neighbours, which are leaving from now on.
    pub(super) fn around(cache: &Arc<Cache>, state: &mut CacheState, row: Sector) -> Group {
        let stripe = cache.parity.stripe_at(row);
        let legs = |row: Sector| -> Vec<usize> {
            let pages = state.rows[&row].pages.iter().enumerate();
            pages.filter_map(|(leg, page)| page.as_ref().map(|_| leg)).collect()
        };
        let (chunk, own) = (cache.parity.chunk().0, legs(row));
        let goes_along = |other: Sector| {
            other.0 / chunk == row.0 / chunk
                && state.rows.get(&other).is_some_and(|other| other.may_leave())
                && legs(other) == own
        };
        let (mut start, mut end, mut count) = (row, row + PAGE, 1);
        while count < MOST && start.0 >= PAGE.0 && goes_along(Sector(start.0 - PAGE.0)) {
            (start, count) = (Sector(start.0 - PAGE.0), count + 1);
        }
        while count < MOST && goes_along(end) {
            (end, count) = (end + PAGE, count + 1);
        }
        let data = own.iter().map(|leg| {
            let mut buffer = Buffer::take(count * BLOCK);
            for (row, to) in state.rows.range(start..end).zip(buffer.chunks_exact_mut(BLOCK)) {
                to.copy_from_slice(row.1.pages[*leg].as_deref().expect("all have the same legs"));
            }
            (*leg, buffer)
        });
        let data = data.collect();
        state.rows.range_mut(start..end).for_each(|(_, row)| row.is_leaving = true);
        state.full.retain(|row| !(start..end).contains(row));
        let rows = Rows { stripe, rows: start..end, data, is_logged: true };
        Group { cache: cache.clone(), rows, is_out: false }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(mut state) = self.cache.state.lock_if_whole() else { return };
        let rows: Vec<Sector> =
            state.rows.range(self.rows.rows.clone()).map(|(row, _)| *row).collect();
        for row in rows {
            if self.is_out {
                state.remove(row);
            } else if let Some(row) = state.rows.get_mut(&row) {
                (row.is_leaving, row.is_stuck) = (false, true);
            }
        }
    }
}

/// Says that nobody writes out any more, where a panic has ended that.
struct Running(Arc<RaidSet>, Arc<Cache>, bool);

impl Drop for Running {
    fn drop(&mut self) {
        if !self.2
            && let Some(mut state) = self.1.state.lock_if_whole()
        {
            state.is_running = false;
        }
        self.0.signal.notify();
    }
}

impl RaidSet {
    /// Starts to write out what is in the cache when its time has come, where nobody does.
    pub(super) fn start_writing_out(self: &Arc<Self>, cache: &Arc<Cache>) {
        {
            let mut state = cache.state.lock();
            let has_work = !state.is_settled() || cache.is_to_begin_anew(&state);
            if !has_work || std::mem::replace(&mut state.is_running, true) {
                return;
            }
        }
        let running = Running(self.clone(), cache.clone(), false);
        self.runtime.spawn(Box::pin(async move {
            let mut running = running;
            let Running(set, cache, is_over) = &mut running;
            set.write_out(cache).await;
            *is_over = true;
        }));
    }

    /// Writes everything out; nobody writes meanwhile. What cannot be stays in the journal.
    pub(in super::super::super) async fn drain(self: &Arc<Self>) {
        let Some(cache) = &self.cache else { return };
        cache.state.lock().drains = true;
        self.start_writing_out(cache);
        self.signal.notify();
        self.signal.until(|| (!cache.state.lock().is_running).then_some(())).await;
        cache.state.lock().drains = false;
    }

    /// Tries again what could not be written out.
    pub(in super::super::super) fn go_on_writing_out(self: &Arc<Self>) {
        let Some(cache) = &self.cache else { return };
        cache.state.lock().rows.values_mut().for_each(|row| row.is_stuck = false);
        self.start_writing_out(cache);
    }

    /// Writes out as long as there is anything.
    async fn write_out(self: &Arc<Self>, cache: &Arc<Cache>) {
        let pick = || {
            let is_urgent = cache.log.has_failed() || {
                let is_degraded = self.state().is_degraded();
                cache.state.lock().is_over |= is_degraded;
                is_degraded
            };
            cache.pick(self.runtime.now(), is_urgent)
        };
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < AT_ONCE
                && let Some(group) = pick()
            {
                running.push(self.write_group(group));
            }
            if running.next().await.is_some() {
                self.signal.notify();
                continue;
            }
            self.let_begin_anew(cache).await;
            let Some(rest) = cache.rest(self.runtime.now()) else { return };
            let picked = Box::pin(self.signal.until(pick));
            match select(self.runtime.sleep(rest), picked).await {
                Either::Left(((), _)) => {}
                Either::Right((group, _)) => running.push(self.write_group(group)),
            }
        }
    }

    /// Has the log begin anew where it is full, or has failed, and nothing of it is here.
    async fn let_begin_anew(self: &Arc<Self>, cache: &Cache) {
        if !cache.is_to_begin_anew(&cache.state.lock()) {
            return;
        }
        let mut begun = self.begin_anew(&cache.log).await.is_ok();
        if !begun && !cache.log.has_failed() {
            cache.log.fail();
            self.tell_failure(&self.state(), cache.log.area());
            self.events.raise();
            begun = self.begin_anew(&cache.log).await.is_ok();
        }
        if cache.log.has_failed() {
            cache.state.lock().is_void = Some(begun);
            if !begun {
                self.log.line(
                    "The journal has failed, and what it has is older than the legs: zero its first \
                     4 KiB before the set is used with it again",
                );
            }
        }
        cache.state.lock().makes_room = false;
        self.signal.notify();
    }

    async fn write_group(self: &Arc<Self>, mut group: Group) {
        match self.write_rows_out(&group).await {
            Ok(()) => group.is_out = true,
            Err(error) => {
                let Range { start, end } = group.rows.rows;
                self.log.line(format_args!(
                    "Rows {start} to {end} cannot be written ({error}) and stay in the journal"
                ));
            }
        }
    }

    async fn write_rows_out(self: &Arc<Self>, group: &Group) -> BlkResult {
        let rows = &group.rows;
        let (mut ticket, commit) = self.signal.until(|| self.admit(&rows.rows)).await;
        if let Some(commit) = commit {
            self.commit(commit).await;
        }
        let blocks = self.blocks_of(&rows).await?;
        let parity = parity_of(&rows.stripe, &blocks);
        let entry = Entry::new(&rows.rows, std::iter::empty(), &parity);
        // Where the journal has failed, the legs are all that is left.
        let _logged = self.log(&group.cache.log, entry).await.ok();
        self.write_out_blocks(&mut ticket, rows, blocks, Flags::default()).await
    }
}
