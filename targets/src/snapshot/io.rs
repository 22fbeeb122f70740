//! The way of a bio through a snapshot, and the copies that it leads to.

use std::ops::Range;
use std::sync::{Arc, MutexGuard};

use sim_core::{Area, Bio, BlkError, BlkResult, Buffer, Outcome, Sector, Sectors};

use super::copy::{ChunkCopy, Overlay};
use super::role::Role;
use super::snap::{Health, Pending, Snap, State};
use super::store::Run;
use super::table::Lookup;
use super::tracked::Tracked;
use super::wait::Wait;
use crate::lines::snapshot::WhenFull;
use crate::parts::copying::PIECE;

/// Where the beginning of a bio goes.
pub(super) enum Place {
    /// To the store.
    Cow(Sector, Sectors),
    /// To the origin.
    Origin(Sectors),
}

/// What the beginning of a write needs.
enum Need {
    /// It goes to this sector of the store, for so long.
    Write(Sector, Sectors),
    /// Another copy, or a merge, has to end first; then it is to be looked at again.
    Wait(Wait),
    /// Its chunks were copied with its data in them, for so long.
    Copied(Arc<Outcome<BlkResult>>, Sectors),
}

impl Snap {
    /// Finds where the beginning of a read goes. A snapshot's read of the origin is tracked for
    /// as long as it is under way.
    fn place_read(
        &self,
        sector: Sector,
        len: Sectors,
    ) -> Result<(Place, Option<Tracked<'_>>), BlkError> {
        let mut state = self.state();
        let place = match (&state.health, self.role) {
            (Health::Invalid(_), Role::Snapshot) => return Err(BlkError::Io),
            // What was not merged is lost; the origin is there all the same.
            (Health::Invalid(_), Role::Merge) => Place::Origin(len),
            (Health::Good | Health::Overflowed, _) => self.place(&state, sector, len),
        };
        let tracked = match (&place, self.role) {
            (Place::Origin(len), Role::Snapshot) => Some(self.track(&mut state, sector, *len)),
            (Place::Origin(_), Role::Merge) | (Place::Cow(..), _) => None,
        };
        Ok((place, tracked))
    }

    pub(super) fn place(&self, state: &State, sector: Sector, len: Sectors) -> Place {
        let within = self.chunk.within(sector);
        let room = |chunks: u64| len.min(Sectors(chunks * self.chunk.sectors().0) - within);
        match state.exceptions.lookup(self.chunk.of(sector)) {
            Lookup::Exception { new, len } => Place::Cow(self.chunk.start(new) + within, room(len)),
            Lookup::Origin { len } => Place::Origin(room(len)),
        }
    }

    /// Returns the area, the sector and the length of a place.
    fn target(&self, place: &Place, sector: Sector) -> (&Area, Sector, Sectors) {
        match *place {
            Place::Cow(to, len) => (&self.cow, to, len),
            Place::Origin(len) => (&self.origin, sector, len),
        }
    }

    /// Carries out a read at once; nothing where a device below could wait.
    pub(super) fn read_now(&self, bio: &mut Bio<'_>) -> Option<BlkResult> {
        let mut done = Sectors::ZERO;
        while done < bio.len() {
            let (sector, left) = (bio.sector + done, bio.len() - done);
            let (place, _tracked) = match self.place_read(sector, left) {
                Ok(found) => found,
                Err(error) => return Some(Err(error)),
            };
            let (area, to, len) = self.target(&place, sector);
            let result = area.submit(to, bio.part(done, len)).now().ok()?;
            if result.is_err() {
                return Some(result);
            }
            done += len;
        }
        Some(Ok(()))
    }

    pub(super) async fn read(&self, mut bio: Bio<'_>) -> BlkResult {
        let mut done = Sectors::ZERO;
        while done < bio.len() {
            let (sector, left) = (bio.sector + done, bio.len() - done);
            let (place, _tracked) = self.place_read(sector, left)?;
            let (area, to, len) = self.target(&place, sector);
            area.submit(to, bio.part(done, len)).await?;
            done += len;
        }
        Ok(())
    }

