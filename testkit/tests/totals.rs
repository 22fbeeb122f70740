//! What all devices that are shown come to, kept from one change to the next.

#![allow(clippy::unwrap_used, reason = "a test may")]

use sim_core::control::{Command, NewName, WhenOpen};
use sim_core::{Access, Held, OpenDevice, Sectors, parse_table};
use testkit::{World, id};

fn load(world: &World, minor: u32, table: &str) {
    let lines = parse_table(table).unwrap();
    world.load(minor, lines.into_iter().map(|(_, spec)| spec).collect()).unwrap();
}

#[test]
fn totals_follow_every_change_of_what_is_shown() {
    let world = World::new(0, targets::registry());
    let totals = |files, sectors| {
        assert_eq!(world.control.shown_totals(), (files, Sectors(sectors)));
        assert_eq!(world.control.shown_totals(), (files, Sectors(sectors)), "asked again");
        assert_eq!(world.control.shown().len() as u64, files);
    };
    totals(0, 0);
    world.create(0).unwrap();
    totals(0, 0);
    load(&world, 0, "0 16 zero");
    totals(1, 0);
    world.resume(0).unwrap();
    totals(1, 16);
    world.set_up(1, "0 8 zero");
    totals(2, 24);
    // Another table, of another size.
    load(&world, 0, "0 40 error");
    totals(2, 24);
    world.suspend(0, Held::Flush).unwrap();
    world.resume(0).unwrap();
    totals(2, 48);
    world.execute(Command::DevRename { id: id(1), new: NewName::Name("x".to_owned()) }).ok();
    totals(2, 48);
    let open = OpenDevice::new(world.device(0), Access::ReadOnly).unwrap();
    world.execute(Command::DevRemove { id: id(0), open: WhenOpen::Defer }).unwrap();
    totals(2, 48);
    drop(open);
    world.control.reap();
    totals(1, 8);
    world.execute(Command::DevRemove { id: id(1), open: WhenOpen::Refuse }).unwrap();
    totals(0, 0);
}
