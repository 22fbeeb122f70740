//! A reshape: data moves from one layout to another while the set is used.
//!
//! A *window* moves at a time: nobody is in it meanwhile. Its data is read as in the old layout,
//! written with its parity, or to all its copies, as in the new one, and made durable; then all
//! superblocks get the new position; then it is free, and what was its place before may be written
//! over. Reads and writes go by the position. A leg that is not in sync when a window moves lacks all:
//! the bits of the bitmap say nothing of what has moved.

mod copies;
mod rows;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sim_core::{Bio, BlkError, BlkResult, Op, Sector, Sectors};

use super::RaidSet;
use super::commit::Event;
use super::state::{Behind, Leg, State};
use super::sync::Walk;
use super::write::range_of;
use crate::parts::background::Round;
use crate::parts::held_ranges::HeldRanges;
use crate::raid::layout::{Layout, Moving};
use crate::raid::superblock::{DONE, Reshape, Superblock};

/// How many pieces of a window move at a time.
const AT_A_TIME: usize = 4;

/// What a set moves.
pub(super) struct Reshaping {
    pub(super) moving: Moving,
    /// It is only set up: the next table lets it run.
    pub(super) waits: bool,
    /// How long the device is meanwhile, and then.
    pub(super) before: Sectors,
    pub(super) after: Sectors,
    /// How much of each leg is in use.
    pub(super) device: Sectors,
}

/// What is known of a reshape while the set is in use.
#[derive(Default)]
pub(super) struct Moves {
    /// How far it is, durably but for the moment of its writing; none when it is over.
    pub(super) position: Option<Sector>,
    /// Sectors of the set that bios are in.
    bios: HeldRanges<Sector>,
    /// Sectors of the set that move.
    window: HeldRanges<Sector>,
}

impl Moves {
    pub(super) fn at(position: Option<Sector>) -> Moves {
        Moves { position, ..Moves::default() }
    }
}

/// A bio, or a part of one, on its way to sectors that lie in one layout.
pub(super) struct Passage {
    layout: Layout,
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
    pub(super) fn len(&self, state: &State) -> Sectors {
        let Moving { old, new, way } = &self.moving;
        match (state.moves.position, way) {
            (None, _) => new.len(),
            (Some(_), Reshape::Forwards) => old.len(),
            (Some(_), Reshape::Backwards) => new.len().min(old.len()),
        }
    }

    /// Changes what the superblock of a leg says as the reshape has got on.
    pub(super) fn write(&self, superblock: &mut Superblock, state: &State) {
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
    pub(super) async fn carry_moving(
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
            match (part.op(), passage.layout) {
                (Op::Read, Layout::Parity(parity)) => self.read_chunks(&parity, part).await?,
                (Op::Write, Layout::Parity(parity)) => {
                    self.write_stripes(parity, part, Some(passage), None).await?;
                }
                (_, Layout::Parity(_)) => return Err(BlkError::NotSupported),
                (Op::Read, layout) => self.read_runs(&layout, part).await?,
                (_, layout) => self.write_runs(&layout, part).await?,
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
            let (layout, end) = match state.moves.position {
                Some(position) => moving.side(position, range.start),
                None => (&moving.new, range.end),
            };
            let range = range.start..range.end.min(end);
            if !state.moves.window.leave_free(&range) {
                return None;
            }
            let layout = *layout;
            Some(Passage {
                layout,
                held: self.hold_moving(&mut state, range, |moves| &mut moves.bios),
            })
        };
        self.signal.until(enter).await
    }

    /// Moves all that has not moved.
    pub(super) async fn move_all(self: &Arc<Self>, round: &Round, reshaping: &Reshaping) -> Walk {
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
            if !self.keep_pace(round, moving.share(&range), &mut used, took).await {
                return Walk::BrokenOff;
            }
            let started = self.runtime.now();
            let window = self.hold_window(range.clone()).await;
            let moved = match (&moving.old, &moving.new) {
                (Layout::Parity(old), Layout::Parity(new)) => {
                    self.move_rows(old, new, &range).await
                }
                (old, new) => self.move_copies(old, new, &range).await,
            };
            match moved {
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
                state.commit(Event::Change, 1)
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

    /// Ends the reshape: from here on the set is as it is to be.
    async fn end_moving(self: &Arc<Self>, reshaping: &Reshaping) {
        let commit = {
            let mut state = self.state();
            state.moves.position = None;
            let legs = reshaping.moving.new.legs();
            state.width = legs;
            state.legs[legs..].fill(Leg::Missing);
            // What the set had not before has different copies.
            let (moved, all) = (reshaping.moving.len(), reshaping.moving.new.len());
            state.resync_from = (moved < all).then(|| moved.to_sector());
            state.commit(Event::Change, 1)
        };
        self.commit(commit).await;
        self.events.resize(reshaping.after);
        self.signal.notify();
    }
}

impl State {
    /// Takes the bits for nothing that says what legs lack: it has moved.
    pub(super) fn distrust_bits(&mut self) {
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
