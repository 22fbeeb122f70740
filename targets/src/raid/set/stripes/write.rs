//! Writes: data and parity, to every leg that is alive.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Bio, BlkError, BlkResult, Buffer, Flags, Mapped, Outcome, Sector, Sectors};

use super::super::RaidSet;
use super::super::log::Entry;
use super::super::reshape::Passage;
use super::super::state::State;
use super::super::write::range_of;
use super::super::write::{Progress, Ticket};
use super::bands::{Band, bands, rows_of};
use super::blocks::Blocks;
use super::cache::Cache;
use super::plan::{self, Plan};
use super::turns::stripe_of;
use crate::parts::background::EndOnDrop;
use crate::raid::journal::PAGE;
use crate::raid::layout::{Parity, Stripe};

/// A write that has its rows.
struct Job<B> {
    set: Arc<RaidSet>,
    ticket: Ticket,
    bands: B,
    flags: Flags,
    /// Keeps the layout as it is, where data moves.
    _passage: Option<Passage>,
    /// The sector of the set that the data begins with.
    at: Sector,
}

/// A block that goes to a leg.
pub(super) struct Block<'d> {
    pub(super) leg: usize,
    bytes: Bytes<'d>,
}

enum Bytes<'d> {
    New(&'d [u8]),
    Made(Buffer),
}

/// What a band's legs have not been told of, and those that have failed.
struct Unsent {
    at: Sector,
    /// What the journal is to have first.
    entry: Option<Entry>,
    blocks: Vec<(usize, Buffer)>,
    failed: Vec<(usize, BlkError)>,
}

