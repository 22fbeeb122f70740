//! How a snapshot goes about its work: commits that are shared, errors, handovers under load.

use std::sync::Arc;

use sim_core::{Bio, BlkError, BlockDevice, Sector, Sectors};
use testkit::{
    Damage, Fault, FaultSpan, Journal, Legal, Rng, Speed, Traffic, World, each_seed, id, pattern,
    send,
};

use crate::stack::{DISK, Stack, disks, status, steps};

/// Random first writes from many tasks: how many exceptions share a commit.
#[test]
fn copies_that_are_under_way_share_a_commit() {
    const DEPTH: u64 = 32;
    const EACH: u64 = 6;
    let world = World::new(1, targets::registry());
    let size = Sectors(DEPTH * EACH);
    world.add_disk(size);
    let store = world.add_disk(Sectors(512));
    let device = world.set_up(0, &format!("0 {size} snapshot a b P 1"));
    let before = store.counts();
    for task in 0..DEPTH {
        let (device, store) = (device.clone(), store.clone());
        world.sim.start(format!("task {task}"), async move {
            for number in 0..EACH {
                let sector = Sector(number * DEPTH + (task * 7) % DEPTH);
                let data = pattern(task, sector.0, 1);
                assert_eq!(send(device.clone(), Bio::write(sector, &data)).await, Ok(()));
                // No bio ends before its exception is durable.
                assert!(is_durable(&store, sector.0), "chunk {sector}");
            }
        });
    }
    world.sim.run_until_idle().expect("the writes end");
    assert_eq!(world.sim.waiting(), Vec::<String>::new());
    let writes = store.counts().writes - before.writes;
    let (exceptions, areas) = (DEPTH * EACH, DEPTH * EACH / 32);
    // Besides the data: the next area for each that is full, and the commits.
    let commits = writes - exceptions - areas;
    println!("{commits} commits for {exceptions} exceptions in {areas} areas, depth {DEPTH}");
    // One for each batch that was pending, and one more where an area ends within it.
    assert!(commits <= EACH + areas, "{commits} commits");
}

/// Looks for an exception of the chunk in what is durable of a store in chunks of one sector.
fn is_durable(store: &testkit::SimDisk, chunk: u64) -> bool {
    (0..8).any(|area| {
        let sector = store.durable(Sector(1 + 33 * area));
        let mut entries = sector.chunks_exact(16);
        entries.any(|entry| entry[..8] == chunk.to_le_bytes() && entry[8..] != [0; 8])
    })
}

/// One I/O of a store fails: its snapshot may be lost, and nothing else is.
#[test]
fn an_error_of_a_store_harms_its_snapshot_alone() {
    let tables = [
        (0, "0 64 snapshot-origin a".to_owned()),
        (1, "0 64 snapshot a b P 2".to_owned()),
        (2, "0 64 snapshot a c P 4".to_owned()),
    ];
    let test = "-p dmsim-targets --test snapshot an_error_of_a_store_harms_its_snapshot_alone";
    let mut lost = 0;
    each_seed(test, 150, |seed| {
        let mut rng = Rng::new(seed);
        let disks = disks(3);
        let stack = Stack::new(seed, &disks, &tables)?;
        let traffic = traffic(&stack);
        disks.iter().for_each(|disk| disk.set_speed(Speed::Waits));
        let lasts = [FaultSpan::Once, FaultSpan::ForGood][rng.below(2)];
        let damage = [Damage::Error, Damage::Short(Sectors(1))][rng.below(2)];
        disks[1].inject(Fault::At { after: rng.below(24) as u64, lasts, damage });
        let failed = Arc::new(std::sync::Mutex::new(Vec::new()));
        for (device, traffic) in traffic.iter().enumerate() {
            let steps = steps(&mut rng, &stack.devices[device], 8);
            let (target, traffic, failed) =
                (stack.devices[device].clone(), traffic.clone(), failed.clone());
            stack.world.sim.start(format!("device {device}"), async move {
                for step in steps {
                    let text = step.to_string();
                    let ended = traffic.clone().send(target.clone(), step).await;
                    if let (Err(error), false) = (ended, device == 1) {
                        failed.lock().unwrap().push(format!("{device}: {text}: {error}"));
                    }
                }
            });
        }
        stack.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())?;
        if let waiting @ [_, ..] = &stack.world.sim.waiting()[..] {
            return Err(format!("bios never end: {waiting:?}"));
        }
        if let Some(failed) = failed.lock().unwrap().first() {
            return Err(failed.clone());
        }
        disks[1].heal();
        let status = status(&stack.world, 1);
        let event_nr = stack.world.status(1).map_err(|why| why.to_string())?.event_nr;
        if (status == "Invalid") != (event_nr == 1) {
            return Err(format!("status {status} after {event_nr} events"));
        }
        lost += u32::from(status == "Invalid");
        for (device, traffic) in traffic.iter().enumerate() {
            traffic.verdict()?;
            if device != 1 || status != "Invalid" {
                // A fault of a flush, or of nothing at all: every byte must be right.
                let content = stack.content(device);
                check(&traffic.legal().expect("storage"), &content?)?;
            }
        }
        Ok(())
    });
    println!("{lost} snapshots lost");
    assert!(lost > 10, "the faults reach the store");
}