    /// Carries out a write of chunks that all have exceptions at once; nothing where it needs
    /// more than that, or where the device below could wait.
    pub(super) fn write_now(&self, bio: &mut Bio<'_>) -> Option<BlkResult> {
        let mut done = Sectors::ZERO;
        while done < bio.len() {
            let (sector, left) = (bio.sector + done, bio.len() - done);
            let place = {
                let state = self.state();
                match state.health {
                    Health::Good => self.place(&state, sector, left),
                    Health::Overflowed | Health::Invalid(_) => return Some(Err(BlkError::Io)),
                }
            };
            let Place::Cow(to, len) = place else { return None };
            let result = self.cow.submit(to, bio.part(done, len)).now().ok()?;
            if result.is_err() {
                return Some(result);
            }
            done += len;
        }
        Some(Ok(()))
    }

    pub(super) async fn write(self: &Arc<Self>, mut bio: Bio<'_>) -> BlkResult {
        let mut done = Sectors::ZERO;
        while done < bio.len() {
            let mut rest = bio.part(done, bio.len() - done);
            match self.need(&mut rest)? {
                Need::Write(to, len) => {
                    self.cow.submit(to, rest.cut(Sectors::ZERO, len)).await?;
                    done += len;
                }
                Need::Wait(wait) => wait.end().await,
                Need::Copied(copied, len) => {
                    copied.wait().await?;
                    done += len;
                }
            }
        }
        Ok(())
    }

    /// Finds out what the beginning of a write needs, and starts the copy if that is one.
    fn need(self: &Arc<Self>, bio: &mut Bio<'_>) -> Result<Need, BlkError> {
        let (sector, left) = (bio.sector, bio.len());
        let state = self.state();
        match state.health {
            Health::Good => {}
            Health::Overflowed | Health::Invalid(_) => return Err(BlkError::Io),
        }
        let room = match self.place(&state, sector, left) {
            Place::Cow(to, len) => return Ok(Need::Write(to, len)),
            Place::Origin(room) => room,
        };
        let mut chunks = self.chunk.touched(sector, room);
        if let Some((first, pending)) = state.pending_in(&chunks) {
            if first <= chunks.start {
                return Ok(Need::Wait(Wait::Copy(pending.copied.clone())));
            }
            chunks.end = first;
        }
        let chunks = self.at_most_one_copy(chunks);
        let Some(run) = self.store.allocate(chunks.end - chunks.start) else {
            let refused = self.no_room(state, self.when_full);
            return refused.map_or(Err(BlkError::Io), |wait| Ok(Need::Wait(wait)));
        };
        let chunks = chunks.start..chunks.start + run.len;
        let len = room.min(self.chunk.start(chunks.end) - sector);
        let overlay = Overlay::of(sector, bio.part(Sectors::ZERO, len).data());
        let copied = self.copy(state, chunks, run, Some(overlay));
        Ok(Need::Copied(copied, len))
    }

    /// Finds out what a write of the origin to this range has to wait for in this snapshot, and
    /// starts the copies that it needs. Nothing when the origin may be written.
    pub(super) fn protect(self: &Arc<Self>, sector: Sector, len: Sectors) -> Vec<Wait> {
        let chunks = self.shown(sector, len);
        let mut waits = Vec::new();
        let mut at = chunks.start;
        while at < chunks.end {
            let state = self.state();
            if let Health::Invalid(done) = &state.health {
                let done = done.clone();
                drop(state);
                waits.extend((!done.has_ended()).then_some(Wait::Invalid(done)));
                break;
            }
            let mut missing = at..chunks.end;
            if let Some((first, pending)) = state.pending_in(&missing) {
                if first <= at {
                    at = pending.end;
                    waits.push(Wait::Copy(pending.copied.clone()));
                    continue;
                }
                missing.end = first;
            }
            match state.exceptions.lookup(at) {
                Lookup::Exception { len, .. } => at += len,
                Lookup::Origin { len } => {
                    missing.end = missing.end.min(at + len);
                    let missing = self.at_most_one_copy(missing);
                    let Some(run) = self.store.allocate(missing.end - missing.start) else {
                        waits.extend(self.no_room(state, WhenFull::Invalidate));
                        break;
                    };
                    let copied = self.copy(state, at..at + run.len, run, None);
                    waits.push(Wait::Copy(copied));
                    at += run.len;
                }
            }
        }
        waits
    }

