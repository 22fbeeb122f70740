//! The statistics of a device: what is counted, by whichever way bios come.

use std::time::Duration;

use sim_core::control::{Answer, Command, Slot};
use sim_core::{Access, Bio, OpenDevice, Registry, Sector, Sectors, Step};
use testkit::{Speed, World, id, send};

fn world(seed: u64) -> World {
    let world = World::new(seed, targets::registry());
    world.add_disk(Sectors(4096)).set_speed(Speed::Mixed);
    world.add_disk(Sectors(4096)).set_speed(Speed::Mixed);
    world
}

/// Sends a message, and returns what is answered.
#[track_caller]
fn tell(world: &World, minor: u32, message: &str) -> String {
    let message = message.to_owned().into();
    let command =
        Command::TargetMsg { id: id(minor), sector: Sector::ZERO, message, slot: Slot::Live };
    match world.execute(command) {
        Ok(Answer::Text(text)) => text.unwrap_or_default(),
        other => panic!("expected a text, found {other:?}"),
    }
}

/// Reads the counters of a region that are no times: reads, merged, sectors, the same of writes,
/// and what is in flight, of each area.
fn counts(world: &World, minor: u32, region: u32) -> Vec<[u64; 7]> {
    let text = tell(world, minor, &format!("@stats_print {region}"));
    let line = |line: &str| {
        let words: Vec<u64> =
            line.split(' ').skip(1).map(|word| word.parse().expect("a number")).collect();
        [words[0], words[1], words[2], words[4], words[5], words[6], words[8]]
    };
    text.lines().map(line).collect()
}

fn write(world: &World, minor: u32, sector: u64, len: usize) {
    let (device, data) = (world.device(minor), vec![7; len * 512]);
    world.sim.block_on(send(device, Bio::write(Sector(sector), &data))).expect("a write");
}

fn read(world: &World, minor: u32, sector: u64, len: usize) {
    let (device, mut data) = (world.device(minor), vec![0; len * 512]);
    world.sim.block_on(send(device, Bio::read(Sector(sector), &mut data))).expect("a read");
}

#[test]
fn areas_count_what_touches_them_as_the_table_cuts_it() {
    for seed in 0..50 {
        let world = world(seed);
        world.set_up(0, "0 1024 linear 7:0 0\n1024 1024 linear 7:1 0");
        // Not counted: nobody has asked yet.
        write(&world, 0, 0, 8);
        assert_eq!(tell(&world, 0, "@stats_create - 512"), "0");
        assert_eq!(tell(&world, 0, "@stats_create 100+100 1000"), "1");
        write(&world, 0, 8, 8);
        write(&world, 0, 16, 8);
        read(&world, 0, 24, 8);
        read(&world, 0, 32, 1);
        // Half in the first area, half in the next.
        write(&world, 0, 508, 8);
        // In two targets: two bios.
        write(&world, 0, 1020, 8);
        world.sim.block_on(send(world.device(0), Bio::flush())).expect("a flush");
        assert_eq!(
            counts(&world, 0, 0),
            [
                [2, 1, 9, 3, 1, 20, 0],
                [0, 0, 0, 2, 0, 8, 0],
                [0, 0, 0, 1, 1, 4, 0],
                [0, 0, 0, 0, 0, 0, 0]
            ]
        );
        assert_eq!(counts(&world, 0, 1), [[0; 7]]);
        assert_eq!(tell(&world, 0, "@stats_print_clear 0 0 2").lines().count(), 2);
        let left = counts(&world, 0, 0);
        assert_eq!(left, [[0; 7], [0; 7], [0, 0, 0, 1, 1, 4, 0], [0; 7]]);
        tell(&world, 0, "@stats_clear 0");
        assert_eq!(counts(&world, 0, 0), [[0; 7]; 4]);
    }
}

#[test]
fn a_bio_that_comes_through_a_device_above_is_counted_below() {
    for seed in 0..50 {
        let world = world(seed);
        world.set_up(0, "0 2048 linear 7:0 0");
        let top = world.set_up(1, "0 1024 linear 253:0 512");
        assert!(top.extents().is_some(), "a stack of linear devices has a flattened map");
        write(&world, 1, 0, 8);
        tell(&world, 0, "@stats_create - /1");
        assert_eq!(top.extents(), None);
        write(&world, 1, 0, 8);
        read(&world, 1, 8, 8);
        assert_eq!(counts(&world, 0, 0), [[1, 0, 8, 1, 0, 8, 0]]);
        // Above too, and the one below goes on.
        tell(&world, 1, "@stats_create - /1");
        write(&world, 1, 0, 8);
        assert_eq!(counts(&world, 1, 0), [[0, 0, 0, 1, 0, 8, 0]]);
        assert_eq!(counts(&world, 0, 0), [[1, 0, 8, 2, 0, 16, 0]]);
        tell(&world, 1, "@stats_delete 0");
        assert_eq!(top.extents(), None, "the device below counts yet");
        tell(&world, 0, "@stats_delete 0");
        assert!(top.extents().is_some(), "nobody counts: back to the flattened map");
        read(&world, 1, 8, 8);
    }
}

#[test]
fn a_region_lasts_through_a_reload_and_a_suspend() {
    let world = world(1);
    let device = world.set_up(0, "0 1024 linear 7:0 0");
    tell(&world, 0, "@stats_create 0+4096 1024 me x");
    write(&world, 0, 0, 8);
    world
        .load(
            0,
            sim_core::parse_table("0 4096 linear 7:1 0")
                .unwrap()
                .into_iter()
                .map(|(_, spec)| spec)
                .collect(),
        )
        .unwrap();
    world.resume(0).unwrap();
    assert_eq!(device.extents(), None);
    write(&world, 0, 2048, 8);
    assert_eq!(
        counts(&world, 0, 0),
        [[0, 0, 0, 1, 0, 8, 0], [0; 7], [0, 0, 0, 1, 0, 8, 0], [0; 7]]
    );
    assert_eq!(tell(&world, 0, "@stats_list me"), "0: 0+4096 1024 me x\n");
}