fn check(legal: &Legal, content: &[u8]) -> Result<(), String> {
    let mut sectors = (0..).zip(content.chunks_exact(512));
    let wrong = sectors.find(|(sector, bytes)| !legal.read(*sector, legal.now(), bytes));
    wrong.map_or(Ok(()), |(sector, bytes)| Err(legal.explain(sector, bytes)))
}

/// Starts to send to each device, with what it holds as what is legal.
fn traffic(stack: &Stack) -> Vec<Arc<Traffic>> {
    let journal = Arc::new(Journal::default());
    let of = |device: usize| {
        let legal = Legal::new(&stack.content(device).expect("it reads"));
        let number = u32::try_from(device).expect("a few devices");
        Arc::new(Traffic::new(number, journal.clone(), Some(legal)))
    };
    (0..stack.devices.len()).map(of).collect()
}

/// The snapshot's table is loaded anew, again and again, while the origin and the snapshot are
/// written: the store goes from one table to the next.
#[test]
fn a_store_is_handed_over_under_load() {
    let tables =
        [(0, "0 64 snapshot-origin a".to_owned()), (1, "0 64 snapshot a b P 2".to_owned())];
    let test = "-p dmsim-targets --test snapshot a_store_is_handed_over_under_load";
    each_seed(test, 100, |seed| {
        let mut rng = Rng::new(seed);
        let disks = disks(2);
        let stack = Stack::new(seed, &disks, &tables)?;
        let traffic = traffic(&stack);
        disks.iter().for_each(|disk| disk.set_speed(Speed::Waits));
        for (device, traffic) in traffic.iter().enumerate() {
            let steps = steps(&mut rng, &stack.devices[device], 12);
            let (target, traffic) = (stack.devices[device].clone(), traffic.clone());
            stack.world.sim.start(format!("device {device}"), async move {
                for step in steps {
                    assert_eq!(traffic.clone().send(target.clone(), step).await, Ok(()));
                }
            });
        }
        let allocated = || {
            let text = status(&stack.world, 1);
            text.split('/').next().and_then(|number| number.parse::<u64>().ok())
        };
        for _ in 0..3 {
            let before = allocated();
            stack.reload(1, "0 64 snapshot a b P 2")?;
            if allocated() < before {
                return Err(format!("{before:?}, then {:?}", allocated()));
            }
        }
        stack.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())?;
        for (device, traffic) in traffic.iter().enumerate() {
            traffic.verdict()?;
            check(&traffic.legal().expect("storage"), &stack.content(device)?)?;
        }
        Ok(())
    });
}

