//! What a mirror says of faults, to the log and as events, and which lines it refuses.

use sim_core::control::{Answer, Command, Slot};
use sim_core::{Bio, BlkError, Fails, Flags, Held, Sector, Sectors};
use testkit::{Fault, Speed, World, id, send};

const ALL: Fault = Fault::Range(Sector(0), Sectors(64));

fn world(disks: usize) -> World {
    seeded(1, disks)
}

fn seeded(seed: u64, disks: usize) -> World {
    let world = World::new(seed, targets::registry());
    for _ in 0..disks {
        world.add_disk(Sectors(64)).set_speed(Speed::AtOnce);
    }
    world
}

fn write(world: &World, sector: u64) -> Result<(), BlkError> {
    world.sim.block_on(send(world.device(0), Bio::write(Sector(sector), &[7; 512])))
}

fn events(world: &World) -> u32 {
    world.status(0).expect("a device").event_nr
}

#[test]
fn a_log_that_fails_is_one_event_however_often_it_is_asked() {
    let world = world(3);
    world.set_up(0, "0 32 mirror disk 3 c 8 nosync 2 a 0 b 0 2 handle_errors keep_log");
    world.sim.run_until_idle().expect("idle");
    let before = events(&world);
    world.disk(2).inject(ALL);
    for sector in [3, 11, 3, 19] {
        assert_eq!(write(&world, sector), Err(BlkError::Io));
        assert_eq!(events(&world) - before, 1);
    }
}

#[test]
fn a_first_leg_that_fails_out_of_sync_stays_the_first_unless_the_log_is_kept() {
    let line = "device-mapper: raid1: Primary mirror (7:0) failed while out-of-sync: \
                Reads may fail.";
    for (features, stays) in [("1 handle_errors", true), ("2 handle_errors keep_log", false)] {
        let world = world(2);
        world.disk(0).inject(ALL);
        world.set_up(0, &format!("0 32 mirror core 1 32 2 a 0 b 0 {features}"));
        world.sim.run_until_idle().expect("idle");
        let log = world.take_log();
        assert_eq!(log.iter().any(|said| said == line), stays, "{features}: {log:#?}");
        assert_eq!(events(&world), 1, "{features}");
    }
    // In sync it is said of no leg.
    let world = world(2);
    world.set_up(0, "0 32 mirror core 2 32 nosync 2 a 0 b 0 1 handle_errors");
    world.disk(0).inject(ALL);
    let mut sector = [0; 512];
    let read = Bio::read(Sector(3), &mut sector);
    assert_eq!(world.sim.block_on(send(world.device(0), read)), Ok(()));
    let log = world.take_log();
    assert!(!log.iter().any(|said| said == line), "{log:#?}");
}

#[test]
fn a_leg_that_fails_the_same_way_again_is_no_event_and_none_is_without_handle_errors() {
    for (features, each) in [("", [0, 0, 0]), (" 2 handle_errors keep_log", [1, 1, 2])] {
        let world = world(2);
        world.set_up(0, &format!("0 32 mirror core 2 8 nosync 2 a 0 b 0{features}"));
        world.sim.run_until_idle().expect("idle");
        let before = events(&world);
        world.disk(1).inject(ALL);
        let mut told = Vec::new();
        for sector in [3, 11] {
            assert_eq!(write(&world, sector), Ok(()));
            told.push(events(&world) - before);
        }
        // It is the first leg's fault now: another one, after which no leg is left.
        world.disk(0).inject(ALL);
        assert_eq!(write(&world, 19), Err(BlkError::Io));
        told.push(events(&world) - before);
        assert_eq!(told, each, "{features}");
    }
}

