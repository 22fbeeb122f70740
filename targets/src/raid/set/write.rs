//! Writes and discards: to every leg that has a copy, and is alive.

use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Bio, BlkError, BlkResult, Mapped, Op, Sector, Sectors};
use smallvec::SmallVec;

use super::RaidSet;
use super::ticket::{Progress, Ticket};
use crate::raid::layout::Layout;

/// A part of a bio that goes to one leg.
#[derive(Clone, Copy)]
struct Part {
    leg: usize,
    /// The sector of the leg.
    to: Sector,
    /// Where it begins in the bio.
    skip: Sectors,
    len: Sectors,
}

impl RaidSet {
    /// Carries out a write or a discard, on the spot where nothing waits.
    pub(super) fn write<'a>(self: &'a Arc<Self>, bio: Bio<'a>) -> Mapped<'a> {
        match self.admit(&range_of(&bio)) {
            Some((ticket, None)) => self.send(&self.layout, ticket, bio),
            admitted => Mapped::InFlight(Box::pin(self.write_later(&self.layout, admitted, bio))),
        }
    }

    /// Writes or discards what lies in a layout.
    pub(super) async fn write_runs(self: &Arc<Self>, layout: &Layout, bio: Bio<'_>) -> BlkResult {
        let admitted = self.admit(&range_of(&bio));
        self.write_later(layout, admitted, bio).await
    }

    async fn write_later<'a>(
        self: &'a Arc<Self>,
        layout: &Layout,
        admitted: Option<(Ticket, Option<u64>)>,
        bio: Bio<'a>,
    ) -> BlkResult {
        let (ticket, commit) = match admitted {
            Some(admitted) => admitted,
            None => {
                let range = range_of(&bio);
                self.signal.until(|| self.admit(&range)).await
            }
        };
        if let Some(commit) = commit {
            self.commit(commit).await;
        }
        match self.send(layout, ticket, bio) {
            Mapped::Completed(result) => result,
            Mapped::InFlight(end) => end.await,
            Mapped::Remapped(area, to, bio) => area.submit(to, bio).await,
        }
    }

    /// Writes the legs, those on the spot that do not wait.
    fn send<'a>(
        self: &'a Arc<Self>,
        layout: &Layout,
        mut ticket: Ticket,
        mut bio: Bio<'a>,
    ) -> Mapped<'a> {
        let parts = self.parts(layout, &range_of(&bio));
        if parts.is_empty() {
            return Mapped::Completed(Err(BlkError::Io));
        }
        ticket.progress = Progress::Torn;
        let (mut left, mut failed) = (Vec::new(), Vec::new());
        for part in parts {
            match self.data(part.leg).submit(part.to, part.of(&mut bio)).now().ok() {
                Some(Ok(())) => {}
                Some(Err(error)) => failed.push((part.leg, error)),
                None => left.push(part),
            }
        }
        if left.is_empty() && failed.is_empty() {
            ticket.progress = Progress::Over;
            return Mapped::Completed(Ok(()));
        }
        Mapped::InFlight(Box::pin(self.send_left(ticket, bio, left, failed)))
    }

    async fn send_left(
        self: &Arc<Self>,
        mut ticket: Ticket,
        bio: Bio<'_>,
        left: Vec<Part>,
        mut failed: Vec<(usize, BlkError)>,
    ) -> BlkResult {
        let mut writes: FuturesUnordered<_> =
            left.into_iter().map(|part| self.send_part(part, &bio)).collect();
        while let Some((leg, result)) = writes.next().await {
            failed.extend(result.err().map(|error| (leg, error)));
        }
        drop(writes);
        if bio.op() != Op::Write {
            // No leg is worse for it.
            if failed.is_empty() {
                ticket.progress = Progress::Over;
            }
            return failed.first().map_or(Ok(()), |_| Err(BlkError::NotSupported));
        }
        ticket.ended(failed).await
    }

    async fn send_part(&self, part: Part, bio: &Bio<'_>) -> (usize, BlkResult) {
        let bio = match bio.op() {
            Op::Write => {
                let from = part.skip.bytes() as usize;
                let data = &bio.data()[from..from + part.len.bytes() as usize];
                Bio::write(part.to, data).with_flags(bio.flags)
            }
            op => Bio::without_data(op, part.to, part.len).with_flags(bio.flags),
        };
        (part.leg, self.data(part.leg).submit(part.to, bio).await)
    }

    /// Says which parts of a range go to which legs that are alive. None where a sector of it would go
    /// nowhere.
    fn parts(&self, layout: &Layout, range: &Range<Sector>) -> SmallVec<[Part; 2]> {
        let state = self.state();
        let mut parts = SmallVec::new();
        for run in layout.runs(range.clone()) {
            let before = parts.len();
            for place in &run.copies {
                if state.legs[place.leg].is_alive() {
                    let (leg, to, skip) = (place.leg, place.sector, run.at - range.start);
                    parts.push(Part { leg, to, skip, len: run.len });
                }
            }
            if parts.len() == before {
                return SmallVec::new();
            }
        }
        parts
    }
}

impl Part {
    fn of<'b>(self, bio: &'b mut Bio<'_>) -> Bio<'b> {
        bio.part(self.skip, self.len).at(self.to)
    }
}

/// Returns the sectors of a bio.
pub(super) fn range_of(bio: &Bio<'_>) -> Range<Sector> {
    bio.sector..bio.sector + bio.len()
}
