//! Two devices in use that write to one place: whoever brings the second into use is told.

#![allow(clippy::unwrap_used, reason = "a test may")]

use sim_core::control::{Answer, Command, Overlap, WhenOpen};
use sim_core::{Access, Held, Sectors, parse_table};
use testkit::{World, id};

/// Disks 7:0 to 7:2 of 8192 sectors.
fn world() -> World {
    let world = World::new(3, targets::registry());
    (0..3).for_each(|_| drop(world.add_disk(Sectors(8192))));
    world
}

/// Makes a device, and returns what is told at its resume.
fn told(world: &World, minor: u32, table: &str) -> Option<String> {
    told_as(world, minor, table, Access::ReadWrite)
}

fn told_as(world: &World, minor: u32, table: &str, access: Access) -> Option<String> {
    world.create(minor).unwrap();
    load(world, minor, table, access);
    resumed(world, minor)
}

fn load(world: &World, minor: u32, table: &str, access: Access) {
    let targets = parse_table(table).unwrap().into_iter().map(|(_, line)| line).collect();
    let base = String::new();
    world.execute(Command::TableLoad { id: id(minor), access, targets, base }).unwrap();
}

fn resumed(world: &World, minor: u32) -> Option<String> {
    let Ok(Answer::Status(status)) = world.resume(minor) else { panic!("a status") };
    status.overlap.map(|Overlap { other, below, start, len, .. }| {
        format!("{other} on {below}, {start}+{len}")
    })
}

fn named(world: &World, minor: u32) -> String {
    world.status(minor).unwrap().name
}

fn on(world: &World, other: u32, place: &str) -> Option<String> {
    Some(format!("{} on {place}", named(world, other)))
}

#[test]
fn two_devices_that_write_to_one_place_are_told_of_and_neighbours_are_not() {
    let world = world();
    assert_eq!(told(&world, 0, "0 100 linear 7:0 0"), None);
    assert_eq!(told(&world, 1, "0 100 linear 7:0 100"), None);
    assert_eq!(told(&world, 2, "0 100 linear 7:1 0"), None);
    assert_eq!(told(&world, 3, "0 8 zero\n8 100 linear 7:0 150"), on(&world, 1, "7:0, 150+50"));
    let stripes = "0 64 striped 2 8 7:2 0 7:1 96";
    assert_eq!(told(&world, 4, stripes), on(&world, 2, "7:1, 96+4"));
    let own = "0 8 linear 7:2 100\n8 8 linear 7:2 100";
    assert_eq!(told(&world, 5, own), None, "one device may have a place twice");
}

#[test]
fn a_device_below_is_no_overlap_and_two_over_it_are() {
    let world = world();
    assert_eq!(told(&world, 0, "0 100 linear 7:0 0"), None);
    assert_eq!(told(&world, 1, "0 50 linear 253:0 0"), None, "it writes by way of the other");
    assert_eq!(told(&world, 2, "0 50 linear 253:0 40"), on(&world, 1, "253:0, 40+10"));
}

#[test]
fn what_only_reads_is_not_told_of() {
    let world = world();
    assert_eq!(told(&world, 0, "0 100 linear 7:0 0"), None);
    assert_eq!(told_as(&world, 1, "0 100 linear 7:0 0", Access::ReadOnly), None);
    assert_eq!(told(&world, 2, "0 100 error 7:0 0"), None);
    assert_eq!(told_as(&world, 3, "0 100 linear 7:1 0", Access::ReadOnly), None);
    assert_eq!(told(&world, 4, "0 100 linear 7:1 0"), None);
}

#[test]
fn an_origin_with_its_snapshots_is_no_overlap_and_what_goes_round_it_is() {
    let world = world();
    assert_eq!(told(&world, 0, "0 1024 linear 7:0 0"), None);
    assert_eq!(told(&world, 1, "0 1024 snapshot-origin 253:0"), None);
    assert_eq!(told(&world, 2, "0 1024 snapshot 253:0 7:1 P 8"), None);
    assert_eq!(told(&world, 3, "0 1024 snapshot 253:0 7:2 P 8"), None);
    assert_eq!(told(&world, 4, "0 8 linear 253:0 8"), on(&world, 1, "253:0, 8+8"));
    assert_eq!(told(&world, 5, "0 8 linear 7:2 64"), on(&world, 3, "7:2, 64+8"), "its store");
}

#[test]
fn the_log_of_a_mirror_is_written_to_and_the_rest_of_its_device_is_not() {
    let world = world();
    let mirror = "0 1024 mirror disk 3 7:2 1024 nosync 2 7:0 0 7:1 0";
    assert_eq!(told(&world, 0, mirror), None);
    assert_eq!(told(&world, 1, "0 64 linear 7:2 64"), None);
    assert_eq!(told(&world, 2, "0 64 linear 7:1 1000"), on(&world, 0, "7:1, 1000+24"));
    assert!(told(&world, 3, "0 8 linear 7:2 0").is_some());
}

#[test]
fn it_is_told_once_and_again_when_it_is_new_again() {
    let world = world();
    assert_eq!(told(&world, 0, "0 100 linear 7:0 0"), None);
    assert_eq!(told(&world, 1, "0 100 linear 7:0 0"), on(&world, 0, "7:0, 0+100"));
    assert_eq!(resumed(&world, 1), None, "it was in use all the time");
    for minor in [0, 1] {
        world.suspend(minor, Held::Flush).unwrap();
        assert_eq!(resumed(&world, minor), None, "that is known");
    }
    load(&world, 1, "0 100 linear 7:0 50", Access::ReadWrite);
    assert_eq!(resumed(&world, 1), on(&world, 0, "7:0, 50+50"));
    load(&world, 1, "0 100 linear 7:0 200", Access::ReadWrite);
    assert_eq!(resumed(&world, 1), None);
    assert_eq!(told(&world, 2, "0 8 linear 7:0 50"), on(&world, 0, "7:0, 50+8"));
}

#[test]
fn a_suspended_device_writes_nothing_and_a_removed_one_is_forgotten() {
    let world = world();
    assert_eq!(told(&world, 0, "0 100 linear 7:0 0"), None);
    world.suspend(0, Held::Flush).unwrap();
    assert_eq!(told(&world, 1, "0 100 linear 7:0 0"), None, "as tables move from device to device");
    assert_eq!(resumed(&world, 0), on(&world, 1, "7:0, 0+100"));
    for minor in [0, 1] {
        world.execute(Command::DevRemove { id: id(minor), open: WhenOpen::Refuse }).unwrap();
    }
    assert_eq!(told(&world, 0, "0 100 linear 7:0 0"), None);
}
