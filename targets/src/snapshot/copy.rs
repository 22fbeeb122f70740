//! Copies chunks of the origin into the store, once, with what a write puts into them.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use sim_core::{Bio, BlkError, BlkResult, Buffer, Outcome, Sector, Sectors};

use super::snap::{Health, Snap};
use super::store::Run;
use super::store::format::Entry;
use crate::parts::background::EndOnDrop;
use crate::parts::copying::{self, Copied, PIECE, Spot};

/// Data that takes the place of the origin's.
pub(super) struct Overlay {
    sector: Sector,
    data: Buffer,
}

impl Overlay {
    /// Copies what a bio carries: the bio may be given up before the copy is done.
    pub(super) fn of(sector: Sector, data: &[u8]) -> Overlay {
        Overlay { sector, data: Buffer::copy_of(data) }
    }

    fn end(&self) -> Sector {
        self.sector + Sectors::in_bytes(self.data.len() as u64)
    }

    /// Returns the data of a range within.
    fn part(&self, range: &Range<Sector>) -> &[u8] {
        let at = |sector: Sector| (sector - self.sector).bytes() as usize;
        &self.data[at(range.start)..at(range.end)]
    }
}

/// The copy of a run of chunks to a run of the store.
pub(super) struct ChunkCopy {
    pub(super) snap: Arc<Snap>,
    pub(super) chunks: Range<u64>,
    pub(super) to: Run,
    pub(super) overlay: Option<Overlay>,
    /// Ends when the chunks have exceptions, and the origin may be written.
    pub(super) copied: Arc<Outcome<BlkResult>>,
}

impl ChunkCopy {
    pub(super) async fn run(self) {
        // Who waits for the copy hears of its end also where it panics.
        let ends = EndOnDrop::new(self.copied.clone(), Err(BlkError::Io));
        let carried_out = AssertUnwindSafe(self.carry_out()).catch_unwind().await;
        let result = carried_out.unwrap_or_else(|panic| {
            self.snap.runtime.caught("a copy of a snapshot", panic);
            Err(BlkError::Io)
        });
        let result = self.take_in(result).await;
        ends.with(result);
    }

    async fn carry_out(&self) -> BlkResult {
        if let Err(error) = self.copy_data().await {
            self.snap.store.abandon(self.to.len);
            return Err(error);
        }
        let entries = self.chunks.clone().zip(self.to.new..);
        self.snap.store.commit(entries.map(|(old, new)| Entry { old, new })).await
    }

    /// Takes in chunks whose content is in the store, durably, or could not be brought there; ends
    /// when the origin may be written.
    async fn take_in(&self, result: BlkResult) -> BlkResult {
        let ChunkCopy { snap, chunks, to, .. } = self;
        let result = match result {
            Ok(()) => {
                let mut state = snap.state();
                if matches!(state.health, Health::Invalid(_)) {
                    Err(BlkError::Io)
                } else {
                    for (old, new) in chunks.clone().zip(to.new..) {
                        let inserted = state.exceptions.insert(old, new);
                        assert!(inserted.is_ok(), "a chunk that has an exception is not copied");
                    }
                    Ok(())
                }
            }
            Err(_) => {
                snap.fail().await;
                Err(BlkError::Io)
            }
        };
        // Reads that went to the origin before the exceptions were there see it as it was; those
        // that come now go to the store.
        snap.untracked_in(std::slice::from_ref(chunks)).await;
        snap.state().pending.remove(&chunks.start);
        result
    }

    async fn copy_data(&self) -> BlkResult {
        let chunk = self.snap.chunk;
        let begin = chunk.start(self.chunks.start);
        // The last chunk of the origin may be a short one; where the snapshot is longer, as a table
        // may have it, what is written there has nothing below to be copied with.
        let written = self.overlay.as_ref().map_or(Sector::ZERO, Overlay::end);
        let known = self.snap.origin.size().to_sector().max(written);
        let end = chunk.start(self.chunks.end).min(known);
        let to = chunk.start(self.to.new);
        let Some(overlay) = &self.overlay else {
            let from = Spot { area: &self.snap.origin, sector: begin };
            let to = Spot { area: &self.snap.cow, sector: to };
            let copied = copying::copy(from, Sectors(end.0.saturating_sub(begin.0)), &[to]).await;
            return if copied == Copied::default() { Ok(()) } else { Err(BlkError::Io) };
        };
        let mut at = begin;
        while at < end {
            let piece = at..at + PIECE.min(end - at);
            self.copy_piece(piece.clone(), overlay, to + (at - begin)).await?;
            at = piece.end;
        }
        Ok(())
    }

    async fn copy_piece(&self, piece: Range<Sector>, overlay: &Overlay, to: Sector) -> BlkResult {
        let cow = &self.snap.cow;
        let covered = overlay.sector.clamp(piece.start, piece.end)
            ..overlay.end().clamp(piece.start, piece.end);
        if covered == piece {
            return cow.submit(to, Bio::write(to, overlay.part(&piece))).await;
        }
        let len = |range: &Range<Sector>| (range.end - range.start).bytes() as usize;
        let mut buffer = Buffer::take(len(&piece));
        let (head, rest) = buffer.split_at_mut((covered.start - piece.start).bytes() as usize);
        let (middle, tail) = rest.split_at_mut(len(&covered));
        for (sector, part) in [(piece.start, head), (covered.end, tail)] {
            if !part.is_empty() {
                self.snap.origin.submit(sector, Bio::read(sector, part)).await?;
            }
        }
        if !middle.is_empty() {
            middle.copy_from_slice(overlay.part(&covered));
        }
        cow.submit(to, Bio::write(to, &buffer)).await
    }
}
