//! Writes that wait for their rows: those of a stripe are carried out as one when they get them.
//!
//! A write that ends here and now, or whose rows are free, is never among them. Where one write of a
//! stripe waits, those that come after it do, too: whoever sees that all rows are free that they want
//! takes them for all. A write that is given up meanwhile waits no more, and is not carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use sim_core::{Bio, BlkError, BlkResult, Buffer, Flags, Locked, Outcome, Sector};

use super::super::RaidSet;
use super::super::write::range_of;
use super::super::write::{Progress, Ticket};
use super::bands::{Band, bands, rows_of};
use super::write::{Block, Change};
use crate::parts::background::EndOnDrop;
use crate::raid::layout::{Parity, Stripe};

/// Those that wait, in the order in which they came, by their stripe.
#[derive(Default)]
pub(in super::super) struct Turns {
    waiting: Locked<BTreeMap<u64, Vec<Arc<Waiting>>>>,
    count: AtomicUsize,
}

/// A write that waits.
struct Waiting {
    range: Range<Sector>,
    flags: Flags,
    data: Buffer,
    ended: Arc<Outcome<BlkResult>>,
}

/// Rows of a stripe, and the new data of some legs.
pub(super) struct Rows {
    pub(super) stripe: Stripe,
    pub(super) rows: Range<Sector>,
    pub(super) data: Vec<(usize, Buffer)>,
    /// The journal has the data.
    pub(super) is_logged: bool,
}

impl<'d> Change<'d> for &'d Rows {
    fn is_logged(&self) -> bool {
        self.is_logged
    }

    fn stripe(&self) -> &Stripe {
        &self.stripe
    }

    fn rows(&self) -> &Range<Sector> {
        &self.rows
    }

    fn touches(&self, leg: usize) -> bool {
        self.data.iter().any(|(touched, _)| *touched == leg)
    }

    fn data(&self) -> impl Iterator<Item = (usize, &'d [u8])> {
        self.data.iter().map(|(leg, block)| (*leg, &**block))
    }
}

impl Turns {
    /// Tells whether somebody waits for rows of the stripe that a write lies in.
    pub(super) fn has_some(&self, parity: &Parity, bio: &Bio<'_>) -> bool {
        let is_waited_for = || {
            let stripe = stripe_of(parity, &range_of(bio));
            stripe.is_some_and(|stripe| self.waiting.lock().contains_key(&stripe))
        };
        self.count.load(Relaxed) > 0 && is_waited_for()
    }
}

/// Has a write wait no more when it is dropped.
struct Waits<'a> {
    turns: &'a Turns,
    stripe: u64,
    write: Arc<Waiting>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let Some(mut waiting) = self.turns.waiting.lock_if_whole() else { return };
        let Some(writes) = waiting.get_mut(&self.stripe) else { return };
        let before = writes.len();
        writes.retain(|write| !Arc::ptr_eq(write, &self.write));
        self.turns.count.fetch_sub(before - writes.len(), Relaxed);
        if writes.is_empty() {
            waiting.remove(&self.stripe);
        }
    }
}

/// Returns the stripe that a range lies in; none where that is more than one.
pub(super) fn stripe_of(parity: &Parity, range: &Range<Sector>) -> Option<u64> {
    let stripe = parity.stripe_len().0;
    let nr = range.start.0 / stripe;
    (range.start < range.end && (range.end.0 - 1) / stripe == nr).then_some(nr)
}

