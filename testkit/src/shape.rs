//! What the bios of a case are like: how many, how long, how close together.

use sim_core::{Flags, Limits, Op};

use crate::{BioStep, Rng};

/// From this seed on cases grow: the tests run the ones below it, a search goes on from there.
const GROWS: u64 = 100;

/// The most that cases grow by.
const MOST: usize = 8;

/// What the bios of a case are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// So many times as many bios as a part has by itself.
    pub times: usize,
    /// The longest bio, in blocks of the device.
    pub longest: u64,
    /// Half of the bios lie among so many blocks: that is where they meet.
    pub near: u64,
    /// Every bio with a range has the length of the longest, where there is room for it.
    pub one_length: bool,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { times: 1, longest: 12, near: 12, one_length: false }
    }
}

impl Shape {
    /// Chooses a shape by a seed. Cases of later seeds are larger: twice to eight times as many
    /// bios, of up to 300 blocks, which is past what one bio of most targets has.
    pub fn of(seed: u64) -> Shape {
        // Apart from what else the seed chooses.
        let mut rng = Rng::new(seed ^ 0x5ba9e);
        let mut shape = match rng.below(8) {
            // Records, chunks and whatever else a target makes of bios are as long as one another.
            0 | 1 => {
                Shape { longest: 1 + rng.below(4) as u64, one_length: true, ..Shape::default() }
            }
            2 => Shape { longest: 3, near: 4, ..Shape::default() },
            3 => Shape { longest: 40, ..Shape::default() },
            _ => Shape::default(),
        };
        if seed >= GROWS {
            shape.times = 1 << rng.below(1 + MOST.ilog2() as usize);
            if rng.below(4) == 0 {
                shape.longest = 300;
            }
        }
        shape
    }

    /// Chooses a bio for a device of so many sectors.
    pub fn step(&self, rng: &mut Rng, size: u64, limits: &Limits) -> BioStep {
        let op = match rng.below(16) {
            0..=8 => Op::Write,
            9..=11 => Op::Read,
            12 if limits.max_discard_sectors > 0 => Op::Discard,
            13 if limits.max_write_zeroes_sectors > 0 => Op::WriteZeroes,
            12 | 13 => Op::Read,
            _ => Op::Flush,
        };
        let mut flags = Flags::default();
        if op == Op::Write {
            flags.fua = rng.below(4) == 0;
            flags.preflush = rng.below(8) == 0;
        }
        if op == Op::Flush {
            return BioStep { op, sector: 0, len: 0, flags };
        }
        let block = limits.logical_block().0.max(1);
        let blocks = (size / block).max(1);
        let near = if rng.below(2) == 0 { blocks.min(self.near) } else { blocks };
        let from = rng.below(near as usize) as u64;
        let most = self.longest.min(blocks - from);
        let len = if self.one_length { most } else { 1 + rng.below(most as usize) as u64 };
        BioStep { op, sector: from * block, len: len * block, flags }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_grow_with_the_search_and_stay_on_the_device() {
        let shapes: Vec<Shape> = (0..2000).map(Shape::of).collect();
        assert!(shapes[..GROWS as usize].iter().all(|shape| shape.times == 1));
        assert!(shapes.iter().any(|shape| shape.times == MOST && shape.longest == 300));
        assert!(shapes[..20].iter().any(|shape| shape.one_length));
        let limits = Limits::image(4096);
        for shape in &shapes {
            let step = shape.step(&mut Rng::new(7), 64, &limits);
            assert!(step.sector + step.len <= 64 && step.len.is_multiple_of(8), "{step}");
        }
    }
}