/// A merge takes the store of a snapshot over, and goes on to the end under load; then it is the
/// origin again.
#[test]
fn a_snapshot_becomes_its_origin_under_load() {
    let tables =
        [(0, "0 64 snapshot-origin a".to_owned()), (1, "0 64 snapshot a b P 2".to_owned())];
    let test = "-p dmsim-targets --test snapshot a_snapshot_becomes_its_origin_under_load";
    each_seed(test, 100, |seed| {
        let mut rng = Rng::new(seed);
        let disks = disks(2);
        let stack = Stack::new(seed, &disks, &tables)?;
        for number in 0..20 {
            let sector = rng.below(60) as u64;
            let data = pattern(800 + number, sector, 3);
            let device = stack.devices[rng.below(2)].clone();
            let write = send(device, Bio::write(Sector(sector), &data));
            assert_eq!(stack.world.sim.block_on(write), Ok(()));
        }
        let legal = Legal::new(&stack.content(1)?);
        let traffic = Arc::new(Traffic::new(0, Arc::default(), Some(legal)));
        disks.iter().for_each(|disk| disk.set_speed(Speed::Waits));
        let text = |failure: sim_core::control::Failure| failure.to_string();
        stack.world.suspend(1, sim_core::Held::Flush).map_err(text)?;
        stack.reload(0, "0 64 snapshot-merge a b P 2")?;
        let steps = steps(&mut rng, &stack.devices[0], 12);
        let (target, sent) = (stack.devices[0].clone(), traffic.clone());
        stack.world.sim.start("writes", async move {
            for step in steps {
                assert_eq!(sent.clone().send(target.clone(), step).await, Ok(()));
            }
        });
        if seed % 2 == 0 {
            // Stopped, and started again.
            stack.world.suspend(0, sim_core::Held::Flush).map_err(text)?;
            stack.world.resume(0).map_err(text)?;
        }
        stack.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())?;
        traffic.verdict()?;
        if status(&stack.world, 0) != format!("4/{DISK} 4") {
            return Err(format!("not merged: {}", status(&stack.world, 0)));
        }
        let legal = traffic.legal().expect("storage");
        check(&legal, &stack.content(0)?)?;
        stack.reload(0, "0 64 snapshot-origin a")?;
        check(&legal, &stack.content(0)?).map_err(|why| format!("as an origin: {why}"))
    });
}

/// A table that takes a store over shows itself as loaded once it has it.
#[test]
fn a_table_loads_to_itself() {
    for line in [
        "0 64 snapshot 7:0 7:1 P 4",
        "0 64 snapshot 7:0 7:1 PO 8 2 discard_zeroes_cow discard_passdown_origin",
        "0 64 snapshot 7:0 7:1 N 2 1 discard_zeroes_cow",
    ] {
        let disks = disks(2);
        let stack = Stack::new(0, &disks, &[(0, line.to_owned())]).expect("a sound table");
        let data = pattern(1, 5, 9);
        let write = send(stack.devices[0].clone(), Bio::write(Sector(5), &data));
        assert_eq!(stack.world.sim.block_on(write), Ok(()));
        let before = (stack.content(0), table(&stack.world), status(&stack.world, 0));
        stack.reload(0, line).expect("it loads again");
        assert_eq!((stack.content(0), table(&stack.world), status(&stack.world, 0)), before);
        assert_eq!(table(&stack.world), line);
    }
}

fn table(world: &World) -> String {
    use sim_core::KeyText;
    use sim_core::control::{Answer, Command, Report, Slot};
    let (report, slot, keys) = (Report::Table, Slot::Live, KeyText::Zeros);
    let command = Command::TableStatus { id: id(0), report, slot, device_names: false, keys };
    match world.execute(command) {
        Ok(Answer::Table(_, lines)) => lines[0].to_string(),
        other => panic!("{other:?}"),
    }
}

/// A bio of a snapshot that is given up leaves its copy to the runtime: others that wait for the
/// chunk go on.
#[test]
fn a_copy_outlives_the_bio_that_asked_for_it() {
    let disks = disks(2);
    let tables =
        [(0, "0 64 snapshot-origin a".to_owned()), (1, "0 64 snapshot a b P 4".to_owned())];
    let stack = Stack::new(0, &disks, &tables).expect("sound tables");
    disks.iter().for_each(|disk| disk.set_speed(Speed::Waits));
    let snapshot = stack.devices[1].clone();
    let data = pattern(1, 0, 2);
    {
        use futures_util::FutureExt;
        let write = snapshot.submit(Bio::write(Sector(0), &data));
        assert_eq!(write.now_or_never(), None, "the disks wait");
    }
    let over = pattern(2, 0, 4);
    let write = send(stack.devices[0].clone(), Bio::write(Sector(0), &over));
    assert_eq!(stack.world.sim.block_on(write), Ok(()));
    let content = stack.content(1).expect("it reads");
    assert_eq!(content[..1024], *data, "what was given up may have happened, and has");
    assert_eq!(content[1024..2048], *pattern(1 << 20, 2, 2), "the rest is as it was");
}

