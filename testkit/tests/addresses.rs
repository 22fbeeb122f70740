//! Addresses past 2^64 begin again at zero, as the kernel's do: over a device that had no size
//! yet when the table was loaded, no check keeps a table from them.
//!
//! What is expected was recorded from Linux 6.12.

#![allow(clippy::unwrap_used, reason = "a test may")]

use sim_core::{Bio, BlkError, Sector, Sectors, parse_table};
use testkit::{World, id, send};

/// d0 is 1024 sectors of a disk on which each sector holds its number; the others are loaded over
/// it before it has a table in use.
fn world(folding: bool) -> World {
    let world = World::new(3, targets::registry());
    let disk = world.add_disk(Sectors(2048));
    for sector in 0..2048u64 {
        let bytes = sector.to_le_bytes().repeat(64);
        world.sim.block_on(send(disk.clone(), Bio::write(Sector(sector), &bytes))).unwrap();
    }
    let load = |minor, table: &str| {
        let lines = parse_table(table).unwrap().into_iter();
        world.create(minor).unwrap();
        world.load(minor, lines.map(|(_, line)| line).collect()).unwrap();
    };
    load(0, "0 1024 linear 7:0 0");
    load(1, "0 8 linear 253:0 18446744073709551615");
    load(2, "0 8 linear 253:0 1020");
    load(3, "0 16 striped 2 8 253:0 18446744073709551612 253:0 16");
    load(4, "0 8 linear 253:1 0");
    for minor in [1, 2, 3, 4, 0] {
        world.resume(minor).unwrap();
        world.device(minor).set_folding(folding);
    }
    world
}

fn read(world: &World, minor: u32, sector: u64, sectors: u64) -> Result<u64, BlkError> {
    let mut buffer = vec![0; Sectors(sectors).bytes() as usize];
    let bio = Bio::read(Sector(sector), &mut buffer);
    world.sim.block_on(send(world.device(minor), bio))?;
    Ok(u64::from_le_bytes(buffer[..8].try_into().unwrap()))
}

#[test]
fn a_range_that_begins_before_the_last_sector_goes_on_at_the_first() {
    let failed = Err(BlkError::Io);
    for folding in [true, false] {
        let world = world(folding);
        for (minor, sector, expected) in [
            (1, 0, failed),
            (1, 1, Ok(0)),
            (1, 2, Ok(1)),
            (1, 7, Ok(6)),
            (2, 0, Ok(1020)),
            (2, 3, Ok(1023)),
            (2, 4, failed),
            (2, 7, failed),
            (3, 0, failed),
            (3, 3, failed),
            (3, 4, Ok(0)),
            (3, 5, Ok(1)),
            (3, 7, Ok(3)),
            (3, 8, Ok(16)),
            (4, 0, failed),
            (4, 1, Ok(0)),
        ] {
            let found = read(&world, minor, sector, 1);
            assert_eq!(found, expected, "d{minor}, sector {sector}, folding {folding}");
        }
        assert_eq!(read(&world, 1, 0, 8), failed, "across the end of all addresses");
        assert_eq!(read(&world, 2, 0, 8), failed, "across the end of the device");
        assert_eq!(read(&world, 1, 1, 7), Ok(0));
    }
}

#[test]
fn every_operation_over_such_a_table_ends() {
    for (folding, seed) in [(true, 0), (false, 1)] {
        let world = world(folding);
        for minor in [1, 2, 3, 4] {
            for (at, len) in [(0, 1), (0, 8), (1, 7), (3, 4), (7, 1)] {
                let device = world.device(minor);
                let ends = |bio| world.sim.block_on(send(device.clone(), bio));
                let data = vec![seed; Sectors(len).bytes() as usize];
                let _ = ends(Bio::write(Sector(at), &data));
                let _ = ends(Bio::write(Sector(at), &data).with_fua());
                let _ = ends(Bio::discard(Sector(at), Sectors(len)));
                let _ = ends(Bio::write_zeroes(Sector(at), Sectors(len)));
                let _ = ends(Bio::flush());
                let _ = device.walk_place(Sector(at));
                let _ = device.flat_place(Sector(at));
                let (_, run) = sim_core::BlockDevice::run_at(&*device, Sector(at));
                assert!(!run.is_zero());
            }
        }
        assert!(
            world
                .execute(sim_core::control::Command::DevStatus {
                    id: id(0),
                    slot: sim_core::control::Slot::Live
                })
                .is_ok()
        );
    }
}
