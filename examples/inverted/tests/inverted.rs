//! What every target must do, and what this one promises besides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use inverted::Inverted;
use sim_core::{Bio, Held, MappedDevice, Sector, Sectors};
use testkit::{SimDisk, Speed, World, send};

testkit::conformance!(Inverted, "0 300 inverted a 10");

/// The sector of the counter: the one after the data.
const COUNTER: Sector = Sector(256);

fn world(seed: u64) -> (World, Arc<SimDisk>, Arc<MappedDevice>) {
    let world = World::new(seed, targets::registry().with::<Inverted>());
    let disk = world.add_disk(Sectors(512));
    let device = world.set_up(0, "0 256 inverted 7:0 0");
    (world, disk, device)
}

/// Reads a count from the bytes of its sector.
fn count(sector: &[u8]) -> u64 {
    match sector.strip_prefix(b"INVERTED") {
        Some(rest) => u64::from_le_bytes(rest[..8].try_into().unwrap()),
        None => 0,
    }
}

#[test]
fn data_lies_inverted_and_reads_as_written() {
    let (world, disk, device) = world(1);
    world.sim.block_on(send(device.clone(), Bio::write(Sector(3), &[0x5a; 1024]))).unwrap();
    assert_eq!(disk.content()[3 * 512..5 * 512], [0xa5; 1024]);
    let mut read = [0; 1024];
    world.sim.block_on(send(device, Bio::read(Sector(3), &mut read))).unwrap();
    assert_eq!(read, [0x5a; 1024]);
}

#[test]
fn a_count_goes_on_where_the_table_before_left_it() {
    let (world, disk, device) = world(2);
    disk.set_speed(Speed::Mixed);
    // Longer than a chunk: two writes for the target.
    world.sim.block_on(send(device.clone(), Bio::write(Sector(0), &[1; 129 * 512]))).unwrap();
    world.suspend(0, Held::Flush).unwrap();
    let lines = sim_core::parse_table("0 256 inverted 7:0 0").unwrap();
    world.load(0, lines.into_iter().map(|(_, spec)| spec).collect()).unwrap();
    world.resume(0).unwrap();
    world.sim.block_on(send(device, Bio::write(Sector(0), &[1; 512]))).unwrap();
    assert_eq!(count(&disk.content()[COUNTER.0 as usize * 512..]), 3);
}

#[test]
fn a_flush_leaves_a_durable_count_of_every_write_that_had_ended() {
    for seed in 0..500 {
        let (world, disk, device) = world(seed);
        let ended = Arc::new(AtomicU64::new(0));
        for task in 0..4 {
            let (device, disk, ended) = (device.clone(), disk.clone(), ended.clone());
            world.sim.start(format!("writer {task}"), async move {
                send(device.clone(), Bio::write(Sector(task), &[7; 512])).await.unwrap();
                let before = ended.fetch_add(1, SeqCst) + 1;
                send(device, Bio::flush()).await.unwrap();
                let durable = count(&disk.durable(COUNTER));
                assert!((before..=4).contains(&durable), "seed {seed}: {durable} of {before}");
            });
        }
        world.sim.run_until_idle().unwrap();
        assert_eq!(count(&disk.durable(COUNTER)), 4, "seed {seed}");
    }
}

#[test]
fn a_write_with_fua_ends_with_a_durable_count() {
    let (world, disk, device) = world(3);
    world.sim.block_on(send(device, Bio::write(Sector(0), &[1; 512]).with_fua())).unwrap();
    assert_eq!(disk.durable(Sector(0)), [0xfe; 512]);
    assert_eq!(count(&disk.durable(COUNTER)), 1);
}
