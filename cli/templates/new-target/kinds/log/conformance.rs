//! What every target must do, and what this one does.

use std::sync::Arc;

use sim_core::{Bio, BlkResult, Held, MappedDevice, Registry, Sector, Sectors};
use testkit::{
    Damage, Explorer, Fault, FaultSpan, Journal, Legal, Plan, Schedule, SimDisk, World, send,
};

use crate_name::{TargetName, seal};

// A test for each part of the suite: the model under any schedule, splits, reloads, garbled tables,
// the flattened map, failing I/O, power cuts, suspends, discards and FUA, messages, bios that are
// given up, and mapped devices below that get their table late, move, or fail; bits and fields on the
// disk that are not what they were; threads; the time of a bio.
testkit::conformance!(
    TargetName,
    "0 256 target-word a 16",
    seal: [a: |disk| seal(&mut disk[16 * 512..])]
);

/// The sector of the superblock, behind the 64 blocks of the data, and of the first record.
const SUPERBLOCK: Sector = Sector(512);
const LOG: Sector = Sector(520);
const TABLE: &str = "0 512 target-word 7:0 0";

/// A store of 64 blocks on a new disk.
fn new() -> (World, Arc<SimDisk>, Arc<MappedDevice>) {
    let world = World::new(1, Registry::new().with::<TargetName>());
    let disk = world.add_disk(Sectors(1024));
    let device = world.set_up(0, TABLE);
    (world, disk, device)
}

/// The same with the power on again: what was in the disk's cache is lost.
fn after_power_cut(world: World) -> (World, Arc<MappedDevice>) {
    let disk = world.disk(0);
    drop(world);
    disk.lose_cache();
    let world = World::with(&Schedule::Random(2), Registry::new().with::<TargetName>(), &[disk]);
    let device = world.set_up(0, TABLE);
    (world, device)
}

fn try_write(world: &World, device: &Arc<MappedDevice>, block: u64, byte: u8) -> BlkResult {
    let data = [byte; 4096];
    let bio = Bio::write(Sector(block * 8), &data).with_fua();
    world.sim.block_on(send(device.clone(), bio))
}

fn write(world: &World, device: &Arc<MappedDevice>, block: u64, byte: u8) {
    try_write(world, device, block, byte).unwrap();
}

fn read(world: &World, device: &Arc<MappedDevice>, block: u64) -> u8 {
    let mut data = [0; 4096];
    world.sim.block_on(send(device.clone(), Bio::read(Sector(block * 8), &mut data))).unwrap();
    assert!(data.iter().all(|byte| *byte == data[0]), "block {block} is mixed");
    data[0]
}

#[test]
fn a_write_is_appended_and_goes_home_at_a_suspend() {
    let (world, disk, device) = new();
    write(&world, &device, 5, 7);
    assert_eq!(disk.sector(Sector(40)), [0; 512]);
    assert_eq!(disk.sector(Sector(LOG.0 + 8)), [7; 512]);
    world.suspend(0, Held::Flush).unwrap();
    assert_eq!(disk.durable(Sector(40)), [7; 512]);
}

#[test]
fn a_log_that_is_full_is_emptied() {
    let (world, _, device) = new();
    for round in 1..=10 {
        (0..64).for_each(|block| write(&world, &device, block, round));
    }
    let (world, device) = after_power_cut(world);
    (0..64).for_each(|block| assert_eq!(read(&world, &device, block), 10));
}

/// Nothing is read from a record that was not written, and the next one is found all the same.
#[test]
fn a_write_that_fails_leaves_no_gap() {
    let (world, disk, device) = new();
    write(&world, &device, 1, 1);
    disk.inject(Fault::At { after: 0, lasts: FaultSpan::Once, damage: Damage::Error });
    assert!(try_write(&world, &device, 1, 9).is_err());
    assert_eq!(read(&world, &device, 1), 1);
    write(&world, &device, 2, 2);
    let (world, device) = after_power_cut(world);
    assert_eq!([read(&world, &device, 1), read(&world, &device, 2)], [1, 2]);
}

/// Crash, use, crash: the second record of the first run is still on the disk when the second run
/// writes the first anew, in front of it.
#[test]
fn what_was_left_behind_the_end_of_the_log_does_not_come_back() {
    let (world, disk, device) = new();
    write(&world, &device, 1, 1);
    write(&world, &device, 2, 2);
    disk.fill(LOG, &[0; 512]); // The first record is lost, and so the second, which is there.
    let (world, device) = after_power_cut(world);
    assert_eq!([read(&world, &device, 1), read(&world, &device, 2)], [0, 0]);
    write(&world, &device, 1, 3);
    let (world, device) = after_power_cut(world);
    assert_eq!([read(&world, &device, 1), read(&world, &device, 2)], [3, 0]);
}

/// Cuts the power at each step of three writes with FUA, and leaves of what the disk's cache had what one
/// can: the block is the last that was acknowledged, or one that was on its way.
#[test]
fn at_every_power_cut_what_was_acknowledged_is_there() {
    let (world, disk, device) = new();
    let (journal, begin) = (Arc::new(Journal::default()), disk.checkpoint());
    disk.record(journal.clone());
    // How long the record was when each had ended.
    let ended = [1, 2, 3].map(|byte| {
        write(&world, &device, 1, byte);
        journal.len()
    });
    drop((world, device));
    let (record, disks) = (journal.take(), [disk]);
    disks[0].rewind(begin);
    let plan = Plan { listed: 100, random: 10, seed: 1 };
    let states = Explorer::new(&disks, &record).run(plan, &mut Legal::new(&[]), |cut, _| {
        let registry = Registry::new().with::<TargetName>();
        let world = World::with(&Schedule::Random(2), registry, &disks);
        let device = world.set_up(0, TABLE);
        let least = ended.iter().filter(|at| **at <= cut.at).count() as u8;
        match read(&world, &device, 1) {
            found if found >= least => Ok(()),
            found => Err(format!("block 1 is {found}, and {least} was acknowledged")),
        }
    });
    assert!(states.unwrap() > 100);
}

#[test]
fn a_record_with_a_flipped_bit_does_not_count() {
    let (world, disk, device) = new();
    write(&world, &device, 1, 1);
    disk.fill(Sector(LOG.0 + 8), &[9; 512]);
    let (world, device) = after_power_cut(world);
    assert_eq!(read(&world, &device, 1), 0);
}

#[test]
fn a_superblock_of_something_else_is_refused() {
    let (world, disk, _) = new();
    drop(world);
    disk.fill(SUPERBLOCK, &[1; 512]);
    let world = World::with(&Schedule::Random(2), Registry::new().with::<TargetName>(), &[disk]);
    let refused = world.try_set_up(0, TABLE).err();
    assert!(refused.is_some_and(|why| why.contains("of something else")));
}
