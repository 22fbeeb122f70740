//! A reshape: data moves from one layout to another while the set is used.
//!
//! A *window* moves at a time: nobody is in it meanwhile. Its data is read as in the old layout,
//! written with its parity as in the new one, and made durable; then all superblocks get the new
//! position; then it is free, and what was its place before may be written over. Reads and writes go
//! by the position. A leg that is not in sync when a window moves lacks all: the bits of the bitmap
//! say nothing of what has moved.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Bio, BlkError, BlkResult, Buffer, Op, Sector, Sectors};

use super::super::RaidSet;
use super::super::state::{Behind, Leg, State};
use super::super::sync::Walk;
use super::super::write::range_of;
use crate::parts::background::Round;
use crate::parts::held_ranges::HeldRanges;
use crate::raid::layout::{Layout, Moving, Parity};
use crate::raid::superblock::{DONE, Reshape, Superblock};

/// The most rows of a leg that are in memory at a time.
const PIECE: u64 = 128;

/// How many pieces of a window move at a time.
const AT_A_TIME: usize = 4;

/// What a set moves.
pub(in super::super) struct Reshaping {
    pub(in super::super) moving: Moving,
    /// It is only set up: the next table lets it run.
    pub(in super::super) waits: bool,
    /// How long the device is meanwhile, and then.
    pub(in super::super) before: Sectors,
    pub(in super::super) after: Sectors,
    /// How much of each leg is in use.
    pub(in super::super) device: Sectors,
}

/// What is known of a reshape while the set is in use.
#[derive(Default)]
pub(in super::super) struct Moves {
    /// How far it is, durably but for the moment of its writing; none when it is over.
    pub(in super::super) position: Option<Sector>,
    /// Sectors of the set that bios are in.
    bios: HeldRanges<Sector>,
    /// Sectors of the set that move.
    window: HeldRanges<Sector>,
}

impl Moves {
    pub(in super::super) fn at(position: Option<Sector>) -> Moves {
        Moves { position, ..Moves::default() }
    }
}

/// A bio, or a part of one, on its way to sectors that lie in one layout.
pub(in super::super) struct Passage {
    parity: Parity,
    held: Held,
}

/// Sectors that a bio is in, or that move; given back when dropped.
struct Held {
    set: Arc<RaidSet>,
    range: Range<Sector>,
    /// Which of the two.
    of: fn(&mut Moves) -> &mut HeldRanges<Sector>,
}

impl Reshaping {
    /// Returns how much of the set there is to be read and written.
    pub(in super::super) fn len(&self, state: &State) -> Sectors {
        let Moving { old, new, way } = &self.moving;
        match (state.moves.position, way) {
            (None, _) => new.len(),
            (Some(_), Reshape::Forwards) => old.len(),
            (Some(_), Reshape::Backwards) => new.len().min(old.len()),
        }
    }

    /// Changes what the superblock of a leg says as the reshape has got on.
    pub(in super::super) fn write(&self, superblock: &mut Superblock, state: &State) {
        let Some(extension) = &mut superblock.extension else { return };
        if let Some(position) = state.moves.position {
            extension.reshape_position = position.0;
            return;
        }
        superblock.geometry = extension.new_geometry;
        extension.reshape = None;
        extension.reshape_position = DONE;
        extension.delta_disks = 0;
        extension.data_offset = extension.new_data_offset;
        extension.array_sectors = self.moving.new.len().0;
        extension.device_sectors = self.device.0;
    }
}

impl RaidSet {
    /// Reads or writes what lies in two layouts.
    pub(in super::super) async fn carry_moving(
        self: &Arc<Self>,
        moving: &Moving,
        mut bio: Bio<'_>,
    ) -> BlkResult {
        let Range { start, end } = range_of(&bio);
        let mut at = start;
        while at < end {
            let passage = self.pass(moving, at..end).await;
            let to = passage.held.range.end;
            let part = bio.part(at - start, to - at);
            match part.op() {
                Op::Read => self.read_chunks(&passage.parity, part).await?,
                _ => self.write_stripes(passage.parity, part, Some(passage), None).await?,
            }
            at = to;
        }
        Ok(())
    }

    /// Waits until the first sectors of a range do not move, and says how they lie. They do not move
    /// before the passage is dropped.
    async fn pass(self: &Arc<Self>, moving: &Moving, range: Range<Sector>) -> Passage {
        let enter = || {
            let mut state = self.state();
            let (parity, end) = match state.moves.position {
                Some(position) => moving.side(position, range.start),
                None => (&moving.new, range.end),
            };
            let range = range.start..range.end.min(end);
            if !state.moves.window.leave_free(&range) {
                return None;
            }
            let parity = *parity;
            Some(Passage {
                parity,
                held: self.hold_moving(&mut state, range, |moves| &mut moves.bios),
            })
        };
        self.signal.until(enter).await
    }

