//! Legs and logs that Linux 6.12 left behind when the power went: the resync goes on from there.

use std::sync::Arc;

use sim_core::{Held, Sector, Sectors, StatusKind};
use testkit::{Fault, SimDisk, Speed, World};

use crate::images::{image, pattern};

fn status(world: &World) -> String {
    let live = world.device(0).live().expect("a table");
    live.status(StatusKind::Info, Default::default()).expect("a status").0[0].params.to_string()
}

/// Loads the images, and returns the status before the resync, and the log after it.
#[track_caller]
fn goes_on(name: &str, before: &str) {
    let world = World::new(1, targets::registry());
    let part = |what: &str, sectors| -> Arc<SimDisk> {
        let disk = world.add_disk(Sectors(sectors));
        disk.fill(Sector(0), &image(&format!("mirror-cut-{name}.{what}")));
        disk
    };
    let (a, b, log) = (part("a", 4096), part("b", 4096), part("log", 64));
    let content = a.content();
    assert!(b.content() != content, "the second leg lacks something");
    // The first read of the resync fails for each of its tasks, and nothing more is tried.
    world.create(0).expect("made");
    let table = sim_core::parse_table("0 4096 mirror disk 2 c 64 2 a 0 b 0 1 handle_errors");
    let specs = table.expect("a line").into_iter().map(|(_, spec)| spec).collect();
    world.load(0, specs).expect("loaded");
    for disk in [&a, &b, &log] {
        disk.set_speed(Speed::AtOnce);
    }
    b.inject(Fault::Range(Sector(0), Sectors(4096)));
    world.resume(0).expect("resumed");
    world.sim.run_until_idle().expect("idle");
    assert_eq!(status(&world), format!("2 7:0 7:1 {before}/64 1 AS 3 disk 7:2 A"));
    b.heal();
    world.suspend(0, Held::Flush).expect("suspended");
    world.resume(0).expect("resumed");
    world.sim.run_until_idle().expect("idle");
    assert_eq!(status(&world), "2 7:0 7:1 64/64 1 AA 3 disk 7:2 A");
    assert!(a.content() == content && b.content() == content, "both legs are as the first was");
    let mut clean = vec![0; 64 * 512];
    clean[..16].copy_from_slice(&[0x72, 0x52, 0x69, 0x4d, 2, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0]);
    clean[1024..1032].fill(0xff);
    assert!(log.content() == clean, "the log is that of a mirror in sync");
}

#[test]
fn a_resync_that_the_kernel_began_goes_on() {
    goes_on("resync", "21");
}

#[test]
fn writes_that_had_reached_one_leg_are_copied_to_the_other() {
    assert!(image("mirror-cut-write.b") == pattern(0, 4096), "none has reached the second leg");
    goes_on("write", "61");
}
