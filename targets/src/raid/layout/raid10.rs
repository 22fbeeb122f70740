//! raid10: several copies of each chunk, *near* (on the next legs), *far* (in another part of the
//! legs) or *offset* (in the next row of chunks).
//!
//! md's word for it, which the superblock holds: the number of near copies in bits 0 to 7, of far
//! copies in 8 to 15, bit 16 for offset, bit 18 for far copies that stay in sets of legs.

use sim_core::{Sector, Sectors};

use super::far_sets::FarSets;
use super::{Place, Places};

/// The most copies that the layout's word has room for; no set has more legs than 253.
pub const MAX_COPIES: usize = 253;

const OFFSET: u32 = 1 << 16;
/// Bit 17 stands for sets of an older, faulty kind, which dm-raid never makes.
const FAR_SETS: u32 = 1 << 18;

/// Where the copies of a chunk lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// On the next legs.
    Near,
    /// In another part of each leg, one leg further on.
    Far,
    /// In the next row of chunks, one leg further on.
    Offset,
}

/// A raid10 layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raid10 {
    legs: usize,
    chunk: Sectors,
    format: Format,
    copies: usize,
    sets: FarSets,
    /// How many chunks of the set there are.
    chunks: u64,
    /// How many chunks of each leg are in use.
    device_chunks: u64,
    /// From one far copy to the next, in chunks.
    stride: u64,
    /// Where on each leg the data begins.
    offset: Sectors,
}

impl Raid10 {
    /// Makes the layout of a word and of so many legs, each with `device` sectors; none where the
    /// word is none that dm-raid makes of so many legs.
    pub fn new(word: u32, legs: usize, chunk: Sectors, device: Sectors) -> Option<Raid10> {
        let (format, copies, far_sets) = Raid10::parse(word)?;
        if !(2..=legs).contains(&copies) || chunk.is_zero() {
            return None;
        }
        let set = if far_sets { copies } else { legs };
        let device_chunks = device.0 / chunk.0;
        let (near, far) = Raid10::near_and_far(format, copies);
        // As md counts them: whole parts of a leg for far copies, then so much of each leg as the
        // copies of the chunks take, and of that the parts.
        let chunks = (device_chunks / far).checked_mul(legs as u64)? / near;
        let device_chunks = chunks.checked_mul(copies as u64)?.div_ceil(legs as u64);
        let stride = match format {
            Format::Near => device_chunks,
            Format::Far => device_chunks / far,
            Format::Offset => 1,
        };
        let sets = FarSets::new(legs, set);
        let offset = Sectors::ZERO;
        Some(Raid10 { legs, chunk, format, copies, sets, chunks, device_chunks, stride, offset })
    }

    /// Returns the layout with its data so far from where a leg begins: all places are.
    #[must_use]
    pub fn at(self, offset: Sectors) -> Raid10 {
        Raid10 { offset, ..self }
    }

    /// Returns where on each leg the data begins.
    pub fn offset(&self) -> Sectors {
        self.offset
    }

    /// Returns the word for a format and a number of copies.
    pub fn word(format: Format, copies: usize, far_sets: bool) -> u32 {
        let copies = copies as u32;
        let sets = if far_sets { FAR_SETS } else { 0 };
        match format {
            Format::Near => 1 << 8 | copies,
            Format::Far => copies << 8 | 1 | sets,
            Format::Offset => copies << 8 | 1 | sets | OFFSET,
        }
    }

    /// Reads a word: the format, the number of copies, and whether far copies stay in sets. None
    /// where dm-raid makes no such word.
    pub fn parse(word: u32) -> Option<(Format, usize, bool)> {
        let (near, far) = ((word & 0xff) as usize, (word >> 8 & 0xff) as usize);
        let sets = word & FAR_SETS != 0;
        let read = match word & OFFSET != 0 {
            true => (Format::Offset, far, sets),
            false if near > 1 => (Format::Near, near, false),
            false => (Format::Far, far, sets),
        };
        let (format, copies, sets) = read;
        (copies >= 2 && Raid10::word(format, copies, sets) == word).then_some(read)
    }

    /// Returns how many legs there are.
    pub fn legs(&self) -> usize {
        self.legs
    }

    /// Returns the length of a chunk.
    pub fn chunk(&self) -> Sectors {
        self.chunk
    }

