//! Queue limits and how they stack: what the kernel keeps in `struct queue_limits`.
//!
//! The rules are those of `blk_stack_limits` in Linux 6.12, held against
//! `/sys/block/dm-N/queue` of that kernel by the tests of the targets.

use serde::{Deserialize, Serialize};

use crate::{SECTOR_SHIFT, SECTOR_SIZE, Sector, Sectors};

/// The limits of a device's queue, in the kernel's names and units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Smallest addressable unit, in bytes.
    pub logical_block_size: u32,
    /// Smallest unit written without read-modify-write, in bytes.
    pub physical_block_size: u32,
    /// Preferred smallest I/O, in bytes.
    pub io_min: u32,
    /// Preferred I/O size, in bytes; zero: none.
    pub io_opt: u32,
    /// Distance in bytes from the device's start to its first aligned physical block.
    pub alignment_offset: u32,
    /// The devices below could not be brought into line.
    pub misaligned: bool,
    /// Unit of discards, in bytes; zero: no discards.
    pub discard_granularity: u32,
    /// Distance in bytes to the first aligned discard unit.
    pub discard_alignment: u32,
    /// Longest discard, in sectors; zero: no discards.
    pub max_discard_sectors: u32,
    /// Longest write-zeroes, in sectors; zero: none.
    pub max_write_zeroes_sectors: u32,
    /// Longest secure erase, in sectors; zero: none.
    pub max_secure_erase_sectors: u32,
    /// Longest read or write the hardware takes, in sectors.
    pub max_hw_sectors: u32,
    /// Pieces of memory in one request.
    pub max_segments: u16,
    /// Ranges in one discard.
    pub max_discard_segments: u16,
    /// Longest piece of memory, in bytes.
    pub max_segment_size: u32,
    /// A request must not cross a multiple of this many sectors; zero: no such boundary.
    pub chunk_sectors: u32,
    /// Mask of the address bits that must be zero in a buffer's address.
    pub dma_alignment: u32,
    /// The device has a volatile cache: a flush does something.
    pub write_cache: bool,
}

/// What the block layer caps a request at unless a device prefers larger ones: 1280 KiB.
const DEFAULT_MAX_SECTORS: u32 = 2560;

/// The smallest read-ahead the block layer sets, in sectors: 128 KiB.
const MIN_READ_AHEAD: u64 = 256;

/// Two devices whose alignments do not fit together. A warning: the table is loaded all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Misaligned(pub bool);

impl Limits {
    /// Returns the limits of a device that has none: where stacking starts.
    pub fn stacking() -> Limits {
        Limits {
            logical_block_size: 512,
            physical_block_size: 512,
            io_min: 512,
            io_opt: 0,
            alignment_offset: 0,
            misaligned: false,
            discard_granularity: 512,
            discard_alignment: 0,
            max_discard_sectors: u32::MAX,
            max_write_zeroes_sectors: u32::MAX,
            max_secure_erase_sectors: u32::MAX,
            max_hw_sectors: u32::MAX,
            max_segments: u16::MAX,
            max_discard_segments: u16::MAX,
            max_segment_size: u32::MAX,
            chunk_sectors: 0,
            dma_alignment: 511,
            write_cache: false,
        }
    }

    /// Returns the limits that a loop device of Linux 6.12 has over an image file whose file
    /// system can punch holes.
    pub fn image(logical_block_size: u32) -> Limits {
        Limits {
            logical_block_size,
            physical_block_size: logical_block_size,
            io_min: logical_block_size,
            discard_granularity: 4096,
            max_discard_sectors: u32::MAX >> SECTOR_SHIFT,
            max_write_zeroes_sectors: u32::MAX >> SECTOR_SHIFT,
            max_secure_erase_sectors: 0,
            max_hw_sectors: DEFAULT_MAX_SECTORS,
            max_segments: 128,
            max_discard_segments: 1,
            max_segment_size: 65536,
            write_cache: true,
            ..Limits::stacking()
        }
    }

    /// Returns the longest read or write the block layer sends, in sectors.
    pub fn max_sectors(&self) -> u32 {
        let preferred = if self.io_opt > DEFAULT_MAX_SECTORS << SECTOR_SHIFT {
            self.io_opt >> SECTOR_SHIFT
        } else {
            DEFAULT_MAX_SECTORS
        };
        self.max_hw_sectors.min(preferred)
    }

    /// Returns the read-ahead that the block layer sets for these limits.
    pub fn read_ahead(&self) -> Sectors {
        Sectors((u64::from(self.io_opt) * 2 / SECTOR_SIZE).max(MIN_READ_AHEAD))
    }

