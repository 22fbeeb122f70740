//! What a mirror makes of a bio, what it says, and what it takes.

use std::time::Duration;

use sim_core::control::{Answer, Command, Slot};
use sim_core::{Bio, BlkError, BlockDevice, Held, Runtime, Sector, Sectors, StatusKind};
use testkit::{Fault, Speed, World, id, send};

#[track_caller]
fn check(table: &str, bios: &str, ios: &str) {
    testkit::check(&targets::registry(), table, bios, ios);
}

#[test]
fn a_mirror_in_sync_is_read_on_its_first_leg_and_written_on_all() {
    let table = "0 64 mirror core 2 16 nosync 2 a 100 b 200";
    check(table, "R 4+8", "R a 104+8");
    check(table, "W 4+8, W 20+2 fua", "W a 104+8, W b 204+8, W a 120+2 fua, W b 220+2 fua");
    check(table, "F", "F a, F b");
    check(table, "D 4+40", "D a 104+40, D b 204+40");
    check(table, "Z 0+8", "EOPNOTSUPP");
}

#[test]
fn a_bio_is_cut_at_regions() {
    let table = "0 60 mirror core 2 16 nosync 3 a 0 b 0 c 0";
    check(table, "R 10+10", "R a 10+6, R a 16+4");
    check(table, "W 44+10", "W a 44+4, W a 48+6, W b 44+4, W b 48+6, W c 44+4, W c 48+6");
    check(table, "R 50+20", "EIO");
}

#[test]
fn a_clean_region_is_marked_first_and_marks_of_several_share_a_write() {
    let table = "0 64 mirror disk 3 c 16 nosync 2 a 0 b 0";
    check(table, "W 0+8", "F c, W a 0+8, W b 0+8, W c 0+3");
    check(table, "W 10+22", "F c, W a 10+6, W a 16+16, W b 10+6, W b 16+16, W c 0+3");
    // The next write of the region costs the log nothing.
    check(table, "W 0+8, W 2+2", "F c, W a 0+8, W b 0+8, W c 0+3, W a 2+2, W b 2+2");
}

fn world(disks: usize) -> World {
    let world = World::new(1, targets::registry());
    for _ in 0..disks {
        world.add_disk(Sectors(64)).set_speed(Speed::AtOnce);
    }
    world
}

fn status(world: &World) -> String {
    let live = world.device(0).live().expect("a table");
    live.status(StatusKind::Info, Default::default()).expect("no panic").0[0].params.to_string()
}

fn write(world: &World, sector: u64) -> Result<(), BlkError> {
    let data = [7; 512];
    world.sim.block_on(send(world.device(0), Bio::write(Sector(sector), &data)))
}

fn read(world: &World, sector: u64) -> Result<(), BlkError> {
    let mut data = [0; 512];
    world.sim.block_on(send(world.device(0), Bio::read(Sector(sector), &mut data)))
}

#[test]
fn a_device_that_is_closed_has_a_clean_log_while_nobody_writes() {
    let world = world(3);
    world.set_up(0, "0 64 mirror disk 3 c 16 nosync 2 a 0 b 0");
    let clean = || world.disk(2).look(Sector(2), Sectors(1), |bits| bits[0] & 15);
    assert_eq!(write(&world, 20), Ok(()));
    assert_eq!(clean(), 13);
    // On the spot: no time passes here, and the next region is marked by a write that waits.
    world.disk(0).set_speed(Speed::Waits);
    let device = world.device(0);
    let begun = world
        .sim
        .start("write", async move { send(device, Bio::write(Sector(40), &[7; 512])).await });
    let (device, before) = (world.device(0), world.handle().now());
    world.sim.block_on(async move { device.closed().await });
    assert_eq!(clean() | 4, 15);
    assert_eq!(world.handle().now() - before, Duration::ZERO);
    world.sim.run_until_idle().expect("idle");
    assert_eq!(begun.take(), Some(Ok(())));
}

#[test]
fn regions_are_clean_soon_after_the_last_of_several_writes() {
    let world = world(3);
    world.set_up(0, "0 64 mirror disk 3 c 16 nosync 2 a 0 b 0");
    let pass = |time| world.sim.block_on(world.handle().sleep(Duration::from_millis(time)));
    for sector in 20..30 {
        assert_eq!(write(&world, sector), Ok(()));
        pass(1);
    }
    // What comes next may be that the log's device fails, and whoever writes it waits.
    pass(10);
    world.disk(2).look(Sector(2), Sectors(1), |bits| assert_eq!(bits[0] & 15, 15));
}

