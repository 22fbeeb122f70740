//! Commits of the metadata: superblocks and pages of the bitmap, to all legs that are alive.
//!
//! One commit serves whoever came before it began. A metadata device that cannot be written takes its
//! leg with it, and the others learn of that before the commit is over: a leg that lacks a write is
//! never the one that is believed. The last leg stays, whatever happens to its metadata.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Area, Bio, BlkResult, Sector, Sectors};

use super::RaidSet;
use super::intent::PAGE;
use super::state::{Cleanness, Cleared, State};
use crate::bios::Stage;
use crate::raid::bitmap::Header;

/// What is counted in the superblocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// What a leg that does not learn of it must not be believed for.
    Change,
    /// That the set is called clean or dirty, or how far a resync has got.
    Note,
}

/// The count of events in the superblocks, which is md's: it goes up with each event, but where a set
/// without fault is clean again, which was so before, it goes back to what it was then. That it is clean or
/// dirty is not written by itself: what superblocks have never goes back.
///
/// Where several events come together they are written once. Whoever assembles an array of md's takes a
/// member that lacks more than one event for out of date, which a power cut must not make it: there, each
/// commit is one.
#[derive(Debug)]
pub(super) struct Events {
    now: u64,
    written: u64,
    by_commit: bool,
    /// The last was a note: the count may go back by it.
    was_note: bool,
}

impl Events {
    /// Goes on from a count that was found, event by event.
    pub(super) fn each(found: u64) -> Events {
        Events { now: found, written: found, by_commit: false, was_note: false }
    }

    /// Goes on from a count that was found, commit by commit.
    pub(super) fn by_commit(found: u64) -> Events {
        Events { now: found, written: found, by_commit: true, was_note: false }
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Counts one, a note perhaps, in a set that is as it is to be.
    fn count(&mut self, is_note: bool, is_good: bool) {
        if self.by_commit {
            return;
        }
        if self.was_note && is_note && is_good && self.now > 1 {
            self.now -= 1;
            self.was_note = false;
        } else {
            self.grow();
            self.was_note = is_note;
        }
    }

    /// Counts what begins to be written.
    fn begin_commit(&mut self) {
        if self.by_commit {
            self.grow();
        }
        self.written = self.now;
    }

    /// Tells whether superblocks have another count.
    pub(super) fn are_unwritten(&self) -> bool {
        self.now != self.written
    }

    /// What is found may be the greatest that there is.
    fn grow(&mut self) {
        self.now = self.now.saturating_add(1);
    }
}

/// Commits, counted from 1, and what the next one is to write.
#[derive(Default)]
pub(super) struct Commits {
    /// The last that somebody waits for, the last that began, and the last that ended.
    asked: u64,
    pub(super) began: u64,
    ended: u64,
    is_running: bool,
    superblocks: bool,
    pages: BTreeSet<u64>,
    /// The one that says which legs have failed, the last.
    failure: u64,
    /// The last one could not be written everywhere, and no leg more can be lost.
    is_lost: bool,
}

impl Commits {
    /// Has the superblocks written. Returns the commit that does so.
    fn superblocks(&mut self) -> u64 {
        self.superblocks = true;
        self.began + 1
    }

    /// Returns the last commit that says which legs have failed.
    pub(super) fn failure(&self) -> u64 {
        self.failure
    }

    /// Has pages of the bitmap written. Returns the commit that does so.
    pub(super) fn pages(&mut self, pages: impl IntoIterator<Item = u64>) -> u64 {
        self.pages.extend(pages);
        self.began + 1
    }

    /// Tells whether some leg may not have what the last commit wrote.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    pub(super) fn has_ended(&self, commit: u64) -> bool {
        commit <= self.ended
    }
}

/// What one commit writes.
struct Batch {
    superblocks: bool,
    pages: BTreeSet<u64>,
}

impl State {
    /// Counts an event so many times, and has the superblocks written. Returns the commit that does so.
    pub(super) fn commit(&mut self, event: Event, times: u64) -> u64 {
        self.count(event, times);
        self.commits.superblocks()
    }

    /// Has the superblocks say which legs have failed: two events, that they have and that they are out,
    /// for all of them by the time of the commit.
    pub(super) fn commit_failure(&mut self) {
        let commit = self.commits.superblocks();
        if self.commits.failure != commit {
            self.commits.failure = commit;
            self.count(Event::Change, 2);
        }
    }

    /// Counts an event so many times, for the next superblocks that are written.
    pub(super) fn count(&mut self, event: Event, times: u64) {
        let is_note = event == Event::Note && !self.is_degraded();
        let is_good = self.cleanness == Cleanness::Clean && self.resync_from.is_none();
        for _ in 0..times {
            self.events.count(is_note, is_good);
        }
        if self.is_degraded() && self.cleared == Cleared::Now {
            self.cleared = Cleared::Before;
        }
    }
}

impl RaidSet {
    /// Waits until a commit has ended, and carries it out if nobody else does.
    pub(super) async fn commit(self: &Arc<Self>, commit: u64) {
        let begins = {
            let mut state = self.state();
            if state.commits.has_ended(commit) {
                return;
            }
            state.commits.asked = state.commits.asked.max(commit);
            !std::mem::replace(&mut state.commits.is_running, true)
        };
        if begins {
            let set = self.clone();
            self.runtime.spawn_here(Box::pin(async move { set.commit_all().await }));
        }
        let ended = || self.state().commits.has_ended(commit).then_some(());
        self.signal.until(ended).await;
    }