    /// Returns the logical block size in sectors; one, where a device says that it has less.
    pub fn logical_block(&self) -> Sectors {
        Sectors((u64::from(self.logical_block_size) / SECTOR_SIZE).max(1))
    }

    /// Brings limits that a target has changed into line with one another, as the block layer does
    /// before a queue has them (`blk_validate_limits`).
    pub(crate) fn settle(&mut self) {
        self.physical_block_size = self.physical_block_size.max(self.logical_block_size);
        self.io_min = self.io_min.max(self.physical_block_size);
        if self.alignment_offset != 0 {
            self.alignment_offset =
                remainder(self.alignment_offset.into(), self.physical_block_size);
            self.misaligned = false;
        }
    }

    /// Lifts every limit on discards: for a target that takes them itself.
    pub fn allow_any_discard(&mut self) {
        self.discard_granularity = self.logical_block_size;
        self.max_discard_sectors = u32::MAX;
    }

    /// Combines the limits of a device below into these, for a range that begins at `start` on it.
    pub fn stack(&mut self, below: &Limits, start: Sector) -> Misaligned {
        self.write_cache |= below.write_cache;
        self.max_hw_sectors = min_not_zero(self.max_hw_sectors, below.max_hw_sectors);
        // A plain minimum: a device without write-zeroes (0) takes it away from the whole.
        self.max_write_zeroes_sectors =
            self.max_write_zeroes_sectors.min(below.max_write_zeroes_sectors);
        self.max_segments = min_not_zero(self.max_segments, below.max_segments);
        self.max_discard_segments =
            min_not_zero(self.max_discard_segments, below.max_discard_segments);
        self.max_segment_size = min_not_zero(self.max_segment_size, below.max_segment_size);
        self.max_secure_erase_sectors =
            min_not_zero(self.max_secure_erase_sectors, below.max_secure_erase_sectors);

        let mut misaligned = below.misaligned;
        let alignment = offset_in(below.alignment_offset, below.alignment_unit(), start);
        if self.alignment_offset != alignment {
            let top = u64::from(self.alignment_unit()) + u64::from(self.alignment_offset);
            let bottom = u64::from(below.alignment_unit()) + u64::from(alignment);
            misaligned |= !top.max(bottom).is_multiple_of(top.min(bottom));
        }

        self.logical_block_size = self.logical_block_size.max(below.logical_block_size);
        self.physical_block_size = self.physical_block_size.max(below.physical_block_size);
        self.io_min = self.io_min.max(below.io_min);
        // What does not fit is no preference at all.
        self.io_opt = lcm_not_zero(self.io_opt, below.io_opt).try_into().unwrap_or(0);
        self.dma_alignment = self.dma_alignment.max(below.dma_alignment);
        if below.chunk_sectors != 0 {
            self.chunk_sectors = gcd(self.chunk_sectors, below.chunk_sectors);
        }

        let physical = self.physical_block_size;
        if !self.io_min.is_multiple_of(physical) {
            self.io_min = physical;
            misaligned = true;
        }
        if !self.io_opt.is_multiple_of(physical) {
            self.io_opt = 0;
            misaligned = true;
        }
        if !(u64::from(self.chunk_sectors) << SECTOR_SHIFT).is_multiple_of(physical.into()) {
            self.chunk_sectors = 0;
            misaligned = true;
        }
        let offset = lcm_not_zero(self.alignment_offset, alignment);
        self.alignment_offset = remainder(offset, self.alignment_unit());
        misaligned |= !self.alignment_offset.is_multiple_of(self.logical_block_size);

        self.stack_discard(below, start);
        self.misaligned |= misaligned;
        Misaligned(misaligned)
    }

    fn stack_discard(&mut self, below: &Limits, start: Sector) {
        if below.discard_granularity == 0 {
            return;
        }
        let alignment = offset_in(below.discard_alignment, below.discard_granularity, start);
        self.max_discard_sectors =
            min_not_zero(self.max_discard_sectors, below.max_discard_sectors);
        self.discard_granularity = self.discard_granularity.max(below.discard_granularity);
        let first = lcm_not_zero(self.discard_alignment, alignment);
        self.discard_alignment = remainder(first, self.discard_granularity);
    }

    fn alignment_unit(&self) -> u32 {
        self.physical_block_size.max(self.io_min)
    }
}