#[test]
fn each_letter_of_a_legs_health_shows() {
    let broken = |table: &str, bio: &dyn Fn(&World)| {
        let world = world(3);
        world.set_up(0, table);
        world.sim.run_until_idle().expect("idle");
        bio(&world);
        status(&world)
    };
    let all = Fault::Range(Sector(0), Sectors(64));
    let core = "0 32 mirror core 2 8 nosync 2 a 0 b 0 1 handle_errors";
    let reads = broken(core, &|world| {
        world.disk(0).inject(all);
        assert_eq!(read(world, 3), Ok(()));
    });
    assert_eq!(reads, "2 7:0 7:1 4/4 1 RA 1 core");
    let keep = "0 32 mirror core 2 8 nosync 2 a 0 b 0 2 handle_errors keep_log";
    let writes = broken(keep, &|world| {
        world.disk(1).inject(all);
        assert_eq!(write(world, 3), Ok(()));
    });
    assert_eq!(writes, "2 7:0 7:1 3/4 1 AD 1 core");
    let world = world(2);
    world.disk(1).inject(Fault::Range(Sector(8), Sectors(1)));
    world.set_up(0, "0 32 mirror core 1 8 2 a 0 b 0 1 handle_errors");
    world.sim.run_until_idle().expect("idle");
    assert_eq!(status(&world), "2 7:0 7:1 3/4 1 AS 1 core");
    let log =
        broken("0 32 mirror disk 3 c 8 nosync 2 a 0 b 0 2 handle_errors keep_log", &|world| {
            world.disk(2).inject(all);
            assert_eq!(write(world, 3), Err(BlkError::Io));
        });
    assert_eq!(log, "2 7:0 7:1 4/4 1 AA 3 disk 7:2 D");
    let flush = broken("0 32 mirror disk 3 c 8 nosync 2 a 0 b 0", &|world| {
        // The mark is written; its flush is the second that the log's disk is asked for.
        world.disk(2).inject(Fault::After(1));
        assert_eq!(write(world, 3), Ok(()));
    });
    assert_eq!(flush, "2 7:0 7:1 4/4 1 AA 3 disk 7:2 F");
    let legs = broken("0 32 mirror disk 3 c 8 nosync 2 a 0 b 0", &|world| {
        assert_eq!(write(world, 3), Ok(()));
        world.disk(1).inject(Fault::After(0));
        world.sim.run_until_idle().expect("idle");
    });
    assert_eq!(legs, "2 7:0 7:1 4/4 1 AF 3 disk 7:2 A");
}

#[test]
fn a_large_write_is_on_all_legs_and_a_fault_in_a_part_of_it_is_found() {
    // Several pieces, of which the last is a short one.
    const LEN: u64 = 1100;
    let data: Vec<u8> = (0..LEN * 512).map(|at| (at / 512 * 7 + at % 251) as u8).collect();
    let table = "0 2048 mirror core 2 2048 nosync 3 a 0 b 0 c 0 2 handle_errors keep_log";
    for seed in 0..40 {
        let world = World::new(seed, targets::registry());
        let speed = if seed.is_multiple_of(2) { Speed::AtOnce } else { Speed::Mixed };
        (0..3).for_each(|_| world.add_disk(Sectors(2048)).set_speed(speed));
        world.set_up(0, table);
        let faulty = seed.is_multiple_of(3);
        if faulty {
            world.disk(1).inject(Fault::Range(Sector(100 + seed * 28), Sectors(1)));
        }
        let bio = Bio::write(Sector(100), &data);
        assert_eq!(world.sim.block_on(send(world.device(0), bio)), Ok(()), "seed {seed}");
        for leg in (0..3).filter(|leg| *leg != 1 || !faulty) {
            let there = world.disk(leg).content()[100 * 512..][..data.len()] == data;
            assert!(there, "seed {seed}: leg {leg} has other data");
        }
        let expected = if faulty { "0/1 1 ADA" } else { "1/1 1 AAA" };
        assert_eq!(status(&world), format!("3 7:0 7:1 7:2 {expected} 1 core"), "seed {seed}");
    }
}

