//! Writes on the spot: a large one is taken to pieces, which two processors write.

use std::ops::Range;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

use sim_core::{Bio, Sectors};

use super::mirror_set::MirrorSet;
use super::state::Legs;

/// Writes of so many sectors, 512 KiB, are worth another processor, in pieces of 128 KiB.
const LARGE: Sectors = Sectors(1024);
const PIECE: Sectors = Sectors(256);

impl MirrorSet {
    /// Writes the legs that do not wait, and returns those that do, and those that failed. A large
    /// write is shared with another processor, unless others are being written.
    pub(super) fn write_now(&self, bio: &Bio<'_>) -> (Legs, Legs) {
        // With FUA, legs wait for their flushes in any case.
        if bio.len() < LARGE || bio.flags.fua {
            let pieces = Pieces::new(bio, bio.len(), self.legs.len());
            self.write_pieces(bio, &pieces);
            return pieces.ended();
        }
        let pieces = Pieces::new(bio, PIECE, self.legs.len());
        // Where each processor has a write of its own, sharing would cost and win nothing.
        match self.large_writes.fetch_add(1, Relaxed) {
            0 => {
                let one = &mut || self.write_pieces(bio, &pieces);
                self.runtime.join(one, &mut || self.write_pieces(bio, &pieces));
            }
            _ => self.write_pieces(bio, &pieces),
        }
        self.large_writes.fetch_sub(1, Relaxed);
        pieces.ended()
    }

    /// Writes pieces as long as there are any that nobody else has taken.
    fn write_pieces(&self, bio: &Bio<'_>, pieces: &Pieces) {
        while let Some((leg, range)) = pieces.take() {
            let sector = bio.sector + range.start;
            let data = &bio.data()[range.start.bytes() as usize..range.end.bytes() as usize];
            let bio = Bio::write(sector, data).with_flags(bio.flags);
            match self.legs[leg].submit(sector, bio).now().ok() {
                Some(Ok(())) => {}
                Some(Err(_)) => drop(pieces.failed.fetch_or(1 << leg, Relaxed)),
                None => drop(pieces.left.fetch_or(1 << leg, Relaxed)),
            }
        }
    }
}

/// A write in pieces: the first of each leg, then the second, so that two who take them are
/// seldom at one leg, and find the data in a cache.
struct Pieces {
    len: Sectors,
    piece: Sectors,
    legs: u64,
    /// How many were taken.
    next: AtomicU64,
    /// Legs that would wait: they are written later, whatever they have of it.
    left: AtomicU16,
    failed: AtomicU16,
}

impl Pieces {
    fn new(bio: &Bio<'_>, piece: Sectors, legs: usize) -> Pieces {
        let (next, left, failed) = (AtomicU64::new(0), AtomicU16::new(0), AtomicU16::new(0));
        Pieces { len: bio.len(), piece, legs: legs as u64, next, left, failed }
    }

    /// Takes the next piece of a leg that does not wait.
    fn take(&self) -> Option<(usize, Range<Sectors>)> {
        loop {
            let nr = self.next.fetch_add(1, Relaxed);
            let (leg, start) = ((nr % self.legs) as usize, Sectors(nr / self.legs * self.piece.0));
            if start >= self.len {
                return None;
            }
            if self.left.load(Relaxed) >> leg & 1 == 0 {
                return Some((leg, start..(start + self.piece).min(self.len)));
            }
        }
    }

    /// Returns the legs that are left, and those that failed, when nobody takes pieces any more.
    fn ended(self) -> (Legs, Legs) {
        (self.left.into_inner(), self.failed.into_inner())
    }
}