#[test]
fn what_is_in_flight_is_seen_and_its_time_counted() {
    let world = world(3);
    world.set_up(0, "0 1024 delay 7:0 0 100");
    tell(
        &world,
        0,
        "@stats_create - /1 2 precise_timestamps histogram:50000000,100000000,500000000",
    );
    tell(&world, 0, "@stats_create - /1 1 histogram:50,100,500");
    let device = world.device(0);
    let open = std::sync::Arc::new(OpenDevice::new(device, Access::ReadWrite).unwrap());
    for sector in [0, 512] {
        let open = open.clone();
        world.sim.start(format!("a write of {sector}"), async move {
            open.submit(Bio::write(Sector(sector), &[1; 512])).await.expect("a write");
        });
    }
    let handle = world.handle();
    world.sim.block_on(async move {
        sim_core::Runtime::sleep(&handle, Duration::from_millis(40)).await
    });
    let early = tell(&world, 0, "@stats_print 0");
    assert_eq!(early, "0+1024 0 0 0 0 0 0 0 0 2 40000000 80000000 0 40000000 0:0:0:0\n");
    // What is in flight stays so, also where its counters are set back.
    tell(&world, 0, "@stats_clear 0");
    let handle = world.handle();
    world.sim.block_on(async move {
        sim_core::Runtime::sleep(&handle, Duration::from_millis(100)).await
    });
    let late = tell(&world, 0, "@stats_print 0");
    assert_eq!(late, "0+1024 0 0 0 0 2 0 2 200000000 0 60000000 120000000 0 60000000 0:0:2:0\n");
    let coarse = tell(&world, 0, "@stats_print 1");
    assert_eq!(coarse, "0+1024 0 0 0 0 2 0 2 200 0 100 200 0 100 0:0:2:0\n");
}

#[test]
fn a_bio_that_is_given_up_is_not_in_flight_any_more() {
    let world = world(4);
    world.set_up(0, "0 1024 delay 7:0 0 100");
    tell(&world, 0, "@stats_create - /1");
    let open = OpenDevice::new(world.device(0), Access::ReadWrite).unwrap();
    let handle = world.handle();
    world.sim.block_on(async move {
        let data = [1; 512];
        let write = open.submit(Bio::write(Sector(0), &data));
        let sleep = sim_core::Runtime::sleep(&handle, Duration::from_millis(10));
        futures_util::future::select(Box::pin(write.into_future()), sleep).await;
    });
    assert_eq!(counts(&world, 0, 0)[0][6], 0);
}

#[test]
fn the_counters_of_all_devices_have_a_limit() {
    let world = World::new(0, Registry::new().with::<targets::Zero>());
    world.set_up(0, "0 1024 zero");
    let create = |message: &str| {
        let message = message.to_owned().into();
        world.execute(Command::TargetMsg {
            id: id(0),
            sector: Sector::ZERO,
            message,
            slot: Slot::Live,
        })
    };
    let errno = |message| create(message).expect_err("too much").errno.name();
    assert_eq!(errno("@stats_create 0+18446744073709551615 1"), "EOVERFLOW");
    assert_eq!(errno("@stats_create 0+100000000000 1"), "ENOMEM");
    // Nothing is left taken by what was refused, nor by what is deleted.
    for _ in 0..2 {
        create("@stats_create 0+5000000 1").expect("room for five million areas");
        create("@stats_delete 0").expect("a region");
    }
}

#[test]
fn a_trace_has_each_bio_once_a_layer_and_leaves_nothing_behind() {
    for seed in 0..50 {
        let world = world(seed);
        let low = world.set_up(0, "0 1024 linear 7:0 0\n1024 1024 linear 7:1 0");
        let top = world.set_up(1, "0 1024 linear 253:0 512");
        write(&world, 1, 0, 8);
        let tracing = world.control.trace(&id(1), true).expect("nobody traces");
        assert!(world.control.trace(&id(1), false).is_err(), "one at a time");
        assert_eq!(top.extents(), None);
        // In two targets below: two bios there.
        write(&world, 1, 508, 8);
        read(&world, 1, 0, 1);
        world.sim.block_on(send(world.device(1), Bio::flush())).expect("a flush");
        let page = world.sim.block_on(tracing.next());
        let count = |major, minor, wanted: fn(&Step) -> bool| {
            let here =
                page.steps.iter().filter(|step| (step.dev.major, step.dev.minor) == (major, minor));
            here.filter(|step| wanted(&step.step)).count()
        };
        for (major, minor, bios, remapped) in
            [(253, 1, 3, 0), (253, 0, 3, 3), (7, 0, 3, 3), (7, 1, 2, 2)]
        {
            let what = format!("seed {seed}: {major}:{minor}: {:?}", page.steps);
            assert_eq!(count(major, minor, |step| *step == Step::Queued), bios, "{what}");
            assert_eq!(count(major, minor, |step| *step == Step::Completed(None)), bios, "{what}");
            assert_eq!(
                count(major, minor, |step| matches!(step, Step::Remapped { .. })),
                remapped,
                "{what}"
            );
        }
        assert_eq!((page.dropped, page.is_over), (0, false));
        drop(tracing);
        assert!(top.extents().is_some() && low.extents().is_some(), "back to the flattened maps");
        read(&world, 1, 8, 8);
        assert!(world.control.trace(&id(1), false).is_ok());
    }
}
