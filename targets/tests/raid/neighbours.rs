//! Small writes that wait for one of their stripe: they are carried out as one.

use futures_util::future::join_all;
use sim_core::{Bio, BlockDevice, Sector, Sectors};
use testkit::{Schedule, Speed, World, read_all};

/// Writes the pages of a stripe of four chunks of 16 KiB, all at once, in some order. Returns how many
/// I/Os the legs had.
fn written(seed: u64, order: impl Fn(u64) -> u64) -> u64 {
    let world = World::with(&Schedule::Random(seed), targets::registry(), &[]);
    let disks: Vec<_> =
        (0..10).map(|disk| world.add_disk(Sectors(if disk % 2 == 0 { 128 } else { 64 }))).collect();
    let line = "0 256 raid raid5_ls 4 32 nosync region_size 64 5 a b c d e f g h i j";
    let device = world.set_up(0, line);
    world.sim.run_until_idle().expect("a start");
    disks.iter().for_each(|disk| disk.set_speed(Speed::Waits));
    let count = || {
        let counts = disks.iter().skip(1).step_by(2).map(|disk| disk.counts());
        counts.map(|counts| counts.reads + counts.writes).sum::<u64>()
    };
    let before = count();
    let write = |nr| {
        let (device, page) = (device.clone(), order(nr));
        async move {
            let data = [page as u8 + 1; 4096];
            device.submit(Bio::write(Sector(page * 8), &data)).await
        }
    };
    let ends = world.sim.block_on(join_all((0..16).map(write)));
    assert!(ends.iter().all(Result::is_ok), "seed {seed}: {ends:?}");
    let all = count() - before;
    let content = world.sim.block_on(read_all(device)).expect("it reads");
    let pages = content.chunks(4096).take(16);
    pages.zip(1..).for_each(|(page, byte)| assert!(page.iter().all(|found| *found == byte)));
    for row in (0..64).map(Sector) {
        let mut xor = vec![0; 512];
        for disk in disks.iter().skip(1).step_by(2) {
            disk.look(row, Sectors(1), |bytes| {
                xor.iter_mut().zip(bytes).for_each(|(xor, byte)| *xor ^= byte);
            });
        }
        assert_eq!(xor, vec![0; 512], "seed {seed}, row {row}");
    }
    all
}

#[test]
fn writes_that_wait_are_one_when_they_get_their_rows() {
    // A page and its parity, read and written: four for each that finds its rows free. The others wait,
    // are twelve of the same three legs or, in a mixed order, three of each row, and the fourth is read.
    for seed in 0..40 {
        assert_eq!(written(seed, |nr| nr), 4 * 4 + 5, "seed {seed}, of 64");
        assert_eq!(written(seed, |nr| nr * 7 % 16), 4 * 4 + 4 * 5, "seed {seed}, of 64");
    }
}
