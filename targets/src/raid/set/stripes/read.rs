//! Reads: from the leg that has the data, or computed from the others.

use std::ops::Range;
use std::sync::Arc;

use sim_core::{Bio, BlkError, BlkResult, Buffer, Mapped, Sector};

use super::super::RaidSet;
use super::super::state::State;
use super::super::write::range_of;
use super::blocks::Blocks;
use super::plan;
use crate::raid::layout::{Layout, Parity, Place};

impl RaidSet {
    /// Carries out a read of a set with parity, on the spot where nothing waits.
    pub(in super::super) fn read_data<'a>(
        self: &'a Arc<Self>,
        parity: &'a Parity,
        mut bio: Bio<'a>,
    ) -> Mapped<'a> {
        if let Some(cache) = self.cache.as_ref().filter(|cache| cache.has_some(&range_of(&bio))) {
            return Mapped::InFlight(Box::pin(self.read_cached(cache, bio)));
        }
        let place = parity.place(bio.sector);
        let in_chunk = bio.sector.0 % parity.chunk().0 + bio.len().0 <= parity.chunk().0;
        let at = place.sector + parity.offset();
        if in_chunk && self.state().is_in_sync(place.leg) {
            let read = self.data(place.leg).submit(at, bio.reborrow().at(at));
            if let Ok(Ok(())) = read.now() {
                return Mapped::Completed(Ok(()));
            }
        }
        Mapped::InFlight(Box::pin(self.read_chunks(parity, bio)))
    }

    pub(in super::super) async fn read_chunks(
        self: &Arc<Self>,
        parity: &Parity,
        mut bio: Bio<'_>,
    ) -> BlkResult {
        let range = range_of(&bio);
        for run in Layout::Parity(*parity).runs(range.clone()) {
            let part = bio.part(run.at - range.start, run.len);
            self.read_chunk(parity, run.copies[0], part).await?;
        }
        Ok(())
    }

    pub(in super::super) async fn read_chunk(
        self: &Arc<Self>,
        parity: &Parity,
        place: Place,
        mut bio: Bio<'_>,
    ) -> BlkResult {
        if let Some(ended) = self.read_leg(parity, place, &mut bio).await {
            return ended;
        }
        let rows = place.sector..place.sector + bio.len();
        let _held = self.hold_for_copy(&rows).await;
        let block = self.compute(parity, place.leg, &rows).await?;
        bio.buffer().copy_from_slice(&block);
        Ok(())
    }

    /// Reads from the leg that has the data; nothing where it is to be computed.
    async fn read_leg(
        &self,
        parity: &Parity,
        place: Place,
        bio: &mut Bio<'_>,
    ) -> Option<BlkResult> {
        if !self.state().is_in_sync(place.leg) {
            return None;
        }
        let at = place.sector + parity.offset();
        match self.data(place.leg).submit(at, bio.reborrow().at(at)).await {
            Err(error) if error != BlkError::NotSupported && !bio.flags.readahead => None,
            ended => Some(ended),
        }
    }

    /// Reads rows of a leg, which the caller holds, or computes them.
    pub(super) async fn read_rows(
        self: &Arc<Self>,
        parity: &Parity,
        leg: usize,
        rows: &Range<Sector>,
    ) -> Result<Buffer, BlkError> {
        let mut block = Buffer::take((rows.end - rows.start).bytes() as usize);
        let place = Place { leg, sector: rows.start };
        match self.read_leg(parity, place, &mut Bio::read(rows.start, &mut block)).await {
            Some(ended) => ended.map(|()| block),
            None => self.compute(parity, leg, rows).await,
        }
    }

    /// Computes rows of a leg, which the caller holds, from the others. Those that could not be read
    /// get what they lack, too; where they do not take it, they fail.
    async fn compute(
        self: &Arc<Self>,
        parity: &Parity,
        leg: usize,
        rows: &Range<Sector>,
    ) -> Result<Buffer, BlkError> {
        let stripe = parity.stripe_at(rows.start);
        let mut unread = vec![leg];
        let reads = |_: &State, is_readable: &dyn Fn(usize) -> bool| {
            plan::to_know(&stripe, |wanted| wanted == leg, is_readable).ok_or(BlkError::Io)
        };
        let mut blocks = self.gather(stripe, rows, &mut unread, reads).await?;
        blocks.solve();
        self.mend_unread(&mut blocks, rows, &unread).await;
        Ok(blocks.take(leg).expect("it was computed"))
    }

    /// Writes to legs that could not be read what was computed for them, and reads it again; those that
    /// do not take it fail.
    pub(super) async fn mend_unread(
        self: &Arc<Self>,
        blocks: &mut Blocks<'_>,
        rows: &Range<Sector>,
        unread: &[usize],
    ) {
        let at = rows.start + blocks.stripe().offset();
        let mut failed = Vec::new();
        for leg in unread {
            if !self.state().is_in_sync(*leg) {
                continue;
            }
            let Some(mut block) = blocks.take(*leg) else { continue };
            if let Err(error) = self.write_and_read(*leg, at, &mut block).await {
                failed.push((*leg, error));
            }
            blocks.put(*leg, block);
        }
        // Where one has to stay it does, and is as it was.
        let _ = self.lost(failed).await;
    }
}