    /// Commits as long as somebody waits for it.
    async fn commit_all(self: &Arc<Self>) {
        let next = || {
            let commits = &mut self.state().commits;
            if commits.asked <= commits.began {
                commits.is_running = false;
                return None;
            }
            commits.began += 1;
            let superblocks = std::mem::take(&mut commits.superblocks);
            Some(Batch { superblocks, pages: std::mem::take(&mut commits.pages) })
        };
        while let Some(batch) = next() {
            self.write_batch(batch).await;
            {
                let commits = &mut self.state().commits;
                commits.ended = commits.began;
            }
            self.signal.notify();
        }
    }

    async fn write_batch(&self, mut batch: Batch) {
        loop {
            let (writes, behind) = self.writes_of(&batch);
            // A leg that comes back says so before the others say no more that it has failed.
            let (behind, others) = writes.split_at(behind);
            let at_once = if self.metadata.may_tear() { 1 } else { self.legs.len() };
            let mut failed = Vec::new();
            for writes in behind.chunks(at_once).chain(others.chunks(at_once)) {
                let mut ends: FuturesUnordered<_> =
                    writes.iter().map(|(leg, stages)| self.write_metadata(*leg, stages)).collect();
                while let Some((leg, end)) = ends.next().await {
                    if end.is_err() {
                        failed.push(leg);
                    }
                }
            }
            let fewer = {
                let mut state = self.state();
                state.commits.is_lost = !failed.is_empty();
                failed.into_iter().filter(|leg| self.fail(&mut state, *leg)).count() > 0
            };
            if !fewer {
                return;
            }
            self.events.raise();
            batch.superblocks = true;
        }
    }

    /// Says what goes where: for each leg, what it is to have written. Those that are rebuilt come first;
    /// how many they are is returned, too.
    fn writes_of(&self, batch: &Batch) -> (Vec<(usize, Vec<Stage>)>, usize) {
        let mut state = self.state();
        // Where legs are lost that it needs, no superblock of md's says so.
        if self.is_read_only || state.is_broken() && self.metadata.is_cramped() {
            return Default::default();
        }
        if batch.superblocks {
            state.events.begin_commit();
            let events = state.events.now();
            // What a leg lacks that is not there when data moves, no bit says.
            let is_blind = state.moves.position.is_some() && state.is_degraded();
            if let Some(header) = state.intent.header_mut() {
                header.events = events;
                header.events_cleared =
                    if is_blind { events } else { header.events_cleared.min(events) };
            }
        }
        let mut pages = batch.pages.clone();
        if batch.superblocks && state.intent.header().is_some() {
            pages.insert(0);
        }
        let is_written =
            |leg: &usize| self.legs[*leg].meta.is_some() && state.legs[*leg].is_alive();
        let (behind, others): (Vec<usize>, Vec<usize>) =
            (0..self.legs.len()).filter(is_written).partition(|leg| !state.is_in_sync(*leg));
        let written = behind.iter().chain(&others).map(|leg| {
            let leg = *leg;
            let mut stages = vec![Stage::new()];
            let meta = self.legs[leg].meta.as_ref();
            let block = meta.map_or(512, |meta| meta.limits().logical_block_size as usize);
            if let Some(bitmap) = self.metadata.bitmap_at(leg) {
                let page = |page: &u64| {
                    let at = bitmap + Sectors::in_bytes(page * PAGE as u64);
                    (at, self.page(&state, *page, block))
                };
                stages[0].extend(pages.iter().map(page));
            }
            if batch.superblocks {
                let mut superblock = self.metadata.superblock(self, &state, leg, block).into_iter();
                // A bitmap that is older than its superblock says nothing to md.
                if !self.metadata.is_cramped() {
                    stages[0].extend(superblock.next().into_iter().flatten());
                }
                stages.extend(superblock);
            }
            (leg, stages)
        });
        (written.collect(), behind.len())
    }

    /// Gives out a page of the bitmap, no more than its own blocks: something else may follow.
    fn page(&self, state: &State, page: u64, block: usize) -> Vec<u8> {
        let mut bytes = state.intent.page(page);
        let all = state.intent.header().map_or(0, Header::bytes);
        let left = all.saturating_sub(page * PAGE as u64) as usize;
        bytes.truncate(left.next_multiple_of(block));
        bytes
    }

    async fn write_metadata(&self, leg: usize, stages: &[Stage]) -> (usize, BlkResult) {
        let meta = self.legs[leg].meta.as_ref().expect("a leg without is left out");
        let mut result = Ok(());
        for stage in stages {
            if result.is_ok() && !stage.is_empty() {
                result = write_all(meta, stage).await;
            }
        }
        (leg, result)
    }
}

/// Writes all parts at once, then makes them durable.
async fn write_all(meta: &Area, parts: &Stage) -> BlkResult {
    let writes = parts.iter().map(|(at, bytes)| meta.submit(*at, Bio::write(*at, bytes)));
    let mut writes: FuturesUnordered<_> = writes.collect();
    let mut result = Ok(());
    while let Some(end) = writes.next().await {
        result = result.and(end);
    }
    result?;
    meta.submit(Sector::ZERO, Bio::flush()).await
}