impl RaidSet {
    /// Carries out a write of a set with parity, on the spot where nothing waits.
    pub(in super::super) fn write_data<'a>(
        self: &'a Arc<Self>,
        parity: Parity,
        bio: Bio<'a>,
    ) -> Mapped<'a> {
        let tries = self.journal.is_none()
            && !self.legs_wait.load(Relaxed)
            && !self.turns.has_some(&parity, &bio);
        let mut admitted = tries.then(|| self.admit(&rows_of(&parity, &range_of(&bio)))).flatten();
        if let Some((ticket, _)) = admitted.take_if(|(_, commit)| commit.is_none())
            && let Some(mapped) = self.write_now(parity, ticket, &bio)
        {
            return mapped;
        }
        let waits = self.journal.is_none() && admitted.is_none();
        match waits.then(|| stripe_of(&parity, &range_of(&bio))).flatten() {
            Some(stripe) => Mapped::InFlight(Box::pin(self.write_in_turn(parity, stripe, bio))),
            None => Mapped::InFlight(Box::pin(self.write_stripes(parity, bio, None, admitted))),
        }
    }

    /// Carries out a write of rows that the caller has. None where a leg makes it wait: nobody
    /// needs to know of what was written by then.
    fn write_now<'a>(
        self: &'a Arc<Self>,
        parity: Parity,
        ticket: Ticket,
        bio: &Bio<'_>,
    ) -> Option<Mapped<'a>> {
        let range = range_of(bio);
        let (set, flags, at) = (self.clone(), bio.flags, range.start);
        let bands = bands(parity, range);
        let mut job = Job { set, ticket, bands, flags, _passage: None, at };
        while let Some(band) = job.bands.next() {
            let blocks = match self.blocks_now(&(&band, bio.data()))? {
                Ok(blocks) => blocks,
                Err(error) => return Some(Mapped::Completed(Err(error))),
            };
            if let Some(unsent) = job.send(&band, bio.data(), blocks) {
                self.legs_wait.fetch_or(!unsent.blocks.is_empty(), Relaxed);
                let data = Buffer::copy_of(bio.data());
                return Some(Mapped::InFlight(Box::pin(job.end_by_itself(unsent, data))));
            }
        }
        Some(Mapped::Completed(Ok(())))
    }

    /// Carries out a write, whose rows the caller may have.
    pub(in super::super) async fn write_stripes(
        self: &Arc<Self>,
        parity: Parity,
        bio: Bio<'_>,
        passage: Option<Passage>,
        admitted: Option<(Ticket, Option<u64>)>,
    ) -> BlkResult {
        let range = match &self.journal {
            // It has whole pages.
            Some(_) => whole_pages(&range_of(&bio)),
            None => range_of(&bio),
        };
        let rows = rows_of(&parity, &range);
        let (ticket, commit) = match admitted {
            Some(admitted) => admitted,
            None => self.signal.until(|| self.admit(&rows)).await,
        };
        if let Some(commit) = commit {
            self.commit(commit).await;
        }
        let data = match range == range_of(&bio) {
            true => Cow::Borrowed(bio.data()),
            false => Cow::Owned(self.filled_up(&parity, &range, &bio, None).await?),
        };
        let most =
            self.journal.as_ref().and_then(|_| Entry::most_pages(parity.legs(), parity.parities()));
        let bands = bands(parity, range.clone()).flat_map(move |band| band.cut(most));
        let (set, flags, at) = (self.clone(), bio.flags, range.start);
        let mut job = Job { set, ticket, bands, flags, _passage: passage, at };
        while let Some(band) = job.bands.next() {
            if let Some(unsent) = job.begin(&band, &data).await? {
                // From here on whether or not anybody waits.
                return job.end_by_itself(unsent, Buffer::copy_of(&data)).await;
            }
        }
        Ok(())
    }

    /// Reads what pages have around a write of a part of them: from a cache and the legs, or the legs
    /// alone, whose rows the caller has then.
    pub(super) async fn filled_up(
        self: &Arc<Self>,
        parity: &Parity,
        range: &Range<Sector>,
        bio: &Bio<'_>,
        cache: Option<&Cache>,
    ) -> Result<Vec<u8>, BlkError> {
        let own = range_of(bio);
        let mut data = vec![0; Sectors(range.end.0 - range.start.0).bytes() as usize];
        for part in [range.start..own.start, own.end..range.end] {
            if part.is_empty() {
                continue;
            }
            let (len, from) = (part.end - part.start, (part.start - range.start).bytes() as usize);
            let to = &mut data[from..from + len.bytes() as usize];
            match cache {
                Some(cache) => self.read_cached(cache, Bio::read(part.start, to)).await?,
                None => {
                    let place = parity.place(part.start);
                    let rows = place.sector..place.sector + len;
                    to.copy_from_slice(&self.read_rows(parity, place.leg, &rows).await?);
                }
            }
        }
        let from = (own.start - range.start).bytes() as usize;
        data[from..from + bio.data().len()].copy_from_slice(bio.data());
        Ok(data)
    }

    /// Finds out what is to be written for a band: the new data, its parity, and what legs that could
    /// not be read are to have.
    pub(super) async fn blocks_of<'d>(
        &self,
        change: &impl Change<'d>,
    ) -> Result<Vec<Block<'d>>, BlkError> {
        let mut unread = Vec::new();
        let mut modifies = false;
        let reads = |state: &State, is_readable: &dyn Fn(usize) -> bool| {
            let plan = self.plan(state, change, is_readable).ok_or(BlkError::Io)?;
            modifies = matches!(plan, Plan::Modify(_));
            Ok(plan.into_reads())
        };
        let blocks = self.gather(*change.stripe(), change.rows(), &mut unread, reads).await?;
        Ok(self.made(change, blocks, modifies, &unread))
    }

    /// Does the same where all that is to be read is there at once; none where it is not.
    fn blocks_now<'d>(&self, change: &impl Change<'d>) -> Option<Result<Vec<Block<'d>>, BlkError>> {
        let plan = {
            let state = self.state();
            self.plan(&state, change, &|leg| state.is_in_sync(leg))
        };
        let Some(plan) = plan else { return Some(Err(BlkError::Io)) };
        let modifies = matches!(plan, Plan::Modify(_));
        let mut blocks = Blocks::new(*change.stripe(), change.bytes());
        let fetched = self.fetch_now(change.rows(), &plan.into_reads(), &mut blocks);
        self.legs_wait.fetch_or(!fetched.waiting.is_empty(), Relaxed);
        let all = fetched.unread.is_empty() && fetched.waiting.is_empty();
        all.then(|| Ok(self.made(change, blocks, modifies, &[])))
    }

    /// Makes what is to be written of what was read.
    fn made<'d>(
        &self,
        change: &impl Change<'d>,
        mut blocks: Blocks<'d>,
        modifies: bool,
        unread: &[usize],
    ) -> Vec<Block<'d>> {
        let stripe = change.stripe();
        if modifies {
            change.data().for_each(|(leg, new)| blocks.modify(leg, new));
        } else {
            // Parity is read for what is lost alone.
            if stripe.parities().any(|leg| blocks.get(leg).is_some()) {
                blocks.solve();
            }
            change.data().for_each(|(leg, new)| blocks.give(leg, new));
            for (leg, block) in blocks.parity(|leg| self.has_parity_made(&self.state(), leg)) {
                blocks.put(leg, block);
            }
        }
        let new = change.data().map(|(leg, new)| Block { leg, bytes: Bytes::New(new) });
        let mut blocks_of_all: Vec<Block<'d>> = new.collect();
        // Taken once, whatever the reason.
        let unread = unread.iter().copied().filter(|leg| !change.touches(*leg));
        for leg in stripe.parities().chain(unread) {
            if let Some(block) = blocks.take(leg) {
                blocks_of_all.push(Block { leg, bytes: Bytes::Made(block) });
            }
        }
        blocks_of_all
    }

    /// Tells whether parity of a leg is made: the journal has all, that of a leg that is lost too.
    fn has_parity_made(&self, state: &State, leg: usize) -> bool {
        self.journal.is_some() || state.legs[leg].is_alive()
    }

    fn plan<'d>(
        &self,
        state: &State,
        change: &impl Change<'d>,
        is_readable: &dyn Fn(usize) -> bool,
    ) -> Option<Plan> {
        let stripe = change.stripe();
        let is_alive = |leg: usize| state.legs[leg].is_alive();
        if (0..stripe.legs()).filter(|leg| !is_alive(*leg)).count() > stripe.parities().count() {
            return None;
        }
        // What is replayed was cut off, perhaps, before.
        let is_replayed = match &self.journal {
            Some(log) if log.has_failed() && !change.is_logged() => return None,
            Some(log) => log.has_started(),
            None => true,
        };
        let is_right = is_replayed && !state.may_differ(change.rows());
        let is_wanted = |leg: usize| self.has_parity_made(state, leg);
        plan::write(stripe, |leg| change.touches(leg), is_readable, is_wanted, is_right)
    }

    /// Writes blocks to their legs, those that are alive, and adds those that fail.
    pub(super) async fn write_blocks(
        &self,
        at: Sector,
        blocks: Vec<(usize, Buffer)>,
        flags: Flags,
        failed: &mut Vec<(usize, BlkError)>,
    ) {
        let is_alive = |leg: usize| self.state().legs[leg].is_alive();
        let blocks: Vec<_> = blocks.into_iter().filter(|(leg, _)| is_alive(*leg)).collect();
        let write = |(leg, block): (usize, Buffer)| async move {
            let write = Bio::write(at, &block).with_flags(flags);
            (leg, self.data(leg).submit(at, write).await)
        };
        let mut writes: FuturesUnordered<_> = blocks.into_iter().map(write).collect();
        while let Some((leg, end)) = writes.next().await {
            failed.extend(end.err().map(|error| (leg, error)));
        }
    }
}

