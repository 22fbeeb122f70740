//! What moves between two layouts with parity: stripe by stripe of the new one.

use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Bio, BlkError, Buffer, Sector, Sectors};

use super::super::RaidSet;
use super::super::sync::Walk;
use super::AT_A_TIME;
use crate::raid::layout::{Layout, Parity};

/// The most rows of a leg that are in memory at a time.
const PIECE: u64 = 128;

impl RaidSet {
    /// Moves a window to another layout with parity.
    pub(super) async fn move_rows(
        self: &Arc<Self>,
        old: &Parity,
        new: &Parity,
        range: &Range<Sector>,
    ) -> Walk {
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
                moves.push(self.move_stripe(old, new, row, len));
            }
            match moves.next().await {
                Some(Walk::Over) => {}
                Some(broken) => walk = broken,
                None => return walk,
            }
        }
    }

    /// Fills rows of one stripe of the new layout.
    async fn move_stripe(
        self: &Arc<Self>,
        old: &Parity,
        new: &Parity,
        row: Sector,
        len: Sectors,
    ) -> Walk {
        let (stripe, chunk) = (new.stripe_at(row), new.chunk().0);
        let first = row.0 / chunk * new.stripe_len().0 + row.0 % chunk;
        let read = |(nr, leg): (u64, usize)| async move {
            let at = Sector(first + nr * chunk);
            (leg, self.read_old(old, at, len).await)
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
}
