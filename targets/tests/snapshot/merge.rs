//! A merge that takes more than one go.

use sim_core::control::{Command, WhenOpen};
use sim_core::{Bio, Held, Sector, Sectors};
use testkit::{Fault, Speed, World, id, pattern, read_all, send};

use crate::stack::{specs, status};

/// Sectors of a chunk: its entries, 2048, are more than the 256 chunks that are merged as one.
const CHUNK: u64 = 64;

/// Exceptions, of which 88 are left after two goes.
const CHUNKS: u64 = 600;

/// A store as the kernel may write one: neighbours of the origin that are none in the store, as
/// several copies were under way.
#[test]
fn chunks_that_are_neighbours_in_the_origin_alone_are_merged_each_from_where_it_lies() {
    let world = World::new(1, targets::registry());
    let (origin, store) = (world.add_disk(Sectors(16)), world.add_disk(Sectors(32)));
    let header = [0x7041_6e53u32, 1, 1, 1].map(u32::to_le_bytes).concat();
    let entries: [(u64, u64); 8] =
        [(0, 5), (1, 2), (2, 3), (3, 9), (7, 6), (8, 7), (9, 4), (10, 8)];
    let area: Vec<u8> = entries
        .iter()
        .flat_map(|(old, new)| [old.to_le_bytes(), new.to_le_bytes()])
        .flatten()
        .collect();
    let data = |chunk: u64| [chunk as u8 ^ 0x5a; 512];
    store.fill(Sector(0), &header);
    store.fill(Sector(1), &area);
    (2..10).for_each(|chunk| store.fill(Sector(chunk), &data(chunk)));
    world.set_up(0, "0 16 snapshot-merge a b P 1");
    world.sim.run_until_idle().expect("the merge ends");
    for (old, new) in entries {
        assert!(*origin.sector(Sector(old)) == data(new), "chunk {old} of the origin");
    }
}

#[test]
fn a_merge_that_is_stopped_goes_on_with_what_is_left_of_the_list() {
    const SIZE: u64 = CHUNKS * CHUNK;
    let mut stopped = Vec::new();
    // A few of the turns after which it is stopped: before each of the goes but the first.
    for turns in [0, 10, 24] {
        let world = World::new(turns, targets::registry());
        let origin = world.add_disk(Sectors(SIZE));
        let store = world.add_disk(Sectors((CHUNKS + 4) * CHUNK));
        [&origin, &store].iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        world.set_up(0, &format!("0 {SIZE} snapshot-origin a"));
        world.set_up(1, &format!("0 {SIZE} snapshot a b P {CHUNK}"));
        let data = pattern(turns, 0, SIZE);
        let write = Bio::write(Sector(0), &data);
        assert_eq!(world.sim.block_on(send(world.device(1), write)), Ok(()));
        let all = (CHUNKS + 2) * CHUNK;
        let told = |allocated: u64| format!("{allocated}/{} {}", (CHUNKS + 4) * CHUNK, 2 * CHUNK);
        assert_eq!(status(&world, 1), told(all));

        [&origin, &store].iter().for_each(|disk| disk.set_speed(Speed::Waits));
        let merge = || specs(&format!("0 {SIZE} snapshot-merge a b P {CHUNK}"));
        for minor in [1, 0] {
            world.suspend(minor, Held::Flush).unwrap();
        }
        world.load(0, merge()).unwrap();
        world.resume(0).unwrap();
        let handle = world.handle();
        world.sim.block_on(async move {
            for _ in 0..turns {
                handle.turn().await;
            }
        });
        world.suspend(0, Held::Flush).unwrap();
        let left = [600, 344, 88, 0].into_iter().find(|left| {
            // Nothing was taken off the list yet, or what is left of it is told.
            status(&world, 0) == told((left + 2) * CHUNK)
        });
        let left = left.unwrap_or_else(|| panic!("{turns} turns: {}", status(&world, 0)));
        stopped.push(left);
        // The same table goes on, or one that reads the store anew.
        if turns != 10 {
            let world = World::with(
                &testkit::Schedule::Random(turns),
                targets::registry(),
                &[origin.clone(), store.clone()],
            );
            world.set_up(0, &format!("0 {SIZE} snapshot-merge a b P {CHUNK}"));
            world.sim.run_until_idle().expect("the merge ends");
            assert_eq!(status(&world, 0), told(2 * CHUNK));
        } else {
            world.resume(0).unwrap();
            world.sim.run_until_idle().expect("the merge ends");
            assert_eq!(status(&world, 0), told(2 * CHUNK));
        }
        assert!(*origin.content() == *data, "after {turns} turns and {left} chunks left");
    }
    assert_eq!(stopped, [344, 88, 88]);
}