/// A snapshot that overflows for its own writes is read on; one that was not told of overflow is
/// lost, and so is any that the origin fills.
#[test]
fn a_full_store_fails_writes_alone_where_the_table_allows_for_it() {
    for (letters, own, from_origin) in [("PO", "Overflow", "Invalid"), ("P", "Invalid", "Invalid")]
    {
        let fill = |device: usize| {
            let disks = disks(2);
            let tables = [
                (0, "0 256 snapshot-origin a".to_owned()),
                (1, format!("0 256 snapshot a b {letters} 1")),
            ];
            let stack = Stack::new(0, &disks, &tables).expect("sound tables");
            let data = pattern(1, 0, 256);
            let write = send(stack.devices[device].clone(), Bio::write(Sector(0), &data));
            (stack.world.sim.block_on(write), status(&stack.world, 1))
        };
        assert_eq!(fill(1), (Err(BlkError::Io), own.to_owned()));
        assert_eq!(fill(0), (Ok(()), from_origin.to_owned()));
    }
}

/// One bio of a discard zeroes the snapshot, another one goes to the origin, each where asked for.
#[test]
fn a_discard_is_as_many_bios_as_its_features_ask_for() {
    for (features, taken, passed_down) in [
        ("", false, 0),
        (" 1 discard_zeroes_cow", true, 0),
        (" 2 discard_zeroes_cow discard_passdown_origin", true, 1),
    ] {
        let disks = disks(2);
        let stack =
            Stack::new(1, &disks, &[(0, format!("0 64 snapshot a b P 8{features}"))]).unwrap();
        let device = &stack.devices[0];
        assert_eq!(device.limits().max_discard_sectors > 0, taken, "{features}");
        // As in the kernel, what is zeroed is an exception's chunk.
        let write = send(device.clone(), Bio::write(Sector(8), &[7; 8 * 512]));
        assert_eq!(stack.world.sim.block_on(write), Ok(()));
        let discard = send(device.clone(), Bio::discard(Sector(8), Sectors(8)));
        let expected = if taken { Ok(()) } else { Err(BlkError::NotSupported) };
        assert_eq!(stack.world.sim.block_on(discard), expected, "{features}");
        assert_eq!(disks[0].counts().discards, passed_down, "{features}");
        let content = stack.content(0).unwrap();
        let zeros = content[8 * 512..16 * 512].iter().all(|byte| *byte == 0);
        assert_eq!(zeros, taken, "{features}");
    }
}

/// Whoever asked for the copy: what the snapshot lacks from then on, nobody may take for its own.
#[test]
fn a_copy_that_fails_ends_its_snapshot_and_says_so_on_disk() {
    let tables =
        [(0, "0 64 snapshot-origin a".to_owned()), (1, "0 64 snapshot a b P 8".to_owned())];
    let chunks = Fault::Range(Sector(16), Sectors(240));
    let origin = Fault::Range(Sector(0), Sectors(8));
    // A write of the origin goes on without the snapshot, one of the snapshot does not.
    for (faulty, fault, device, ends) in [
        (1, chunks, 0, Ok(())),
        (1, chunks, 1, Err(BlkError::Io)),
        (0, origin, 1, Err(BlkError::Io)),
    ] {
        let disks = disks(2);
        let stack = Stack::new(1, &disks, &tables).unwrap();
        disks[faulty].inject(fault);
        let write = send(stack.devices[device].clone(), Bio::write(Sector(3), &[7; 512]));
        assert_eq!(stack.world.sim.block_on(write), ends, "disk {faulty}, device {device}");
        disks[faulty].heal();
        assert_eq!(status(&stack.world, 1), "Invalid");
        assert_eq!(stack.world.status(1).unwrap().event_nr, 1);
        let log = stack.world.take_log();
        let line = "device-mapper: snapshots: Invalidating snapshot: Error reading/writing.";
        assert!(log.iter().any(|said| said == line), "{log:#?}");
        // The second word of the header: it is valid no more.
        assert_eq!(disks[1].durable(Sector(0))[..8], [b'S', b'n', b'A', b'p', 0, 0, 0, 0]);
    }
}