    /// Moves all that has not moved.
    pub(in super::super) async fn move_all(
        self: &Arc<Self>,
        round: &Round,
        reshaping: &Reshaping,
    ) -> Walk {
        let moving = &reshaping.moving;
        let (mut used, mut took) = (self.pace.used(), Duration::ZERO);
        loop {
            let position = {
                let mut state = self.state();
                state.distrust_bits();
                state.moves.position
            };
            let Some(position) = position.filter(|position| *position != moving.end()) else {
                self.end_moving(reshaping).await;
                return Walk::Over;
            };
            let Some(range) = moving.next(position) else { return Walk::GaveUp };
            let len = Sectors((range.end - range.start).0 / moving.new.data_legs() as u64);
            if !self.keep_pace(round, len, &mut used, took).await {
                return Walk::BrokenOff;
            }
            let started = self.runtime.now();
            let window = self.hold_window(range.clone()).await;
            match self.move_window(moving, &range).await {
                Walk::Over => {}
                broken => return broken,
            }
            if self.flush_legs().await.is_err() {
                return Walk::GaveUp;
            }
            let commit = {
                let mut state = self.state();
                state.moves.position = Some(moving.after(&range));
                state.progress.done = moving.rows_done(moving.after(&range)).0;
                state.commits.superblocks()
            };
            self.commit(commit).await;
            drop(window);
            if self.state().commits.is_lost() {
                return Walk::GaveUp;
            }
            took = self.runtime.now().saturating_sub(started);
        }
    }

    /// Keeps bios out of a window, as soon as none is in it.
    async fn hold_window(self: &Arc<Self>, range: Range<Sector>) -> Held {
        let window = self.hold_moving(&mut self.state(), range.clone(), |moves| &mut moves.window);
        self.signal.until(|| self.state().moves.bios.leave_free(&range).then_some(())).await;
        window
    }

    fn hold_moving(
        self: &Arc<Self>,
        state: &mut State,
        range: Range<Sector>,
        of: fn(&mut Moves) -> &mut HeldRanges<Sector>,
    ) -> Held {
        of(&mut state.moves).add(range.clone());
        Held { set: self.clone(), range, of }
    }

    async fn move_window(self: &Arc<Self>, moving: &Moving, range: &Range<Sector>) -> Walk {
        let new = &moving.new;
        let (stripe, chunk) = (new.stripe_len().0, new.chunk().0);
        let rows = range.start.0 / stripe * chunk..range.end.0 / stripe * chunk;
        let mut starts = rows.step_by(chunk.min(PIECE) as usize).map(Sector).fuse();
        let len = Sectors(chunk.min(PIECE));
        let mut moves = FuturesUnordered::new();
        let mut walk = Walk::Over;
        loop {
            while moves.len() < AT_A_TIME
                && walk == Walk::Over
                && let Some(row) = starts.next()
            {
                moves.push(self.move_rows(moving, row, len));
            }
            match moves.next().await {
                Some(Walk::Over) => {}
                Some(broken) => walk = broken,
                None => return walk,
            }
        }
    }

    /// Fills rows of one stripe of the new layout.
    async fn move_rows(self: &Arc<Self>, moving: &Moving, row: Sector, len: Sectors) -> Walk {
        let new = &moving.new;
        let (stripe, chunk) = (new.stripe_at(row), new.chunk().0);
        let first = row.0 / chunk * new.stripe_len().0 + row.0 % chunk;
        let read = |(nr, leg): (u64, usize)| async move {
            let at = Sector(first + nr * chunk);
            (leg, self.read_old(&moving.old, at, len).await)
        };
        let mut reads: FuturesUnordered<_> = (0..).zip(stripe.data()).map(read).collect();
        let mut data = Vec::new();
        while let Some((leg, block)) = reads.next().await {
            let Ok(block) = block else { return Walk::GaveUp };
            data.push((leg, block));
        }
        drop(reads);
        self.write_stripe(stripe, row, len, data).await
    }

    /// Reads as in the old layout. What had no place there is zeros.
    async fn read_old(
        self: &Arc<Self>,
        old: &Parity,
        at: Sector,
        len: Sectors,
    ) -> Result<Buffer, BlkError> {
        let mut block = Buffer::take(len.bytes() as usize);
        block.fill(0);
        let end = (at + len).min(old.len().to_sector());
        let mut from = at;
        let mut rest = &mut block[..];
        while from < end {
            let len = (Layout::Parity(*old).run_end(from)).min(end) - from;
            let (part, others) = rest.split_at_mut(len.bytes() as usize);
            self.read_chunk(old, old.place(from), Bio::read(from, part)).await?;
            (rest, from) = (others, from + len);
        }
        Ok(block)
    }

    /// Ends the reshape: from here on the set is as it is to be.
    async fn end_moving(self: &Arc<Self>, reshaping: &Reshaping) {
        let commit = {
            let mut state = self.state();
            state.moves.position = None;
            let legs = reshaping.moving.new.legs();
            state.width = legs;
            state.legs[legs..].fill(Leg::Missing);
            state.commits.superblocks()
        };
        self.commit(commit).await;
        self.events.resize(reshaping.after);
        self.signal.notify();
    }
}

impl State {
    /// Takes the bits for nothing that says what legs lack: it has moved.
    pub(in super::super) fn distrust_bits(&mut self) {
        for leg in &mut self.legs {
            if let Leg::Behind(lacks) | Leg::Failed(lacks) = leg {
                *lacks = Behind::ALL;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(mut state) = self.set.state_if_whole() {
            (self.of)(&mut state.moves).remove(&self.range);
        }
        self.set.signal.notify();
    }
}