#[test]
fn a_read_that_fails_on_a_leg_is_told_in_the_kernels_words() {
    const OTHER: &str = "Mirror read failed from 7:0. Trying alternative device.";
    const LAST: &str = "Read failure on mirror device 7:1.  Failing I/O.";
    const ALL_BAD: &str = "All sides of mirror have failed.";
    const FAILED: &str = "Mirror read failed.";
    type Said = [&'static [&'static str]; 3];
    let cases: [(&str, &[u32], &str, Said); 5] = [
        ("nosync", &[0], "", [&[OTHER], &[], &[]]),
        ("nosync", &[0], " 1 handle_errors", [&[OTHER], &[], &[]]),
        ("nosync", &[0, 1], "", [&[OTHER, LAST, FAILED], &[], &[]]),
        ("nosync", &[0, 1], " 1 handle_errors", [&[OTHER, ALL_BAD, LAST, FAILED], &[], &[]]),
        // Nothing could be copied.
        ("sync", &[0, 1], " 1 handle_errors", [&[FAILED], &[FAILED], &[]]),
    ];
    for (log, bad, features, said) in cases {
        let world = world(2);
        bad.iter().for_each(|leg| world.disk(*leg).inject(ALL));
        world.set_up(0, &format!("0 32 mirror core 2 32 {log} 2 a 0 b 0{features}"));
        world.sim.run_until_idle().expect("idle");
        world.take_log();
        for (readahead, lines) in [false, false, true].into_iter().zip(said) {
            let mut sector = [0; 512];
            let flags = Flags { readahead, ..Flags::default() };
            let read = Bio::read(Sector(3), &mut sector).with_flags(flags);
            let _ = world.sim.block_on(send(world.device(0), read));
            let heard = world.take_log();
            let heard: Vec<&str> =
                heard.iter().map(|line| &line["device-mapper: raid1: ".len()..]).collect();
            assert_eq!(heard, lines, "{log}, {bad:?}{features}, read ahead: {readahead}");
        }
    }
}

/// The second leg is the one that others are made like, when a flush of it fails.
#[test]
fn a_copy_is_no_worse_than_what_it_was_made_of() {
    let mut overlapped = 0;
    for (seed, turns) in (0..20).flat_map(|seed| (1..6).map(move |turns| (seed, turns))) {
        let world = seeded(seed, 2);
        world.set_up(0, "0 32 mirror core 2 32 nosync 2 a 0 b 0 2 handle_errors keep_log");
        world.disk(0).inject(ALL);
        assert_eq!(write(&world, 3), Ok(()));
        world.disk(0).heal();
        assert_eq!(behind(&world), "0+1 -");
        world.suspend(0, Held::Flush).expect("it runs");
        (0..2).for_each(|leg| world.disk(leg).set_speed(Speed::Waits));
        world.resume(0).expect("it is suspended");
        let handle = world.handle();
        world.sim.block_on(async move {
            for _ in 0..turns {
                handle.turn().await;
            }
        });
        let (below, fails) = ("7:1".parse().expect("a number"), Fails::Writes);
        world.execute(Command::SetFails { id: id(0), below, fails }).expect("it is below");
        let copies = behind(&world) == "0+1 -";
        let flush = world.sim.block_on(send(world.device(0), Bio::flush()));
        let during = copies && behind(&world) != "- -";
        world.sim.run_until_idle().expect("idle");
        assert_eq!(behind(&world), "- -", "seed {seed}, after {turns} turns: {flush:?}");
        overlapped += u32::from(during);
    }
    assert!(overlapped > 5, "{overlapped}");
}

fn behind(world: &World) -> String {
    let (sector, message, slot) = (Sector(0), "behind".into(), Slot::Live);
    match world.execute(Command::TargetMsg { id: id(0), sector, message, slot }) {
        Ok(Answer::Text(Some(text))) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_region_is_a_power_of_two_from_two_sectors_to_the_whole() {
    for (size, fits) in [
        (0, false),
        (1, false),
        (2, true),
        (3, false),
        (6, false),
        (16, true),
        (24, false),
        (32, true),
        (33, false),
        (48, false),
        (64, false),
    ] {
        let table = format!("0 33 mirror core 2 {size} nosync 2 a 0 b 0");
        match (world(2).try_set_up(0, &table), fits) {
            (Ok(_), true) => {}
            (Err(why), false) => assert!(why.contains("expected a power of two"), "{size}: {why}"),
            (Ok(_), false) => panic!("{size} is taken"),
            (Err(why), true) => panic!("{size}: {why}"),
        }
    }
}
