//! What the flattened map of a stack is made of: as few runs as there are, and no fewer.

use sim_core::{BlockDevice, DevNumber, MappedDevice, Sector, Sectors};
use testkit::World;

const KEY: &str = "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100";

/// A disk with 1024 sectors, twice.
fn world() -> World {
    let world = World::new(7, targets::registry());
    (0..2).for_each(|_| drop(world.add_disk(Sectors(1024))));
    world
}

/// Tells where the first sector of each 8 ends up: a disk and its sector.
fn places(device: &MappedDevice) -> Vec<Option<(u32, u64)>> {
    let place = |at| device.flat_place(Sector(at)).map(|(disk, to)| (minor(disk), to.0));
    (0..device.size().0).step_by(8).map(place).collect()
}

fn minor(disk: DevNumber) -> u32 {
    (0..2).find(|minor| disk == format!("7:{minor}").parse().expect("a number")).expect("a disk")
}

#[test]
fn runs_that_go_on_below_are_one() {
    let world = world();
    let lines = |lines: &[&str]| -> String {
        let line = |(at, words): (usize, &&str)| format!("{} 8 {words}\n", at * 8);
        lines.iter().enumerate().map(line).collect()
    };
    let crypt = format!("crypt aes-xts-plain64 {KEY} 0 7:0 0");
    let cases: [(&[&str], usize); 8] = [
        (&["linear 7:0 100", "linear 7:0 108", "linear 7:0 116", "linear 7:0 124"], 1),
        (&["linear 7:0 100", "linear 7:0 200", "linear 7:0 208", "linear 7:0 216"], 2),
        (&["linear 7:0 100", "linear 7:1 108", "linear 7:0 116"], 3),
        (&["zero", "zero", "zero", "error"], 2),
        (&["error", "error", "error", "zero"], 2),
        (&["zero", "error", "zero"], 3),
        (&[&crypt, &crypt, "linear 7:0 16"], 2),
        (&["linear 7:0 16", &crypt, "zero", &crypt], 4),
    ];
    for (minor, (table, runs)) in (0..).zip(cases) {
        let device = world.set_up(minor, &lines(table));
        assert_eq!(device.extents(), Some(runs), "{table:?}");
    }
}

#[test]
fn runs_that_only_look_like_one_stay_apart() {
    let world = world();
    // Each third line begins where a sum gone wrong would look for the second one's end.
    for (minor, third) in (0..).zip([8, 92, 100, 108, 116, 124, 132, 140, 148, 208]) {
        let table = format!("0 8 linear 7:0 500\n8 16 linear 7:0 100\n24 8 linear 7:0 {third}");
        let device = world.set_up(minor, &table);
        let expected = [500, 100, 108, third].map(|to| Some((0, to)));
        assert_eq!(places(&device), expected, "{table}");
        let runs = if third == 116 { 2 } else { 3 };
        assert_eq!(device.extents(), Some(runs), "{table}");
    }
}

#[test]
fn what_was_discarded_reads_as_zeros_below_what_only_moves_bios() {
    let world = world();
    // A store for each snapshot.
    (2..6).for_each(|_| drop(world.add_disk(Sectors(1024))));
    let crypt = format!("0 64 crypt aes-xts-plain64 {KEY} 0 7:0 0 1 allow_discards");
    let tables = [
        ("0 64 linear 7:0 0", true),
        (&*crypt, false),
        ("0 64 linear 253:0 0", true),
        ("0 64 linear 253:1 0", false),
        ("0 32 linear 7:0 0\n32 32 linear 253:1 0", false),
        ("0 64 snapshot 7:0 7:1 N 8", false),
        ("0 64 snapshot 7:1 7:0 N 8 1 discard_zeroes_cow", true),
        // Each line by itself.
        ("0 64 linear 7:0 0\n64 64 snapshot 7:1 7:2 N 8 1 discard_zeroes_cow", true),
        ("0 64 linear 253:1 0\n64 64 snapshot 7:1 7:3 N 8 1 discard_zeroes_cow", false),
        ("0 64 linear 7:0 0\n64 64 snapshot 7:1 7:4 N 8", false),
        ("0 64 snapshot 7:1 7:5 N 8 1 discard_zeroes_cow\n64 64 linear 253:0 0\n128 64 zero", true),
    ];
    for (minor, (table, zeroes)) in (0..).zip(tables) {
        assert_eq!(world.set_up(minor, table).discard_zeroes(), zeroes, "{table}");
    }
    world.create(99).expect("a device");
    assert!(world.device(99).discard_zeroes(), "without a table");
}
