//! Copies of a range from one place to others, piece by piece: what the kernel has kcopyd for.

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Area, Bio, BlkResult, Buffer, Sector, Sectors};

/// How much is copied at a time, in sectors: 1 MiB.
pub(crate) const PIECE: Sectors = Sectors(2048);

/// A sector of an area.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) area: &'a Area,
    pub(crate) sector: Sector,
}

/// How a copy ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// What was to be copied could not be read. The pieces before that are where they should be.
    pub(crate) read_failed: bool,
    /// The places that could not be written, a bit for each, the first in the lowest. They were
    /// given up at the first error.
    pub(crate) failed: u64,
}

/// Copies `len` sectors to all places, of which there are 64 at most; each piece is written to all
/// of them at once. Ends early where nothing is left to write to.
pub(crate) async fn copy(from: Spot<'_>, len: Sectors, to: &[Spot<'_>]) -> Copied {
    debug_assert!(to.len() <= 64, "a bit for each place");
    let all = if to.len() < 64 { (1 << to.len()) - 1 } else { u64::MAX };
    let mut copied = Copied::default();
    let mut done = Sectors::ZERO;
    while done < len && copied.failed != all {
        let piece = PIECE.min(len - done);
        let mut buffer = Buffer::take(piece.bytes() as usize);
        let at = from.sector + done;
        if from.area.submit(at, Bio::read(at, &mut buffer)).await.is_err() {
            copied.read_failed = true;
            break;
        }
        let left = to.iter().enumerate().filter(|(nr, _)| copied.failed >> nr & 1 == 0);
        let mut writes: FuturesUnordered<_> =
            left.map(|(nr, place)| write(nr, *place, done, &buffer)).collect();
        while let Some((nr, result)) = writes.next().await {
            copied.failed |= u64::from(result.is_err()) << nr;
        }
        drop(writes);
        done += piece;
    }
    copied
}

async fn write(nr: usize, to: Spot<'_>, done: Sectors, data: &[u8]) -> (usize, BlkResult) {
    let at = to.sector + done;
    (nr, to.area.submit(at, Bio::write(at, data)).await)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sim_core::{Access, BlockDevice, OpenDevice};
    use testkit::{Fault, Rng, SimDisk, World, pattern};

    use super::*;

    const LEN: Sectors = Sectors(PIECE.0 * 2 + 100);

    fn disks(seed: u64) -> (World, Vec<Arc<SimDisk>>, Vec<Area>) {
        let world = World::new(seed, sim_core::Registry::new());
        let disks: Vec<_> = (0..3).map(|_| world.add_disk(Sectors(LEN.0 + 32))).collect();
        disks[0].fill(Sector(0), &pattern(1 << 20, 0, LEN.0 + 32));
        let area = |disk: &Arc<SimDisk>| {
            let device: Arc<dyn BlockDevice> = disk.clone();
            Area::whole(Arc::new(OpenDevice::new(device, Access::ReadWrite).expect("a disk opens")))
        };
        let areas = disks.iter().map(area).collect();
        (world, disks, areas)
    }

    fn run(world: &World, areas: &[Area]) -> Copied {
        let place = |nr: usize, sector| Spot { area: &areas[nr], sector: Sector(sector) };
        world.sim.block_on(copy(place(0, 3), LEN, &[place(1, 0), place(2, 7)]))
    }

    fn holds(disks: &[Arc<SimDisk>], nr: usize, at: u64) -> bool {
        let from = disks[0].look(Sector(3), LEN, <[u8]>::to_vec);
        disks[nr].look(Sector(at), LEN, |bytes| bytes == from)
    }

    #[test]
    fn all_places_get_the_whole_range_where_they_want_it() {
        for seed in 0..8 {
            let (world, disks, areas) = disks(seed);
            assert_eq!(run(&world, &areas), Copied::default());
            assert!(holds(&disks, 1, 0) && holds(&disks, 2, 7));
        }
    }

    #[test]
    fn a_place_that_fails_is_given_up_and_the_others_go_on() {
        let (world, disks, areas) = disks(1);
        let at = Rng::new(7).below(PIECE.0 as usize) as u64;
        disks[1].inject(Fault::Range(Sector(at), Sectors(1)));
        assert_eq!(run(&world, &areas), Copied { read_failed: false, failed: 0b01 });
        assert!(holds(&disks, 2, 7));
        assert_eq!(disks[1].counts().writes, 1, "nothing more is written there");
        disks[2].inject(Fault::Range(Sector(9), Sectors(1)));
        let before = disks[0].counts().reads;
        assert_eq!(run(&world, &areas), Copied { read_failed: false, failed: 0b11 });
        assert_eq!(disks[0].counts().reads - before, 1, "there is nowhere to copy to");
    }

    #[test]
    fn what_cannot_be_read_ends_the_copy() {
        let (world, disks, areas) = disks(2);
        disks[0].inject(Fault::Range(Sector(3 + PIECE.0), Sectors(1)));
        assert_eq!(run(&world, &areas), Copied { read_failed: true, failed: 0 });
        let first = disks[0].look(Sector(3), PIECE, <[u8]>::to_vec);
        assert!(disks[2].look(Sector(7), PIECE, |bytes| bytes == first));
        assert_eq!(disks[1].counts().writes, 1);
    }
}