/// What is changed in rows of a stripe.
pub(super) trait Change<'d> {
    /// Tells whether the new data is in the journal.
    fn is_logged(&self) -> bool;

    fn stripe(&self) -> &Stripe;

    /// The sectors of the legs.
    fn rows(&self) -> &Range<Sector>;

    /// Tells whether a leg's data is changed.
    fn touches(&self, leg: usize) -> bool;

    /// Returns the legs whose data is changed, with the new.
    fn data(&self) -> impl Iterator<Item = (usize, &'d [u8])>;

    fn bytes(&self) -> usize {
        (self.rows().end - self.rows().start).bytes() as usize
    }
}

/// A band of a write, and the data of that.
impl<'d> Change<'d> for (&Band, &'d [u8]) {
    fn is_logged(&self) -> bool {
        false
    }

    fn stripe(&self) -> &Stripe {
        &self.0.stripe
    }

    fn rows(&self) -> &Range<Sector> {
        &self.0.rows
    }

    fn touches(&self, leg: usize) -> bool {
        self.0.touches(leg)
    }

    fn data(&self) -> impl Iterator<Item = (usize, &'d [u8])> {
        let (band, data, bytes) = (self.0, self.1, self.bytes());
        band.touched().map(move |(leg, skip)| {
            let from = skip.bytes() as usize;
            (leg, &data[from..from + bytes])
        })
    }
}