/// Where, in bytes after `start`, the next unit begins on a device whose first unit begins at
/// `first`.
fn offset_in(first: u32, unit: u32, start: Sector) -> u32 {
    // A device that has no unit is one all through.
    let unit = unit.max(1);
    let into = u128::from(start.0) * u128::from(SECTOR_SIZE) % u128::from(unit);
    remainder(u64::from(unit) - into as u64 + u64::from(first), unit)
}

fn remainder(number: u64, unit: u32) -> u32 {
    (number % u64::from(unit)) as u32
}

fn min_not_zero<T: Ord + Default + Copy>(a: T, b: T) -> T {
    let zero = T::default();
    if a == zero || b == zero { a.max(b) } else { a.min(b) }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Returns the least common multiple, or the one that is not zero.
fn lcm_not_zero(a: u32, b: u32) -> u64 {
    if a == 0 || b == 0 {
        return a.max(b).into();
    }
    u64::from(a / gcd(a, b)) * u64::from(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_cuts_a_physical_block_is_misaligned() {
        let mut limits = Limits::stacking();
        assert_eq!(limits.stack(&Limits::image(4096), Sector(4)), Misaligned(true));
        let mut limits = Limits::stacking();
        assert_eq!(limits.stack(&Limits::image(4096), Sector(8)), Misaligned(false));
    }

    #[test]
    fn write_zeroes_is_lost_where_one_device_has_none() {
        let mut limits = Limits::stacking();
        let without = Limits { max_write_zeroes_sectors: 0, ..Limits::image(512) };
        let _ = limits.stack(&Limits::image(512), Sector(0));
        let _ = limits.stack(&without, Sector(0));
        assert_eq!(limits.max_write_zeroes_sectors, 0);
    }

    /// Numbers that no device of today has, near the ends of what they are counted in.
    fn odd(seed: u64) -> impl FnMut() -> u32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let number = (state >> 32) as u32;
            match number % 5 {
                0 => u32::MAX - (number >> 8) % 1024,
                1 => 1 << ((number >> 8) % 32),
                2 => (u32::MAX << 9).wrapping_sub((number >> 8) % 4 * 512),
                3 => 0,
                _ => number,
            }
        }
    }

    #[test]
    fn limits_of_any_size_are_stacked() {
        for seed in 0..20_000 {
            let mut number = odd(seed);
            let mut limits = Limits::stacking();
            for _ in 0..4 {
                let below = Limits {
                    logical_block_size: number(),
                    physical_block_size: number(),
                    io_min: number(),
                    io_opt: number(),
                    alignment_offset: number(),
                    discard_granularity: number(),
                    discard_alignment: number(),
                    max_discard_sectors: number(),
                    max_hw_sectors: number(),
                    chunk_sectors: number(),
                    ..Limits::image(512)
                };
                let start = u64::from(number()) << (number() % 33);
                let _may_be = limits.stack(&below, Sector(start));
                let unit = limits.physical_block_size.max(limits.io_min);
                assert!(limits.alignment_offset < unit, "seed {seed}: {limits:?}");
                assert!(
                    limits.logical_block().0 > 0 && limits.max_sectors() <= limits.max_hw_sectors
                );
                let _read_ahead = limits.read_ahead();
            }
        }
    }

    #[test]
    fn intervals_that_do_not_fit_32_bits_are_compared_as_they_are() {
        // In 32 bits 0xffff_fe00 + 0x400 would be 0x200.
        let wide = Limits { io_min: 0xffff_fe00, alignment_offset: 0x400, ..Limits::image(512) };
        let mut limits = Limits::stacking();
        assert_eq!(limits.stack(&wide, Sector(0)), Misaligned(false));
        assert_eq!((limits.io_min, limits.alignment_offset), (0xffff_fe00, 0x400));
        // The multiple of both is counted before the remainder is.
        let other = Limits { alignment_offset: 0xffff_f600, ..wide };
        let _ = limits.stack(&other, Sector(0));
        assert_eq!(limits.alignment_offset, 0xffff_ee00);
    }

    #[test]
    fn chunks_of_different_sizes_meet_at_their_greatest_common_divisor() {
        let mut limits = Limits::stacking();
        for chunk in [16, 24] {
            let below = Limits {
                chunk_sectors: chunk,
                io_opt: chunk * 1024,
                io_min: chunk * 512,
                ..Limits::image(512)
            };
            let _ = limits.stack(&below, Sector(0));
        }
        assert_eq!((limits.chunk_sectors, limits.io_min), (8, 12288));
        assert_eq!(limits.io_opt, 49152);
    }
}