#[test]
fn the_resync_keeps_to_its_rate() {
    let world = world(2);
    // The first resync comes to nothing.
    world.disk(1).inject(Fault::Range(Sector(0), Sectors(64)));
    world.set_up(0, "0 64 mirror core 1 16 2 a 0 b 0 1 handle_errors");
    world.sim.run_until_idle().expect("idle");
    world.disk(1).heal();
    world.suspend(0, Held::Flush).expect("suspended");
    let message = |text: &str| {
        let (sector, message) = (Sector(0), text.into());
        world.execute(Command::TargetMsg { id: id(0), sector, message, slot: Slot::Live })
    };
    message("resync_rate 32").expect("a rate");
    match message("resync_rate").expect("an answer") {
        Answer::Text(text) => assert_eq!(text.as_deref(), Some("32")),
        other => panic!("{other:?}"),
    }
    for bad in ["resync_rate x", "resync_rate -1", "resync_rate 1 2", "rate 1", ""] {
        assert!(message(bad).is_err(), "{bad}");
    }
    let before = world.handle().now();
    world.resume(0).expect("resumed");
    world.sim.run_until_idle().expect("idle");
    assert_eq!(status(&world), "2 7:0 7:1 4/4 1 AA 1 core");
    let took = world.handle().now() - before;
    assert!(took >= Duration::from_millis(1500), "{took:?} for 64 sectors at 32 a second");
}

#[test]
fn another_rate_counts_at_once() {
    let world = world(2);
    world.disk(1).inject(Fault::Range(Sector(0), Sectors(64)));
    world.set_up(0, "0 64 mirror core 1 16 2 a 0 b 0 1 handle_errors");
    world.sim.run_until_idle().expect("idle");
    world.disk(1).heal();
    world.suspend(0, Held::Flush).expect("suspended");
    let message = |text: &str| {
        let (sector, message) = (Sector(0), text.into());
        world
            .execute(Command::TargetMsg { id: id(0), sector, message, slot: Slot::Live })
            .expect("a rate");
    };
    // Sixteen seconds for each region.
    message("resync_rate 1");
    let before = world.handle().now();
    world.resume(0).expect("resumed");
    let handle = world.handle();
    world.sim.block_on(async move { handle.sleep(Duration::from_millis(100)).await });
    assert_ne!(status(&world), "2 7:0 7:1 4/4 1 AA 1 core");
    message("resync_rate 0");
    world.sim.run_until_idle().expect("idle");
    assert_eq!(status(&world), "2 7:0 7:1 4/4 1 AA 1 core");
    let took = world.handle().now() - before;
    assert!(took < Duration::from_secs(2), "{took:?}, though there is no limit any more");
}

#[test]
fn a_held_write_fails_at_a_suspend_or_waits_for_the_resume() {
    for (held, ends) in [(Held::Flush, Some(Err(BlkError::Io))), (Held::NoFlush, None)] {
        let world = world(2);
        let device = world.set_up(0, "0 32 mirror core 2 8 nosync 2 a 0 b 0 1 handle_errors");
        world.disk(1).inject(Fault::Range(Sector(0), Sectors(64)));
        let write = world.sim.start("writes", async move {
            send(device as std::sync::Arc<dyn BlockDevice>, Bio::write(Sector(3), &[1; 512])).await
        });
        world.sim.run_until_idle().expect("idle");
        assert!(!write.is_done(), "a write that a leg lacks is held");
        world.suspend(0, held).expect("suspended");
        world.sim.run_until_idle().expect("idle");
        assert_eq!(write.take(), ends, "{held:?}");
        world.disk(1).heal();
        world.resume(0).expect("resumed");
        world.sim.run_until_idle().expect("idle");
        if ends.is_none() {
            assert_eq!(write.take(), Some(Ok(())));
        }
        assert_eq!(status(&world), "2 7:0 7:1 4/4 1 AA 1 core");
        let same =
            (0..32).all(|at| world.disk(0).sector(Sector(at)) == world.disk(1).sector(Sector(at)));
        assert!(same, "legs differ after the resync");
    }
}

