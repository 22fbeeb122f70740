//! What a case stands on: how long the blocks of the disks are, how many sectors they have, and what
//! is on them at first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sim_core::control::Failure;
use sim_core::{Errno, Sector, Sectors, parse_table};

use super::suite::{DISK, Suite};
use crate::{Rng, SECTOR, SimDisk, World};

/// The names of the disks in a table.
pub(super) const DISKS: [&str; 3] = ["a", "b", "c"];

/// How many blocks more a disk of an odd size has.
const ODD: u64 = 5;

/// What the kernel says of a table that does not fit.
const TOO_SMALL: &str = "too small for target";

/// The disks of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ground {
    block: u32,
    sizes: [Sectors; 3],
    /// Which disks are full of what somebody else has left; the others are zeros.
    used: [bool; 3],
}

/// What a table takes, for one length of blocks.
#[derive(Clone, Debug)]
struct Takes {
    /// Why it cannot be loaded over such blocks, where that is so.
    refusal: Option<String>,
    /// The least size of each disk.
    least: [Sectors; 3],
    /// Which disks may be full of something else.
    used: [bool; 3],
}

/// What is known of a table, by the length of blocks.
#[derive(Default)]
pub(super) struct Known(Mutex<BTreeMap<u32, Arc<Takes>>>);

impl Ground {
    /// The disks as they are when the seed chooses nothing.
    pub(super) fn plain(suite: &Suite, block: u32) -> Ground {
        let sizes = DISKS.map(|disk| suite.size_of(disk, block));
        Ground { block, sizes, used: [false; 3] }
    }

    /// Returns how long the blocks are, in bytes.
    pub(super) fn block(&self) -> u32 {
        self.block
    }

    /// Lists the disks: how long each is, and what is on it unless it is zeros.
    pub(super) fn disks(&self) -> impl Iterator<Item = (Sectors, Option<&'static [u8]>)> {
        let content = |(at, (size, used)): (usize, (Sectors, bool))| {
            // No two disks have the same at the same place.
            let from = at * 37 * SECTOR;
            (size, used.then(|| &noise(from + size.bytes() as usize)[from..]))
        };
        self.sizes.into_iter().zip(self.used).enumerate().map(content)
    }

    /// Adds the disks to a world that has none.
    pub(super) fn lay(&self, world: &World) -> Vec<Arc<SimDisk>> {
        let disk = |(size, content): (Sectors, Option<&[u8]>)| {
            let disk = world.add_disk_of(size, self.block);
            if let Some(content) = content {
                disk.fill(Sector::ZERO, content);
            }
            disk
        };
        self.disks().map(disk).collect()
    }
}

/// Returns so many bytes of what somebody else has left on a disk.
fn noise(len: usize) -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    let all = NOISE.get_or_init(|| {
        let mut rng = Rng::new(0x0dd);
        let words = (0..(4 * DISK.0 as usize * SECTOR) / 8).map(|_| rng.number());
        words.flat_map(u64::to_le_bytes).collect()
    });
    &all[..len]
}

impl Suite {
    /// Chooses what a case stands on.
    pub(super) fn ground(&self, seed: u64) -> Ground {
        let mut rng = Rng::new(seed ^ 0x6700d);
        let block = self.blocks[rng.below(self.blocks.len())];
        let takes = self.takes(block);
        // A table that cannot be loaded over such blocks is refused before it does any harm: the
        // kernel does so too. One that is taken, and then fails a bio, is at fault.
        let (block, takes) = match &takes.refusal {
            Some(_) => (512, self.takes(512)),
            None => (block, takes),
        };
        let mut ground = Ground::plain(self, block);
        let more = Sectors(ODD * u64::from(block / 512));
        let size = rng.below(4);
        for (at, disk) in DISKS.iter().enumerate() {
            match size {
                _ if self.sizes.contains_key(*disk) => {}
                0 => ground.sizes[at] = takes.least[at],
                1 => ground.sizes[at] += more,
                _ => {}
            }
        }
        if rng.below(2) == 0 {
            ground.used = takes.used;
        }
        ground
    }

    /// Says why a table cannot be loaded over one of the lengths of blocks, where that is so.
    pub(super) fn refusals(&self) -> Vec<String> {
        let refusal = |block: &u32| {
            let why = self.takes(*block).refusal.clone()?;
            Some(format!("not over blocks of {block} bytes, as the load is refused: {why}"))
        };
        self.blocks.iter().filter_map(refusal).collect()
    }

    /// Adds plain disks to a world.
    pub(super) fn lay_plain(&self, world: &World) {
        Ground::plain(self, 512).lay(world);
    }

    fn size_of(&self, disk: &str, block: u32) -> Sectors {
        let size = self.sizes.get(disk).copied().unwrap_or(DISK);
        Sectors(size.0 - size.0 % u64::from(block / 512))
    }

    fn takes(&self, block: u32) -> Arc<Takes> {
        let known = |known: &Known| known.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(takes) = known(&self.known).get(&block) {
            return takes.clone();
        }
        let takes = Arc::new(self.try_out(block));
        let mut known = self.known.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(block, takes.clone());
        takes
    }

    /// Tries out what the table takes.
    fn try_out(&self, block: u32) -> Takes {
        let plain = Ground::plain(self, block);
        let mut takes = Takes { refusal: None, least: plain.sizes, used: [false; 3] };
        match self.try_load(&plain) {
            Err(failure) if block > 512 && failure.errno == Errno::INVAL => {
                takes.refusal = Some(failure.to_string());
                return takes;
            }
            // The part that is run says what is wrong.
            Err(_) => return takes,
            Ok(()) => {}
        }
        for disk in 0..DISKS.len() {
            takes.least[disk] = self.least(&plain, disk);
        }
        // The less is blank the better: none, then one after the other, then more of them.
        let mut sets: Vec<u32> = (0..1 << DISKS.len()).collect();
        sets.sort_by_key(|blank| blank.count_ones());
        let named = |at: usize| self.blank.contains_key(DISKS[at]);
        let used = |blank: &u32| [0, 1, 2].map(|at| blank >> at & 1 == 0 && !named(at));
        let is_taken = |used: &[bool; 3]| {
            let world = World::new(0, self.registry.clone());
            Ground { used: *used, ..plain }.lay(&world);
            world.try_set_up(0, &self.table).is_ok()
        };
        takes.used = sets.iter().map(used).find(is_taken).unwrap_or([false; 3]);
        takes
    }

    fn try_load(&self, ground: &Ground) -> Result<(), Failure> {
        let world = World::new(0, self.registry.clone());
        ground.lay(&world);
        world.create(0)?;
        let lines = parse_table(&self.table).unwrap_or_default();
        world.load(0, lines.into_iter().map(|(_, spec)| spec).collect()).map(drop)
    }

    /// Returns the least size of a disk: one block less, and the load is refused as it is too small.
    /// A disk that is used as a whole, however long it is, stays as it is.
    fn least(&self, plain: &Ground, disk: usize) -> Sectors {
        let block = u64::from(plain.block / 512);
        let is_too_small = |blocks: u64| {
            let mut ground = *plain;
            ground.sizes[disk] = Sectors(blocks * block);
            let loaded = self.try_load(&ground);
            loaded.err().is_some_and(|failure| failure.to_string().contains(TOO_SMALL))
        };
        let (mut small, mut enough) = (0, plain.sizes[disk].0 / block);
        while small + 1 < enough {
            let middle = (small + enough) / 2;
            *(if is_too_small(middle) { &mut small } else { &mut enough }) = middle;
        }
        match small {
            0 => plain.sizes[disk],
            _ => Sectors(enough * block),
        }
    }
}
