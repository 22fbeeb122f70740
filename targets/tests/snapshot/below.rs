//! Devices below that have only an inactive table while the one above is made, or that change
//! their size later: recorded from Linux 6.12.

use std::sync::Arc;

use sim_core::control::{Command, WhenOpen};
use sim_core::{Bio, BlockDevice, Errno, Held, MappedDevice, Sector, Sectors};
use testkit::{SimDisk, World, id, pattern, read_all, send};

use crate::stack::{disks, specs, status};

fn world(disks: &[Arc<SimDisk>]) -> World {
    World::with(&testkit::Schedule::Random(3), targets::registry(), disks)
}

/// Loads a table and leaves the device without a live one.
fn load(world: &World, minor: u32, table: &str) -> Result<(), Errno> {
    world.load(minor, specs(table)).map(drop).map_err(|failure| failure.errno)
}

fn content(world: &World, device: Arc<MappedDevice>) -> Vec<u8> {
    world.sim.block_on(read_all(device)).expect("a device that is read")
}

/// As `lvcreate -s` goes about it: all tables are loaded first, then resumed from below.
#[test]
fn an_origin_and_its_snapshot_are_made_before_the_device_below_has_a_size() {
    let disks = disks(2);
    let world = world(&disks);
    (0..3).for_each(|minor| drop(world.create(minor).unwrap()));
    load(&world, 0, "0 64 linear a 0").unwrap();
    load(&world, 1, "0 64 snapshot-origin 253:0").unwrap();
    load(&world, 2, "0 64 snapshot 253:0 b P 8").unwrap();
    (0..3).for_each(|minor| drop(world.resume(minor).unwrap()));
    let before = content(&world, world.device(0));
    assert_eq!(content(&world, world.device(1)), before);
    assert_eq!(content(&world, world.device(2)), before);
    let write = Bio::write(Sector(3), &[7; 512]);
    assert_eq!(world.sim.block_on(send(world.device(1), write)), Ok(()));
    assert_eq!(content(&world, world.device(2)), before);
    assert_ne!(content(&world, world.device(1)), before);
}

#[test]
fn a_store_in_memory_is_made_before_its_device_has_a_size_and_one_on_disk_is_not() {
    let disks = disks(2);
    let world = world(&disks);
    (0..2).for_each(|minor| drop(world.create(minor).unwrap()));
    load(&world, 0, "0 128 linear b 0").unwrap();
    assert_eq!(load(&world, 1, "0 64 snapshot a 253:0 P 8"), Err(Errno::IO));
    load(&world, 1, "0 64 snapshot a 253:0 N 8").unwrap();
    (0..2).for_each(|minor| drop(world.resume(minor).unwrap()));
    assert_eq!(status(&world, 1), "0/128 0");
    let data = pattern(5, 0, 16);
    let write = Bio::write(Sector(0), &data);
    assert_eq!(world.sim.block_on(send(world.device(1), write)), Ok(()));
    assert_eq!(status(&world, 1), "16/128 0");
}

/// What a device below cannot do in smaller pieces, nothing above may ask it for.
#[test]
fn blocks_below_are_those_of_an_origin_and_no_chunk_is_smaller() {
    const KEY: &str = "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100";
    let disks = disks(3);
    let world = world(&disks);
    for (minor, disk) in [(0, 'a'), (1, 'b')] {
        let options = "1 sector_size:4096";
        let table = format!("0 128 crypt aes-xts-plain64 {KEY} 0 {disk} 0 {options}");
        world.set_up(minor, &table);
    }
    let origin = world.set_up(2, "0 64 snapshot-origin 253:0");
    assert_eq!(origin.limits().logical_block_size, 4096);
    for (minor, areas) in (3..).zip(["253:0 c", "c 253:1", "253:0 253:1"]) {
        for kind in ["P", "N"] {
            let small = world.try_set_up(minor, &format!("0 64 snapshot {areas} {kind} 4"));
            let why = small.map(drop).unwrap_err();
            assert!(why.to_lowercase().contains("chunk"), "{areas} {kind}: {why}");
            let open = WhenOpen::Refuse;
            world.execute(Command::DevRemove { id: id(minor), open }).unwrap();
        }
        world.set_up(minor, &format!("0 64 snapshot {areas} N 8"));
    }
}

#[test]
fn a_store_whose_device_has_become_longer_is_longer() {
    let disks = disks(2);
    let world = world(&disks);
    world.set_up(0, "0 32 linear b 0");
    // A header, an area, and two chunks of data.
    let device = world.set_up(1, "0 64 snapshot a 253:0 P 8");
    assert_eq!(status(&world, 1), "16/32 16");
    load(&world, 0, "0 64 linear b 0").unwrap();
    world.suspend(0, Held::Flush).unwrap();
    world.resume(0).unwrap();
    assert_eq!(status(&world, 1), "16/64 16");
    let data = pattern(5, 0, 32);
    assert_eq!(world.sim.block_on(send(device, Bio::write(Sector(0), &data))), Ok(()));
    assert_eq!(status(&world, 1), "48/64 16");
}

#[test]
fn a_store_that_is_as_it_was_is_taken_without_a_word_and_another_chunk_size_is_told() {
    let disks = disks(2);
    let words = |table: &str| {
        let world = world(&disks);
        world.set_up(0, table);
        world.take_log()
    };
    assert_eq!(words("0 64 snapshot a b P 8"), Vec::<String>::new());
    assert_eq!(words("0 64 snapshot a b P 8"), Vec::<String>::new());
    let log = words("0 64 snapshot a b P 16");
    assert!(log.len() == 1 && log[0].contains("chunk size 8"), "{log:#?}");
}

/// A device that zeroes nothing by itself is written to, in pieces of 1 MiB.
#[test]
fn a_large_chunk_that_is_discarded_is_zeroed_and_no_other() {
    const KEY: &str = "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100";
    const CHUNK: u64 = 8192;
    let world = World::new(1, targets::registry());
    [2 * CHUNK, 5 * CHUNK].iter().for_each(|size| drop(world.add_disk(Sectors(*size))));
    world.set_up(0, &format!("0 {} crypt aes-xts-plain64 {KEY} 0 b 0", 5 * CHUNK));
    assert_eq!(world.device(0).limits().max_write_zeroes_sectors, 0);
    let zeros = vec![0; (CHUNK * 512) as usize];
    let none = Bio::write(Sector(0), &zeros);
    assert_eq!(world.sim.block_on(send(world.device(0), none)), Ok(()));
    let features = "1 discard_zeroes_cow";
    let table = format!("0 {} snapshot a 253:0 P {CHUNK} {features}", 2 * CHUNK);
    let device = world.set_up(1, &table);
    let data = pattern(3, 0, 2 * CHUNK);
    let write = Bio::write(Sector(0), &data);
    assert_eq!(world.sim.block_on(send(device.clone(), write)), Ok(()));
    let discard = Bio::discard(Sector(CHUNK), Sectors(CHUNK));
    assert_eq!(world.sim.block_on(send(device.clone(), discard)), Ok(()));
    // Read anew, so that the metadata counts too.
    world.suspend(1, Held::Flush).unwrap();
    load(&world, 1, &table).unwrap();
    world.resume(1).unwrap();
    let found = content(&world, device);
    let (kept, zeroed) = found.split_at((CHUNK * 512) as usize);
    assert!(*kept == data[..kept.len()], "a chunk that was not discarded");
    assert!(zeroed.iter().all(|byte| *byte == 0), "a chunk that was");
}
