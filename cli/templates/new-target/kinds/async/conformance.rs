//! What every target must do, and what this one does.

use std::sync::Arc;
use std::time::Duration;

use sim_core::control::{Command, Slot};
use sim_core::{Bio, Held, MappedDevice, Registry, Runtime, Sector, Sectors};
use testkit::{World, id, send};

use crate_name::TargetName;

// A test for each part of the suite: the model under any schedule, splits, reloads, garbled tables,
// the flattened map, failing I/O, power cuts, suspends, discards and FUA, messages, bios that are
// given up, and mapped devices below that get their table late, move, or fail.
testkit::conformance!(TargetName, "0 512 target-word a 16 40");

fn world(table: &str) -> (World, Arc<MappedDevice>) {
    let world = World::new(1, Registry::new().with::<TargetName>());
    world.add_disk(Sectors(64));
    let device = world.set_up(0, table);
    (world, device)
}

/// Sends a message to the target, as `dmsim message d0 0 ...` does.
fn message(world: &World, words: &str) -> Result<(), String> {
    let (message, slot) = (words.into(), Slot::Live);
    let command = Command::TargetMsg { id: id(0), sector: Sector(0), message, slot };
    world.execute(command).map(drop).map_err(|failure| failure.to_string())
}

/// Starts a write, and lets it come to where it is held.
fn held(world: &World, device: &Arc<MappedDevice>) -> testkit::Started<Duration> {
    let (device, handle) = (device.clone(), world.handle());
    let write = world.sim.start("write", async move {
        send(device, Bio::write(Sector(0), &[7; 512])).await.unwrap();
        handle.now()
    });
    let handle = world.handle();
    world.sim.block_on(async { handle.sleep(Duration::from_millis(1)).await });
    write
}

#[test]
fn a_bio_is_held_for_its_time() {
    let (world, device) = world("0 64 target-word 7:0 0 60000");
    let write = held(&world, &device);
    world.sim.run_until_idle().unwrap();
    assert_eq!(write.take(), Some(Duration::from_secs(60)));
}

#[test]
fn a_message_changes_the_time_of_those_held_too() {
    let (world, device) = world("0 64 target-word 7:0 0 60000");
    let write = held(&world, &device);
    message(&world, "delay 100").unwrap();
    world.sim.run_until_idle().unwrap();
    assert_eq!(write.take(), Some(Duration::from_millis(100)));
    assert!(message(&world, "delay").unwrap_err().contains("expected the message delay <ms>"));
}

#[test]
fn a_suspend_lets_all_go() {
    let (world, device) = world("0 64 target-word 7:0 0 60000");
    let write = held(&world, &device);
    world.suspend(0, Held::Flush).unwrap();
    assert!(write.take().is_some_and(|when| when < Duration::from_secs(1)));
}