/// Half merged, a store is a snapshot's again: what it gives out next is none of what is left.
#[test]
fn a_store_that_is_taken_over_half_merged_gives_out_what_is_free() {
    const SIZE: u64 = CHUNKS * CHUNK;
    let world = World::new(1, targets::registry());
    let origin = world.add_disk(Sectors(SIZE));
    world.add_disk(Sectors((CHUNKS + 4) * CHUNK));
    world.set_up(0, &format!("0 {SIZE} snapshot-origin a"));
    let snapshot = world.set_up(1, &format!("0 {SIZE} snapshot a b P {CHUNK}"));
    // Runs of one chunk each.
    let data = pattern(5, 0, SIZE);
    let bytes = (CHUNK * 512) as usize;
    for chunk in (0..CHUNKS).map(|nr| nr * 7 % CHUNKS) {
        let part = &data[chunk as usize * bytes..][..bytes];
        let write = Bio::write(Sector(chunk * CHUNK), part);
        assert_eq!(world.sim.block_on(send(snapshot.clone(), write)), Ok(()));
    }
    [1, 0].iter().for_each(|minor| drop(world.suspend(*minor, Held::Flush).unwrap()));
    // The third go fails: with the last chunks of the list, from which 88 are left.
    let first = 87 * 7 % CHUNKS * CHUNK;
    origin.inject(Fault::Range(Sector(first), Sectors(1)));
    world.load(0, specs(&format!("0 {SIZE} snapshot-merge a b P {CHUNK}"))).unwrap();
    world.resume(0).unwrap();
    world.sim.run_until_idle().expect("the merge ends");
    assert_eq!(status(&world, 0), "Merge failed");
    origin.heal();
    world.suspend(0, Held::Flush).unwrap();
    // Whose store it was before the merge has to be gone: the two of them are as many as may be.
    let third = world.load(1, specs(&format!("0 {SIZE} snapshot a b P {CHUNK}"))).unwrap_err();
    let kernel = "Snapshot cow pairing for exception table handover failed";
    assert_eq!(third.table.unwrap().kernel, kernel);
    world.execute(Command::DevRemove { id: id(1), open: WhenOpen::Refuse }).unwrap();
    world.create(1).unwrap();
    world.load(1, specs(&format!("0 {SIZE} snapshot a b P {CHUNK}"))).unwrap();
    world.load(0, specs(&format!("0 {SIZE} snapshot-origin a"))).unwrap();
    [1, 0].iter().for_each(|minor| drop(world.resume(*minor).unwrap()));
    let told = |chunks: u64| format!("{}/{} {}", chunks * CHUNK, (CHUNKS + 4) * CHUNK, 2 * CHUNK);
    assert_eq!(status(&world, 1), told(88 + 2));
    // A chunk of the origin that was merged, copied again.
    let merged = 100 * 7 % CHUNKS * CHUNK;
    let write = Bio::write(Sector(merged), &[7; 512]);
    assert_eq!(world.sim.block_on(send(world.device(0), write)), Ok(()));
    assert_eq!(status(&world, 1), told(88 + 3));
    let content = world.sim.block_on(read_all(world.device(1))).unwrap();
    assert!(content == *data, "the snapshot has other data than before");
}

/// Areas of two blocks: the second is written without what lies around it.
#[test]
fn entries_in_the_second_block_of_an_area_leave_the_data_behind_it_alone() {
    const CHUNK: u64 = 16;
    const SIZE: u64 = 600 * CHUNK;
    let world = World::new(1, targets::registry());
    let disks = [Sectors(SIZE), Sectors(SIZE + 4 * CHUNK)].map(|size| world.add_disk(size));
    let table = format!("0 {SIZE} snapshot a b P {CHUNK}");
    let device = world.set_up(0, &table);
    let data = pattern(9, 0, SIZE);
    let write = Bio::write(Sector(0), &data);
    assert_eq!(world.sim.block_on(send(device.clone(), write)), Ok(()));
    assert!(world.sim.block_on(read_all(device)).unwrap() == *data, "as it was written");
    let world = World::with(&testkit::Schedule::Random(2), targets::registry(), &disks);
    let device = world.set_up(0, &table);
    assert!(world.sim.block_on(read_all(device)).unwrap() == *data, "as the store is read anew");
}