#[test]
fn lines_that_repeat_are_limited_as_the_kernels_are() {
    let world = world(2);
    world.disk(1).inject(Fault::Range(Sector(0), Sectors(64)));
    world.set_up(0, "0 64 mirror core 1 2 2 a 0 b 0");
    world.sim.run_until_idle().expect("idle");
    // 32 regions, of which the first ten are told; all count as in sync, as the kernel has it.
    let log = world.take_log();
    let line = "device-mapper: raid1: Write error during recovery (error = 0x1)";
    assert_eq!(log, vec![line; 10]);
    assert_eq!(status(&world), "2 7:0 7:1 32/32 1 AA 1 core");
    // What the kernel forgets is kept here: the second leg is not read.
    world.disk(1).heal();
    world.disk(0).inject(Fault::Range(Sector(0), Sectors(64)));
    assert_eq!(read(&world, 3), Err(BlkError::Io));
}

#[test]
fn a_mirror_says_which_leg_is_behind_where_and_whether_it_goes_on() {
    let world = world(2);
    let ask = |text: &str| {
        let message = Command::TargetMsg {
            id: id(0),
            sector: Sector(0),
            message: text.into(),
            slot: Slot::Live,
        };
        match world.execute(message).expect("an answer") {
            Answer::Text(Some(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    world.disk(1).inject(Fault::Range(Sector(8), Sectors(1)));
    world.set_up(0, "0 64 mirror core 1 8 2 a 0 b 0 1 handle_errors");
    assert_eq!(ask("resync"), "running");
    world.sim.run_until_idle().expect("idle");
    assert_eq!((ask("behind"), ask("resync")), ("- 1+1".to_owned(), "idle".to_owned()));
    world.disk(1).heal();
    world.suspend(0, Held::NoFlush).expect("it runs");
    world.resume(0).expect("it is suspended");
    world.sim.run_until_idle().expect("idle");
    assert_eq!((ask("behind"), ask("resync")), ("- -".to_owned(), "idle".to_owned()));
    // The first leg fails a write: it is behind then.
    world.disk(0).inject(Fault::Range(Sector(24), Sectors(1)));
    let bio = world.device(0);
    let write =
        world.sim.start("write", async move { send(bio, Bio::write(Sector(24), &[7; 512])).await });
    world.sim.run_until_idle().expect("idle");
    assert!(!write.is_done(), "it is held");
    assert_eq!(ask("behind"), "3+1 -");
}

#[test]
fn a_write_that_finds_the_only_leg_bad_that_has_the_data_is_held() {
    let world = world(2);
    // Nothing gets copied.
    world.disk(1).inject(Fault::Range(Sector(0), Sectors(64)));
    world.set_up(0, "0 64 mirror core 1 16 2 a 0 b 0 1 handle_errors");
    world.sim.run_until_idle().expect("idle");
    // A mirror that has forgotten about it.
    world.disk(1).heal();
    world.suspend(0, Held::NoFlush).expect("it runs");
    let table = sim_core::parse_table("0 64 mirror core 1 16 2 a 0 b 0 1 handle_errors");
    let lines = table.expect("a table").into_iter().map(|(_, line)| line).collect();
    world.load(0, lines).expect("a table");
    let (sector, message) = (Sector(0), "resync_rate 1".into());
    let limit = Command::TargetMsg { id: id(0), sector, message, slot: Slot::Inactive };
    world.execute(limit).expect("a rate, before it is in use");
    world.disk(0).inject(Fault::Range(Sector(40), Sectors(1)));
    world.resume(0).expect("it is suspended");
    let device = world.device(0);
    let writes = world
        .sim
        .start("writes", async move { send(device, Bio::write(Sector(40), &[1; 512])).await });
    let handle = world.handle();
    world.sim.block_on(async move { handle.sleep(Duration::from_millis(10)).await });
    assert!(!writes.is_done(), "it is held");
    assert_eq!(status(&world).split(' ').nth(5), Some("DA"));
    world.disk(0).heal();
    world.suspend(0, Held::NoFlush).expect("it runs");
    world.resume(0).expect("it is suspended");
    world.sim.run_until_idle().expect("idle");
    assert_eq!(writes.take(), Some(Ok(())));
    assert_eq!(status(&world), "2 7:0 7:1 4/4 1 AA 1 core");
}
