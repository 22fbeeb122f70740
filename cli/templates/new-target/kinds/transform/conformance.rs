//! What every target must do, and what this one does.

use sim_core::{Bio, Registry, Sector, Sectors};
use testkit::{World, send};

use crate_name::TargetName;

// A test for each part of the suite: the model under any schedule, splits, reloads, garbled tables,
// the flattened map, failing I/O, power cuts, suspends, discards and FUA, messages, bios that are
// given up, and mapped devices below that get their table late, move, or fail.
testkit::conformance!(TargetName, "0 512 target-word a 16 00000000deadbeef");

#[test]
fn bios_go_where_they_came_and_long_ones_in_parts() {
    let (registry, table) = (Registry::new().with::<TargetName>(), "0 512 target-word a 16 1");
    testkit::check(&registry, table, "R 0+8, W 9+2", "R a 16+8, W a 25+2");
    testkit::check(&registry, table, "R 250+8", "R a 266+6, R a 272+2");
    testkit::check(&registry, table, "F", "F a");
}

#[test]
fn what_lies_below_is_changed_by_key_and_sector() {
    let world = World::new(1, Registry::new().with::<TargetName>());
    let disk = world.add_disk(Sectors(64));
    let device = world.set_up(0, "0 64 target-word 7:0 0 0xff");
    for sector in [3, 4] {
        world.sim.block_on(send(device.clone(), Bio::write(Sector(sector), &[7; 512]))).unwrap();
    }
    let (third, fourth) = (disk.sector(Sector(3)), disk.sector(Sector(4)));
    assert!(third != [7; 512] && third != fourth);
    // The same below reads as something else with another key.
    let other = world.set_up(1, "0 64 target-word 7:0 0 0xfe");
    let mut read = [0; 512];
    world.sim.block_on(send(other, Bio::read(Sector(3), &mut read))).unwrap();
    assert_ne!(read, [7; 512]);
}