    /// Tells whether a write of the origin to this range needs nothing of this snapshot.
    pub(super) fn is_protected(&self, sector: Sector, len: Sectors) -> bool {
        let chunks = self.shown(sector, len);
        let state = self.state();
        if let Health::Invalid(done) = &state.health {
            return done.has_ended();
        }
        if state.pending_in(&chunks).is_some() {
            return false;
        }
        let mut at = chunks.start;
        while at < chunks.end {
            match state.exceptions.lookup(at) {
                Lookup::Exception { len, .. } => at += len,
                Lookup::Origin { .. } => return false,
            }
        }
        true
    }

    /// Drops what a range has in the store; it reads as zeros there afterwards. A part of a chunk
    /// is discarded below, and reads as what the store's device makes of that.
    pub(super) async fn discard(&self, sector: Sector, len: Sectors) -> BlkResult {
        let (mut at, end) = (sector, sector + len);
        while at < end {
            let place = {
                let state = self.state();
                match state.health {
                    Health::Good => self.place(&state, at, end - at),
                    Health::Overflowed | Health::Invalid(_) => return Err(BlkError::Io),
                }
            };
            at += match place {
                Place::Origin(len) => len,
                Place::Cow(to, len) => {
                    let len = len.min(self.chunk.sectors() - self.chunk.within(at));
                    match len == self.chunk.sectors() {
                        true => self.zero(to, len).await?,
                        false => self.cow.submit(to, Bio::discard(to, len)).await?,
                    }
                    len
                }
            };
        }
        Ok(())
    }

    async fn zero(&self, to: Sector, len: Sectors) -> BlkResult {
        if self.cow.limits().max_write_zeroes_sectors > 0 {
            return self.cow.submit(to, Bio::write_zeroes(to, len)).await;
        }
        let mut done = Sectors::ZERO;
        while done < len {
            let mut zeros = Buffer::take(PIECE.min(len - done).bytes() as usize);
            zeros.fill(0);
            self.cow.submit(to + done, Bio::write(to + done, &zeros)).await?;
            done += PIECE.min(len - done);
        }
        Ok(())
    }

    /// Sends a discard on to the origin, and copies nothing for it.
    pub(super) async fn pass_discard_down(&self, bio: Bio<'_>) -> BlkResult {
        let sector = bio.sector;
        let _tracked = {
            let mut state = self.state();
            match state.health {
                Health::Good => self.track(&mut state, sector, bio.len()),
                Health::Overflowed | Health::Invalid(_) => return Err(BlkError::Io),
            }
        };
        self.origin.submit(sector, bio).await
    }

    /// Cuts chunks to what is copied as one: a piece, or a chunk where that is larger.
    fn at_most_one_copy(&self, chunks: Range<u64>) -> Range<u64> {
        let most = (PIECE.0 / self.chunk.sectors().0).max(1);
        chunks.start..chunks.end.min(chunks.start + most)
    }

    /// Starts to copy chunks.
    fn copy(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        chunks: Range<u64>,
        to: Run,
        overlay: Option<Overlay>,
    ) -> Arc<Outcome<BlkResult>> {
        let copied = Arc::new(Outcome::new());
        let (own, end) = (overlay.is_some(), chunks.end);
        state.pending.insert(chunks.start, Pending { end, own, copied: copied.clone() });
        drop(state);
        let copy = ChunkCopy { snap: self.clone(), chunks, to, overlay, copied: copied.clone() };
        self.runtime.spawn_here(Box::pin(copy.run()));
        copied
    }
}

impl State {
    /// Finds the first copy under way that overlaps these chunks.
    fn pending_in(&self, chunks: &Range<u64>) -> Option<(u64, &Pending)> {
        let before = self.pending.range(..=chunks.start).next_back();
        let before = before.filter(|(_, pending)| pending.end > chunks.start);
        let found = before.or_else(|| self.pending.range(chunks.clone()).next());
        found.map(|(first, pending)| (*first, pending))
    }
}
