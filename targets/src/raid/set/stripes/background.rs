//! Rows that are made right in the background: what a leg lacks is computed, parity is compared with
//! the data, and mended.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use sim_core::{Bio, Buffer, Sector, Sectors};

use super::super::RaidSet;
use super::super::state::State;
use super::super::sync::{Walk, lacks};
use super::blocks::Blocks;
use super::plan;
use crate::lines::raid::Action;
use crate::raid::layout::{Parity, Place, Stripe};

/// What one step may take of memory, over all legs: 4 MiB.
const MEMORY: Sectors = Sectors(8192);

/// The most of a leg that one step reads: 128 KiB.
const PIECE: Sectors = Sectors(256);

/// What is counted where parity is wrong: a page of each leg, as md does.
const BLOCK: Sectors = Sectors(8);

impl RaidSet {
    /// Computes what legs lack in a window, which the caller holds.
    pub(in super::super) async fn recover_rows(
        self: &Arc<Self>,
        parity: &Parity,
        window: Range<Sector>,
    ) -> Walk {
        for rows in pieces(parity, window) {
            match self.recover_piece(parity, &rows).await {
                Walk::Over => {}
                broken => return broken,
            }
        }
        Walk::Over
    }

    async fn recover_piece(self: &Arc<Self>, parity: &Parity, rows: &Range<Sector>) -> Walk {
        let stripe = parity.stripe_at(rows.start);
        let is_parity = |leg: usize| stripe.parities().any(|parity| parity == leg);
        let (len, mut unread, mut targets) = (rows.end - rows.start, Vec::new(), Vec::new());
        let reads = |state: &State, is_readable: &dyn Fn(usize) -> bool| {
            let lacks = |leg: &usize| {
                lacks(state, Place { leg: *leg, sector: rows.start }, rows.start, len)
            };
            targets = (0..self.legs.len()).filter(lacks).collect();
            if targets.is_empty() {
                return Err(Walk::Over);
            }
            let all = targets.iter().any(|leg| is_parity(*leg));
            let is_wanted = |leg: usize| all || targets.contains(&leg);
            plan::to_know(&stripe, is_wanted, is_readable).ok_or(Walk::GaveUp)
        };
        let mut blocks = match self.gather(stripe, rows, &mut unread, reads).await {
            Ok(blocks) => blocks,
            Err(walk) => return walk,
        };
        blocks.solve();
        for (leg, block) in blocks.parity(|leg| targets.contains(&leg)) {
            blocks.put(leg, block);
        }
        self.mend_unread(&mut blocks, rows, &unread).await;
        self.write_rows(rows.start, targets, &mut blocks).await
    }

    /// Writes rows of a stripe whose data is given, and its parity, to all legs that are alive.
    pub(in super::super) async fn write_stripe(
        self: &Arc<Self>,
        stripe: Stripe,
        row: Sector,
        len: Sectors,
        data: Vec<(usize, Buffer)>,
    ) -> Walk {
        let mut blocks = Blocks::new(stripe, len.bytes() as usize);
        data.into_iter().for_each(|(leg, block)| blocks.put(leg, block));
        for (leg, block) in blocks.parity(|_| true) {
            blocks.put(leg, block);
        }
        let alive: Vec<usize> = {
            let state = self.state();
            (0..stripe.legs()).filter(|leg| state.legs[*leg].is_alive()).collect()
        };
        self.write_rows(row, alive, &mut blocks).await
    }

    /// Writes blocks to their legs.
    async fn write_rows(
        self: &Arc<Self>,
        row: Sector,
        legs: Vec<usize>,
        blocks: &mut Blocks<'_>,
    ) -> Walk {
        let mut failed = Vec::new();
        let at = row + blocks.stripe().offset();
        for leg in legs {
            let block: Buffer = blocks.take(leg).expect("it was computed");
            if let Err(error) = self.data(leg).submit(at, Bio::write(at, &block)).await {
                failed.push((leg, error));
            }
        }
        match failed.is_empty() {
            true => Walk::Over,
            false => {
                // Where one has to stay it does, and somebody looks anew.
                let _ = self.lost(failed).await;
                Walk::BrokenOff
            }
        }
    }

    /// Compares the parity of a window, which the caller holds, with the data: counts where it is
    /// wrong, and mends it unless that is only to be known.
    pub(in super::super) async fn compare_rows(
        self: &Arc<Self>,
        parity: &Parity,
        window: Range<Sector>,
        action: Action,
    ) -> Walk {
        for rows in pieces(parity, window) {
            // Where a resync comes, there is nothing to be counted.
            if action != Action::Resync && self.state().may_differ(&rows) {
                continue;
            }
            match self.compare_piece(parity, &rows, action != Action::Check).await {
                Walk::Over => {}
                broken => return broken,
            }
        }
        Walk::Over
    }

    async fn compare_piece(
        self: &Arc<Self>,
        parity: &Parity,
        rows: &Range<Sector>,
        mends: bool,
    ) -> Walk {
        let stripe = parity.stripe_at(rows.start);
        let bytes = (rows.end - rows.start).bytes() as usize;
        let (mut unread, mut is_first) = (Vec::new(), true);
        let reads = |_: &State, is_readable: &dyn Fn(usize) -> bool| {
            let is_all = std::mem::replace(&mut is_first, false);
            let is_readable = |leg: &usize| is_readable(*leg);
            let lost = stripe.data().filter(|leg| !is_readable(leg)).count();
            let parities = stripe.parities().filter(is_readable).count();
            match parities.cmp(&lost) {
                Ordering::Less => Err(Walk::GaveUp),
                // None is left over.
                Ordering::Equal if is_all => Err(Walk::Over),
                _ => Ok((0..stripe.legs()).filter(is_readable).collect()),
            }
        };
        let mut blocks = match self.gather(stripe, rows, &mut unread, reads).await {
            Ok(blocks) => blocks,
            Err(walk) => return walk,
        };
        blocks.solve();
        let mut wrong = Vec::new();
        let page = BLOCK.bytes() as usize;
        let mut pages = vec![false; bytes.div_ceil(page)];
        for (leg, right) in blocks.parity(|_| true) {
            // What could not be read is mended where that is why.
            if let Some(found) = blocks.get(leg).filter(|found| **found != *right) {
                for (nr, (one, other)) in found.chunks(page).zip(right.chunks(page)).enumerate() {
                    pages[nr] |= one != other;
                }
                wrong.push(leg);
            }
            blocks.put(leg, right);
        }
        let count = pages.into_iter().filter(|wrong| *wrong).count() as u64;
        self.state().mismatches += count * BLOCK.0;
        self.mend_unread(&mut blocks, rows, &unread).await;
        match mends {
            true => self.write_rows(rows.start, wrong, &mut blocks).await,
            false => Walk::Over,
        }
    }
}

/// Cuts rows into pieces of one stripe each, so short that all legs' fit in memory.
fn pieces(parity: &Parity, rows: Range<Sector>) -> impl Iterator<Item = Range<Sector>> {
    let chunk = parity.chunk().0;
    let share = MEMORY.0 / parity.legs() as u64 / BLOCK.0 * BLOCK.0;
    let most = share.clamp(BLOCK.0, PIECE.0);
    let mut at = rows.start;
    std::iter::from_fn(move || {
        let end = Sector((at.0 / chunk + 1) * chunk).min(at + Sectors(most)).min(rows.end);
        let piece = at..end;
        at = end;
        (piece.start < piece.end).then_some(piece)
    })
}
