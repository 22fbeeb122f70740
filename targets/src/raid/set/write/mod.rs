//! Writes and discards: to every leg that has a copy, and is alive.

mod ticket;

use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Bio, BlkError, BlkResult, Buffer, Mapped, Op, Outcome, Sector, Sectors};
use smallvec::SmallVec;

use super::RaidSet;
use crate::parts::background::EndOnDrop;
use crate::raid::layout::Layout;

pub(super) use ticket::{Progress, Ticket};

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
        let (behind, left) = match failed.is_empty() && bio.op() == Op::Write {
            true => self.choose_behind(left),
            false => (Vec::new(), left),
        };
        if !behind.is_empty() {
            return self.send_behind(ticket, bio, left, behind).await;
        }
        failed.extend(self.send_parts(left, &bio).await);
        if bio.op() != Op::Write {
            // No leg is worse for it.
            if failed.is_empty() {
                ticket.progress = Progress::Over;
            }
            return failed.first().map_or(Ok(()), |_| Err(BlkError::NotSupported));
        }
        ticket.ended(failed).await
    }

    /// Chooses the parts that a write need not wait for: those of legs that are read where no other can be,
    /// as long as another has the write by then, and not too many writes are behind.
    fn choose_behind(&self, left: Vec<Part>) -> (Vec<Part>, Vec<Part>) {
        let mut state = self.state();
        let most = state.intent.header().map_or(0, |header| header.write_behind);
        let is_behind = |part: &Part| self.legs[part.leg].write_mostly;
        let has_other =
            (0..self.legs.len()).any(|leg| !self.legs[leg].write_mostly && state.is_in_sync(leg));
        if state.behind >= most || !has_other || !left.iter().any(is_behind) {
            return (Vec::new(), left);
        }
        state.behind += 1;
        left.into_iter().partition(is_behind)
    }

    /// Writes legs, and those of `behind` in the background: the write ends well where all others took it.
    /// Until those have it, its place among others is taken, and its bits are set.
    async fn send_behind(
        self: &Arc<Self>,
        mut ticket: Ticket,
        bio: Bio<'_>,
        left: Vec<Part>,
        behind: Vec<Part>,
    ) -> BlkResult {
        let (data, start, flags) = (Buffer::copy_of(bio.data()), bio.sector, bio.flags);
        let (others, ended) = (Arc::new(Outcome::new()), Arc::new(Outcome::new()));
        let (set, sees) = (self.clone(), others.clone());
        let ends = EndOnDrop::new(ended.clone(), Err(BlkError::Io));
        self.background.begin().spawn(&*self.runtime, |_| async move {
            let bio = Bio::write(start, &data).with_flags(flags);
            let failed = set.send_parts(behind, &bio).await;
            let result = match sees.wait().await {
                true => ticket.ended(failed).await,
                // Nobody waited for them, or the write has failed.
                false => set.lost(failed).await,
            };
            set.state().behind -= 1;
            ends.with(result);
        });
        let tells = EndOnDrop::new(others, false);
        let failed = self.send_parts(left, &bio).await;
        let is_well = failed.is_empty();
        let result = self.lost(failed).await;
        tells.with(result.is_ok());
        match result {
            // One that has failed may have been the last besides those that are behind.
            Ok(()) if !is_well => ended.wait().await,
            result => result,
        }
    }

    /// Writes parts side by side, and returns the legs that failed.
    async fn send_parts(&self, parts: Vec<Part>, bio: &Bio<'_>) -> Vec<(usize, BlkError)> {
        let mut writes: FuturesUnordered<_> =
            parts.into_iter().map(|part| self.send_part(part, bio)).collect();
        let mut failed = Vec::new();
        while let Some((leg, result)) = writes.next().await {
            failed.extend(result.err().map(|error| (leg, error)));
        }
        failed
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
