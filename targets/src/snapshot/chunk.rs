//! Chunks: what a snapshot copies as one.

use std::ops::Range;

use sim_core::{Sector, Sectors};

/// The size of a chunk: a power of two, at most [`ChunkSize::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSize {
    shift: u32,
}

impl ChunkSize {
    /// What a store gets whose table line says zero: 16 KiB.
    pub const DEFAULT: ChunkSize = ChunkSize { shift: 5 };

    /// The largest: the kernel counts a chunk's bytes in 31 bits.
    pub const MAX: Sectors = Sectors((i32::MAX >> 9) as u64);

    /// Makes the size of a chunk on devices of these logical block sizes; else says what is wrong
    /// with it, in the kernel's words.
    pub fn new(chunk: Sectors, blocks: &[Sectors]) -> Result<ChunkSize, &'static str> {
        if !chunk.0.is_power_of_two() {
            return Err("Chunk size is not a power of 2");
        }
        if blocks.iter().any(|block| !chunk.0.is_multiple_of(block.0)) {
            return Err("Chunk size is not a multiple of device blocksize");
        }
        if chunk > ChunkSize::MAX {
            return Err("Chunk size is too high");
        }
        Ok(ChunkSize { shift: chunk.0.trailing_zeros() })
    }

    /// Returns the length of a chunk.
    pub fn sectors(self) -> Sectors {
        Sectors(1 << self.shift)
    }

    /// Returns the chunk that a sector lies in.
    pub fn of(self, sector: Sector) -> u64 {
        sector.0 >> self.shift
    }

    /// Returns how many chunks have an address, and so does their end.
    pub fn addresses(self) -> u64 {
        u64::MAX >> self.shift
    }

    /// Returns the first sector of a chunk.
    ///
    /// # Panics
    /// When it lies past the last address there is.
    pub fn start(self, chunk: u64) -> Sector {
        assert!(chunk <= self.addresses(), "chunk {chunk} has no address");
        Sector(chunk << self.shift)
    }

    /// Returns how far into its chunk a sector lies.
    pub fn within(self, sector: Sector) -> Sectors {
        Sectors(sector.0 & (self.sectors().0 - 1))
    }

    /// Returns the chunks that a range touches.
    pub fn touched(self, sector: Sector, len: Sectors) -> Range<u64> {
        if len.is_zero() {
            return self.of(sector)..self.of(sector);
        }
        self.of(sector)..self.of(Sector(sector.0 + (len.0 - 1))) + 1
    }

    /// Returns how many whole chunks fit a device.
    pub fn whole_in(self, size: Sectors) -> u64 {
        size.0 >> self.shift
    }

    /// Returns how many chunks a device has, the last of which may be cut short.
    pub fn count_in(self, size: Sectors) -> u64 {
        size.0.div_ceil(self.sectors().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_a_power_of_two_of_whole_blocks() {
        let size = |chunk, blocks: &[Sectors]| ChunkSize::new(Sectors(chunk), blocks);
        assert_eq!(size(8, &[Sectors(1), Sectors(8)]).map(ChunkSize::sectors), Ok(Sectors(8)));
        assert_eq!(size(0, &[]), Err("Chunk size is not a power of 2"));
        assert_eq!(size(12, &[]), Err("Chunk size is not a power of 2"));
        assert_eq!(size(4, &[Sectors(8)]), Err("Chunk size is not a multiple of device blocksize"));
        assert!(size(1 << 21, &[]).is_ok());
        assert_eq!(size(1 << 22, &[]), Err("Chunk size is too high"));
    }

    #[test]
    fn a_range_touches_the_chunks_of_its_first_and_last_sector_and_those_between() {
        let chunk = ChunkSize::new(Sectors(8), &[]).expect("a chunk size");
        assert_eq!(chunk.touched(Sector(0), Sectors(8)), 0..1);
        assert_eq!(chunk.touched(Sector(7), Sectors(2)), 0..2);
        assert_eq!(chunk.touched(Sector(8), Sectors(0)), 1..1);
        assert_eq!((chunk.count_in(Sectors(9)), chunk.whole_in(Sectors(9))), (2, 1));
        assert_eq!(chunk.within(Sector(13)), Sectors(5));
    }
}
