//! What moves between two layouts of raid10: from a copy in the old one to all copies in the new one.

use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Bio, BlkError, Buffer, Sector, Sectors};

use super::super::RaidSet;
use super::super::sync::Walk;
use super::AT_A_TIME;
use crate::raid::layout::{Layout, Run};

/// The most sectors that are in memory at a time, of each piece.
const PIECE: Sectors = Sectors(256);

impl RaidSet {
    /// Moves a window to another layout with copies. Behind what the set had, there is nothing to move.
    pub(super) async fn move_copies(
        self: &Arc<Self>,
        old: &Layout,
        new: &Layout,
        range: &Range<Sector>,
    ) -> Walk {
        let end = range.end.min(old.len().to_sector()).min(new.len().to_sector());
        let mut at = range.start;
        let mut next = || {
            let to = old.run_end(at).min(new.run_end(at)).min(at + PIECE).min(end);
            let piece = at..to;
            at = to;
            (piece.start < piece.end).then_some(piece)
        };
        let mut moves = FuturesUnordered::new();
        let mut walk = Walk::Over;
        loop {
            while moves.len() < AT_A_TIME
                && walk == Walk::Over
                && let Some(piece) = next()
            {
                moves.push(self.move_piece(old, new, piece));
            }
            match moves.next().await {
                Some(Walk::Over) => {}
                Some(broken) => walk = broken,
                None => return walk,
            }
        }
    }

    /// Moves a piece that lies in one run of both layouts.
    async fn move_piece(
        self: &Arc<Self>,
        old: &Layout,
        new: &Layout,
        piece: Range<Sector>,
    ) -> Walk {
        let run = |layout: &Layout| Run {
            at: piece.start,
            len: piece.end - piece.start,
            copies: layout.places(piece.start),
        };
        match self.read_first(&run(old)).await {
            Some(data) => self.write_copies(&run(new), &data).await,
            None => Walk::GaveUp,
        }
    }

    /// Reads the first copy that can be read: where copies may differ, all reads have that one.
    async fn read_first(&self, run: &Run) -> Option<Buffer> {
        let mut data = Buffer::take(run.len.bytes() as usize);
        for place in &run.copies {
            if !self.state().is_in_sync(place.leg) {
                continue;
            }
            let read = Bio::read(place.sector, &mut data);
            if self.data(place.leg).submit(place.sector, read).await.is_ok() {
                return Some(data);
            }
        }
        None
    }

    /// Writes all copies that are on legs alive.
    async fn write_copies(self: &Arc<Self>, run: &Run, data: &[u8]) -> Walk {
        let alive = |leg: usize| self.state().legs[leg].is_alive();
        let write = |leg: usize, at: Sector| async move {
            (leg, self.data(leg).submit(at, Bio::write(at, data)).await)
        };
        let places = run.copies.iter().filter(|place| alive(place.leg));
        let mut writes: FuturesUnordered<_> =
            places.map(|place| write(place.leg, place.sector)).collect();
        let mut failed: Vec<(usize, BlkError)> = Vec::new();
        while let Some((leg, end)) = writes.next().await {
            failed.extend(end.err().map(|error| (leg, error)));
        }
        match failed.is_empty() {
            true => Walk::Over,
            // Where one has to stay, it lacks what is still where it was.
            false => match self.lost(failed).await {
                Ok(()) => Walk::BrokenOff,
                Err(_) => Walk::GaveUp,
            },
        }
    }
}