    /// Returns where the copies lie.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns how many copies there are of each chunk.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// Returns the length of the set.
    pub fn len(&self) -> Sectors {
        Sectors(self.chunks * self.chunk.0)
    }

    /// Tells whether the legs are too short for a single chunk.
    pub fn is_empty(&self) -> bool {
        self.chunks == 0
    }

    /// Returns how many sectors of each leg are in use.
    pub fn device_len(&self) -> Sectors {
        Sectors(self.device_chunks * self.chunk.0)
    }

    /// Tells whether md thinks that enough legs are in sync without those that are `lost`: a set
    /// with less does not start, and a leg that would leave less does not fail. It looks for the
    /// copies of a chunk on the next legs always, which far copies in sets are not: see
    /// [`has_all`](Self::has_all).
    pub fn has_enough(&self, lost: impl Fn(usize) -> bool) -> bool {
        let next = |first: usize| (0..self.copies).map(move |copy| (first + copy) % self.legs);
        self.firsts().all(|first| next(first).any(|leg| !lost(leg)))
    }

    /// Tells whether the legs that are not `lost` have a copy of every chunk.
    pub fn has_all(&self, lost: impl Fn(usize) -> bool) -> bool {
        self.firsts().all(|first| self.legs_of(first).any(|leg| !lost(leg)))
    }

    /// Returns the legs on which the first copy of a chunk lies; some more than once.
    fn firsts(&self) -> impl Iterator<Item = usize> {
        let (near, _) = Raid10::near_and_far(self.format, self.copies);
        let legs = self.legs as u64;
        // After as many chunks as there are legs, the same legs come again.
        (0..legs).map(move |nr| (nr * near % legs) as usize)
    }

    /// Returns the places of a sector of the set.
    pub(super) fn places(&self, at: Sector) -> Places {
        let (nr, within) = (at.0 / self.chunk.0, at.0 % self.chunk.0);
        let (near, far) = Raid10::near_and_far(self.format, self.copies);
        let first = nr * near;
        let place = |copy: u64| {
            let (row, leg) = match self.format {
                Format::Near => {
                    let nr = first + copy;
                    (nr / self.legs as u64, (nr % self.legs as u64) as usize)
                }
                Format::Far | Format::Offset => {
                    let (row, leg) = (nr / self.legs as u64, (nr % self.legs as u64) as usize);
                    let row = if self.format == Format::Offset { row * far } else { row };
                    (row + copy * self.stride, self.sets.turn(leg, copy as usize))
                }
            };
            Place { leg, sector: Sector(row * self.chunk.0 + within) + self.offset }
        };
        (0..self.copies as u64).map(place).collect()
    }

    /// Returns the sector of the set at a place, whether or not the set is so long, and which of
    /// its copies that is; none past the last copies.
    pub(super) fn sector_at(&self, place: Place) -> Option<(Sector, usize)> {
        let sector = place.sector.0.checked_sub(self.offset.0)?;
        let (row, within) = (sector / self.chunk.0, sector % self.chunk.0);
        let legs = self.legs as u64;
        let copies = self.copies as u64;
        let (nr, copy) = match self.format {
            Format::Near => {
                let nr = row * legs + place.leg as u64;
                (nr / copies, nr % copies)
            }
            Format::Far | Format::Offset => {
                let (row, copy) = match self.format {
                    Format::Offset => (row / copies, row % copies),
                    _ => (row % self.stride.max(1), row / self.stride.max(1)),
                };
                let leg = self.sets.turn_back(place.leg, copy as usize);
                (row * legs + leg as u64, copy)
            }
        };
        let lies = copy < copies && nr < self.chunks;
        lies.then_some((Sector(nr * self.chunk.0 + within), copy as usize))
    }

    /// Returns the legs of the chunk whose first copy lies on a leg.
    fn legs_of(&self, first: usize) -> impl Iterator<Item = usize> {
        (0..self.copies).map(move |copy| match self.format {
            Format::Near => (first + copy) % self.legs,
            Format::Far | Format::Offset => self.sets.turn(first, copy),
        })
    }

    fn near_and_far(format: Format, copies: usize) -> (u64, u64) {
        match format {
            Format::Near => (copies as u64, 1),
            Format::Far | Format::Offset => (1, copies as u64),
        }
    }
}
