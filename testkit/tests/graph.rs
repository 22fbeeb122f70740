//! Which device maps onto which: no loop at any moment, none too deep, and nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use sim_core::control::{Answer, Command, Failure, Slot, WhenOpen};
use sim_core::{
    Access, BlockDevice, Errno, Held, MAX_DEPTH, OpenDevice, Sector, Sectors, parse_table,
};
use testkit::{World, id};

fn world(devices: u32) -> World {
    let world = World::new(7, targets::registry());
    world.add_disk(Sectors(1 << 16));
    (0..devices).for_each(|minor| drop(world.set_up(minor, "0 4096 linear 7:0 0")));
    world
}

fn load(minor: u32, table: &str) -> Command {
    let lines = parse_table(table).unwrap().into_iter();
    let targets = lines.map(|(_, line)| line).collect();
    Command::TableLoad { id: id(minor), access: Access::ReadWrite, targets, base: "/".into() }
}

fn errno(result: Result<Answer, Failure>) -> Result<(), Errno> {
    result.map(drop).map_err(|failure| failure.errno)
}

#[test]
fn a_load_that_waits_for_a_device_keeps_others_from_closing_the_circle() {
    let world = world(2);
    world.set_up(9, "0 4096 linear 7:0 8192");
    world.suspend(9, Held::Flush).unwrap();
    // It reads the store on d9, and has d1 open already.
    let control = world.control.clone();
    let waits = world.sim.start("load", async move {
        errno(control.execute(load(0, "0 4096 snapshot 253:1 253:9 P 8")).await)
    });
    world.sim.run_until_idle().unwrap();
    assert!(!waits.is_done());
    assert_eq!(errno(world.execute(load(1, "0 8 linear 253:0 0"))), Err(Errno::LOOP));
    world.resume(9).unwrap();
    world.sim.run_until_idle().unwrap();
    assert_eq!(waits.take(), Some(Ok(())));
    assert!(world.device(1).walk_place(Sector(0)).is_some());
}

#[test]
fn a_table_that_a_resume_is_about_to_swap_in_keeps_its_edges() {
    let world = world(3);
    world.execute(load(0, "0 8 linear 253:2 0")).unwrap();
    world.resume(0).unwrap();
    // A write that waits for d2 keeps d0 from being suspended, and the resume with it.
    world.suspend(2, Held::Flush).unwrap();
    let device = world.device(0);
    let write = world.sim.start("write", async move {
        testkit::send(device, sim_core::Bio::write(Sector(0), &[1; 512])).await
    });
    world.sim.run_until_idle().unwrap();
    world.execute(load(0, "0 8 linear 253:1 0")).unwrap();
    let control = world.control.clone();
    let resume = world.sim.start("resume", async move {
        errno(control.execute(Command::DevResume { id: id(0), held: Held::Flush }).await)
    });
    world.sim.run_until_idle().unwrap();
    assert!(!resume.is_done(), "the table is on its way");
    assert_eq!(errno(world.execute(load(1, "0 8 linear 253:0 0"))), Err(Errno::LOOP));
    world.resume(2).unwrap();
    world.sim.run_until_idle().unwrap();
    assert_eq!((write.take(), resume.take()), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(errno(world.execute(load(1, "0 8 linear 253:0 0"))), Err(Errno::LOOP));
}

#[test]
fn a_stack_is_as_deep_as_the_limit_and_no_deeper() {
    let world = world(1);
    for minor in 1..MAX_DEPTH {
        world.set_up(minor, &format!("0 8 linear 253:{} 0", minor - 1));
    }
    world.create(MAX_DEPTH).unwrap();
    let onto = format!("0 8 linear 253:{} 0", MAX_DEPTH - 1);
    let refused = world.execute(load(MAX_DEPTH, &onto)).unwrap_err();
    assert_eq!(refused.errno, Errno::LOOP);
    assert!(refused.to_string().contains("65 mapped devices on top of one another, of 64 at most"));
    // Nor from below, and not while the table is only inactive.
    world.set_up(100, "0 8 linear 7:0 0");
    assert_eq!(errno(world.execute(load(0, "0 8 linear 253:100 0"))), Err(Errno::LOOP));
    // A layer less makes room.
    world.execute(load(5, "0 8 linear 7:0 0")).unwrap();
    world.resume(5).unwrap();
    world.execute(load(MAX_DEPTH, &onto)).unwrap();
}

#[test]
fn a_table_does_not_end_up_in_another_device_that_has_the_number_by_then() {
    let world = world(2);
    world.set_up(9, "0 4096 linear 7:0 8192");
    world.suspend(9, Held::Flush).unwrap();
    let control = world.control.clone();
    let waits = world.sim.start("load", async move {
        errno(control.execute(load(0, "0 4096 snapshot 253:1 253:9 P 8")).await)
    });
    world.sim.run_until_idle().unwrap();
    world.execute(Command::DevRemove { id: id(0), open: WhenOpen::Refuse }).unwrap();
    world.create(0).unwrap();
    world.resume(9).unwrap();
    world.sim.run_until_idle().unwrap();
    assert_eq!(waits.take(), Some(Err(Errno::NXIO)));
    let Answer::Status(status) =
        world.execute(Command::DevStatus { id: id(0), slot: Slot::Inactive }).unwrap()
    else {
        unreachable!("a status is answered with a status")
    };
    assert!(!status.inactive_present);
}

#[test]
fn a_removed_device_leaves_nothing_at_those_below() {
    let world = world(1);
    let below = world.device(0);
    let idle = Arc::weak_count(&below);
    for _ in 0..10 {
        let above = world.set_up(1, "0 8 linear 253:0 0");
        assert_eq!(world.control.opened_by_tables(&id(0)), Ok(1));
        world.execute(Command::DevRemove { id: id(1), open: WhenOpen::Refuse }).unwrap();
        assert_eq!(world.control.opened_by_tables(&id(0)), Ok(0));
        assert_eq!(Arc::weak_count(&below), idle, "who lies above is forgotten");
        let gone = Arc::downgrade(&above);
        drop(above);
        assert_eq!(gone.strong_count(), 0, "and so is the device");
    }
}

#[test]
fn a_device_is_opened_or_removed_and_never_both() {
    let world = world(1);
    let (device, open) = (world.device(0), |device| OpenDevice::new(device, Access::ReadOnly));
    let remove = || errno(world.execute(Command::DevRemove { id: id(0), open: WhenOpen::Refuse }));
    let held = open(device.clone()).unwrap();
    assert_eq!(remove(), Err(Errno::BUSY));
    drop(held);
    assert_eq!(remove(), Ok(()));
    // Whoever found it before the removal comes too late.
    assert_eq!(open(device.clone()).err(), Some(Errno::NXIO));
    assert_eq!(device.open_count(), 0);
    assert!(device.size().is_zero());
}