impl RaidSet {
    /// Carries out a write of one stripe when its rows are free, with those that wait as it does.
    pub(super) async fn write_in_turn(
        self: &Arc<Self>,
        parity: Parity,
        stripe: u64,
        bio: Bio<'_>,
    ) -> BlkResult {
        let range = range_of(&bio);
        if !self.turns.has_some(&parity, &bio)
            && let Some(admitted) = self.admit(&rows_of(&parity, &range))
        {
            return self.write_stripes(parity, bio, None, Some(admitted)).await;
        }
        let (data, ended) = (Buffer::copy_of(bio.data()), Arc::new(Outcome::new()));
        let write = Arc::new(Waiting { range, flags: bio.flags, data, ended: ended.clone() });
        {
            let mut waiting = self.turns.waiting.lock();
            waiting.entry(stripe).or_default().push(write.clone());
            self.turns.count.fetch_add(1, Relaxed);
        }
        let waits = Waits { turns: &self.turns, stripe, write };
        let turn = || {
            let mut waiting = self.turns.waiting.lock();
            let writes = waiting
                .get(&stripe)
                .filter(|writes| writes.iter().any(|write| Arc::ptr_eq(write, &waits.write)));
            // Nothing where another one has taken this along.
            let Some(writes) = writes else { return Some(None) };
            let rows = writes.iter().map(|write| rows_of(&parity, &write.range));
            let rows = rows.reduce(|all, rows| all.start.min(rows.start)..all.end.max(rows.end))?;
            let admitted = self.admit(&rows)?;
            let writes = waiting.remove(&stripe)?;
            self.turns.count.fetch_sub(writes.len(), Relaxed);
            Some(Some((admitted, writes)))
        };
        if let Some(((ticket, commit), writes)) = self.signal.until(turn).await {
            let set = self.clone();
            self.runtime.spawn_here(Box::pin(async move {
                set.write_all(parity, ticket, commit, writes).await;
            }));
        }
        ended.wait().await
    }

    /// Carries out writes of a stripe, whose rows the caller has: as one, or where that fails one by
    /// one, so that each has its own end.
    async fn write_all(
        self: Arc<Self>,
        parity: Parity,
        mut ticket: Ticket,
        commit: Option<u64>,
        writes: Vec<Arc<Waiting>>,
    ) {
        let end = |write: &Arc<Waiting>| EndOnDrop::new(write.ended.clone(), Err(BlkError::Io));
        let ends: Vec<_> = writes.iter().map(end).collect();
        if let Some(commit) = commit {
            self.commit(commit).await;
        }
        let result = self.write_merged(&parity, &mut ticket, &writes).await;
        let mut results = vec![result; writes.len()];
        if result.is_err() && writes.len() > 1 {
            for (result, write) in results.iter_mut().zip(&writes) {
                let write = std::slice::from_ref(write);
                *result = self.write_merged(&parity, &mut ticket, write).await;
            }
        }
        drop(ticket);
        ends.into_iter().zip(results).for_each(|(end, result)| end.with(result));
    }

    async fn write_merged(
        self: &Arc<Self>,
        parity: &Parity,
        ticket: &mut Ticket,
        writes: &[Arc<Waiting>],
    ) -> BlkResult {
        let fua = writes.iter().any(|write| write.flags.fua);
        let flags = Flags { fua, ..writes[0].flags };
        for rows in merged(parity, writes) {
            let blocks = self.blocks_of(&&rows).await?;
            self.write_out_blocks(ticket, &rows, blocks, flags).await?;
        }
        Ok(())
    }

    /// Writes blocks of rows, which the caller has, to their legs.
    pub(super) async fn write_out_blocks(
        self: &Arc<Self>,
        ticket: &mut Ticket,
        rows: &Rows,
        blocks: Vec<Block<'_>>,
        flags: Flags,
    ) -> BlkResult {
        let blocks = blocks.into_iter().map(|block| (block.leg, block.into_buffer())).collect();
        let at = rows.rows.start + rows.stripe.offset();
        // What could not be written before stays torn.
        let before = std::mem::replace(&mut ticket.progress, Progress::Torn);
        let mut failed = Vec::new();
        self.write_blocks(at, blocks, flags, &mut failed).await;
        self.lost(failed).await?;
        ticket.progress = before;
        Ok(())
    }
}