impl<B: Iterator<Item = Band> + Send + 'static> Job<B> {
    /// Reads what a band needs, and writes it as far as that goes on the spot.
    async fn begin(&mut self, band: &Band, data: &[u8]) -> Result<Option<Unsent>, BlkError> {
        let blocks = self.set.blocks_of(&(band, data)).await?;
        Ok(self.send(band, data, blocks))
    }

    /// Writes a band as far as that goes on the spot.
    fn send(&mut self, band: &Band, data: &[u8], blocks: Vec<Block<'_>>) -> Option<Unsent> {
        let at = band.rows.start + band.stripe.offset();
        let mut unsent = Unsent { at, entry: None, blocks: Vec::new(), failed: Vec::new() };
        if self.set.journal.as_ref().is_some_and(|log| log.has_started()) {
            unsent.entry = Some(self.entry(band, data, &blocks));
            unsent.blocks =
                blocks.into_iter().map(|block| (block.leg, block.into_buffer())).collect();
            return Some(unsent);
        }
        self.ticket.progress = Progress::Torn;
        for block in blocks {
            let leg = block.leg;
            if !self.set.state().legs[leg].is_alive() {
                continue;
            }
            let write = Bio::write(at, block.as_bytes()).with_flags(self.flags);
            match self.set.data(leg).submit(at, write).now().ok() {
                Some(Ok(())) => {}
                Some(Err(error)) => unsent.failed.push((leg, error)),
                None => unsent.blocks.push((leg, block.into_buffer())),
            }
        }
        if unsent.blocks.is_empty() && unsent.failed.is_empty() {
            self.ticket.progress = Progress::Untouched;
            return None;
        }
        Some(unsent)
    }

    /// Makes what the journal is to have of a band: all data, also of legs that are lost.
    fn entry(&self, band: &Band, data: &[u8], blocks: &[Block<'_>]) -> Entry {
        let bytes = band.len().bytes() as usize;
        let new = band.touched().map(|(_, skip)| {
            let from = skip.bytes() as usize;
            (self.at + skip, &data[from..from + bytes])
        });
        Entry::new(&band.rows, new, &parity_of(&band.stripe, blocks))
    }

    /// Writes what was left of a band.
    async fn end(&mut self, unsent: Unsent) -> BlkResult {
        let Unsent { at, entry, blocks, mut failed } = unsent;
        let (set, flags) = (&self.set, self.flags);
        let _logged = match (entry, &set.journal) {
            (Some(entry), Some(log)) => Some(set.log(log, entry).await?),
            _ => None,
        };
        self.ticket.progress = Progress::Torn;
        set.write_blocks(at, blocks, flags, &mut failed).await;
        self.set.lost(failed).await?;
        self.ticket.progress = Progress::Untouched;
        Ok(())
    }

    /// Writes what was left of a band, and the bands after it, in a task of its own, which has begun
    /// when this returns.
    fn end_by_itself(
        mut self,
        unsent: Unsent,
        data: Buffer,
    ) -> impl Future<Output = BlkResult> + Send + use<B> {
        let ended = Arc::new(Outcome::new());
        let ends = EndOnDrop::new(ended.clone(), Err(BlkError::Io));
        let runtime = self.set.runtime.clone();
        runtime.spawn_here(Box::pin(async move {
            let result = self.end_all(unsent, &data).await;
            drop(self);
            ends.with(result);
        }));
        async move { ended.wait().await }
    }

    async fn end_all(&mut self, unsent: Unsent, data: &[u8]) -> BlkResult {
        self.end(unsent).await?;
        while let Some(band) = self.bands.next() {
            if let Some(unsent) = self.begin(&band, data).await? {
                self.end(unsent).await?;
            }
        }
        Ok(())
    }
}

/// Returns the parity among blocks, as the journal has it.
pub(super) fn parity_of<'b>(stripe: &Stripe, blocks: &'b [Block<'_>]) -> Vec<&'b [u8]> {
    let of = |leg: usize| blocks.iter().find(|block| block.leg == leg).map(Block::as_bytes);
    stripe.parities().filter_map(of).collect()
}

/// Rounds a range out to whole pages of the journal.
pub(super) fn whole_pages(range: &Range<Sector>) -> Range<Sector> {
    let page = PAGE.0;
    Sector(range.start.0 / page * page)..Sector(range.end.0.next_multiple_of(page))
}

impl Block<'_> {
    fn as_bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::New(bytes) => bytes,
            Bytes::Made(buffer) => buffer,
        }
    }

    pub(super) fn into_buffer(self) -> Buffer {
        match self.bytes {
            Bytes::New(bytes) => Buffer::copy_of(bytes),
            Bytes::Made(buffer) => buffer,
        }
    }
}