/// Puts writes of a stripe together: those that came later lie over the others. Neighbours with data
/// of the same legs are one.
fn merged(parity: &Parity, writes: &[Arc<Waiting>]) -> Vec<Rows> {
    let bands: Vec<(Band, &[u8])> = writes
        .iter()
        .flat_map(|write| bands(*parity, write.range.clone()).map(move |band| (band, &*write.data)))
        .collect();
    let cuts: BTreeSet<Sector> =
        bands.iter().flat_map(|(band, _)| [band.rows.start, band.rows.end]).collect();
    let mut pieces: Vec<(Range<Sector>, BTreeSet<usize>)> = Vec::new();
    for (start, end) in cuts.iter().zip(cuts.iter().skip(1)) {
        let over =
            bands.iter().filter(|(band, _)| band.rows.start <= *start && *end <= band.rows.end);
        let legs: BTreeSet<usize> =
            over.flat_map(|(band, _)| band.touched().map(|(leg, _)| leg)).collect();
        match pieces.last_mut() {
            _ if legs.is_empty() => {}
            Some((rows, before)) if rows.end == *start && *before == legs => rows.end = *end,
            _ => pieces.push((*start..*end, legs)),
        }
    }
    let piece = |(rows, legs): (Range<Sector>, BTreeSet<usize>)| {
        let bytes = (rows.end - rows.start).bytes() as usize;
        let mut data: Vec<(usize, Buffer)> =
            legs.into_iter().map(|leg| (leg, Buffer::take(bytes))).collect();
        for (band, from) in &bands {
            let (start, end) = (band.rows.start.max(rows.start), band.rows.end.min(rows.end));
            if start >= end {
                continue;
            }
            let len = (end - start).bytes() as usize;
            for (leg, skip) in band.touched() {
                let from = &from[(skip + (start - band.rows.start)).bytes() as usize..][..len];
                let to = (start - rows.start).bytes() as usize;
                let own = data.iter_mut().filter(|(touched, _)| *touched == leg);
                own.for_each(|(_, block)| block[to..to + len].copy_from_slice(from));
            }
        }
        Rows { stripe: parity.stripe_at(rows.start), rows, data, is_logged: false }
    };
    pieces.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sim_core::Sectors;

    use super::*;

    fn waiting(start: u64, len: u64, byte: u8) -> Arc<Waiting> {
        let range = Sector(start)..Sector(start + len);
        let data = Buffer::copy_of(&vec![byte; Sectors(len).bytes() as usize]);
        let ended = Arc::new(Outcome::new());
        Arc::new(Waiting { range, flags: Flags::default(), data, ended })
    }

    proptest! {
        #[test]
        fn what_is_put_together_is_what_one_after_the_other_would_leave(
            legs in 3_usize..6,
            writes in proptest::collection::vec((0_u64..64, 1_u64..40), 1..6),
        ) {
            let parity = Parity::new(5, 2, legs, Sectors(16), Sectors(64)).expect("a layout");
            let stripe = parity.stripe_len().0;
            let writes: Vec<_> = (1_u8..).zip(writes).map(|(byte, (start, len))| {
                let start = start % stripe;
                waiting(stripe + start, len.min(stripe - start), byte)
            }).collect();
            let mut expected = vec![0_u8; stripe as usize];
            for write in &writes {
                let (start, end) = (write.range.start.0 - stripe, write.range.end.0 - stripe);
                expected[start as usize..end as usize].fill(write.data[0]);
            }
            let mut found = vec![0_u8; stripe as usize];
            for rows in merged(&parity, &writes) {
                for (leg, block) in &rows.data {
                    for (nr, sector) in (0..).zip(block.chunks_exact(512)) {
                        let sector_of_leg = rows.rows.start + Sectors(nr);
                        let place = crate::raid::layout::Place { leg: *leg, sector: sector_of_leg };
                        let at = parity.sector_at(place).expect("data").0 - stripe;
                        prop_assert!(sector.iter().all(|byte| *byte == sector[0]));
                        prop_assert_eq!(found[at as usize], 0, "twice");
                        found[at as usize] = sector[0];
                    }
                }
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn pages_of_a_whole_stripe_are_one() {
        let parity = Parity::new(5, 2, 5, Sectors(32), Sectors(64)).expect("a layout");
        let writes: Vec<_> = (0..16).map(|nr| waiting(nr * 8, 8, 1)).collect();
        let merged = merged(&parity, &writes);
        assert_eq!((merged.len(), merged[0].data.len()), (1, 4));
    }
}
