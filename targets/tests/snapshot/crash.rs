//! Power cuts over an origin with snapshots, and over a merge.
//!
//! `DMSIM_SEARCH_SECONDS=600 cargo test --release -p dmsim-targets --test snapshot crash` searches
//! for ten minutes in each.

use std::sync::Arc;

use sim_core::{Flags, Op};
use testkit::{BioStep, Plan, Rng, Schedule, SimDisk, each_seed};

use crate::stack::{Case, Stack, disks};

const PLAN: Plan = Plan { listed: 12, random: 2, seed: 0 };

/// An origin and two snapshots: the first in chunks of this size, the second shorter.
fn snapshots(chunk: u64) -> Vec<(u32, String)> {
    vec![
        (0, "0 64 snapshot-origin a".to_owned()),
        (1, format!("0 64 snapshot a b P {chunk}")),
        (2, "0 45 snapshot a c PO 8".to_owned()),
    ]
}

/// A merge of the first of those snapshots, beside the second, which is there first.
fn merging() -> Vec<(u32, String)> {
    vec![(1, "0 45 snapshot a c PO 8".to_owned()), (0, "0 64 snapshot-merge a b P 4".to_owned())]
}

fn step(op: Op, sector: u64, len: u64) -> BioStep {
    BioStep { op, sector, len, flags: Flags::default() }
}

fn schedule(seed: u64) -> Schedule {
    if seed.is_multiple_of(3) { Schedule::Priority(seed) } else { Schedule::Random(seed) }
}

/// Disks with a used store on `b`: exceptions in a row and out of order, some from writes of the
/// origin.
fn used_store(seed: u64) -> Vec<Arc<SimDisk>> {
    let disks = disks(3);
    let stack = Stack::new(seed, &disks, &snapshots(4)).expect("sound tables");
    let mut rng = Rng::new(seed);
    for number in 0..3 + rng.below(12) as u64 {
        let (device, chunk) = (rng.below(4).min(1), rng.below(16) as u64);
        let len = [1, 4, 8][rng.below(3)].min(64 - chunk * 4);
        let data = testkit::pattern(900 + number, chunk * 4, len);
        let bio = sim_core::Bio::write(sim_core::Sector(chunk * 4), &data);
        let written = testkit::send(stack.devices[device].clone(), bio);
        assert_eq!(stack.world.sim.block_on(written), Ok(()));
    }
    drop(stack);
    let handle = testkit::World::new(0, targets::registry()).handle();
    disks.iter().for_each(|disk| disk.power_cycle(handle.clone()));
    disks
}

/// Bios for each device from one or two tasks.
fn random_tasks(rng: &mut Rng, sizes: &[u64], most: usize) -> Vec<(usize, Vec<BioStep>)> {
    let limits = sim_core::Limits::image(512);
    let limits = sim_core::Limits { max_discard_sectors: 0, max_write_zeroes_sectors: 0, ..limits };
    let mut tasks = Vec::new();
    for (device, size) in sizes.iter().enumerate() {
        for _ in 0..1 + rng.below(2) {
            let steps = (0..1 + rng.below(most)).map(|_| BioStep::random(rng, *size, &limits));
            tasks.push((device, steps.collect()));
        }
    }
    tasks
}

#[test]
fn crash_under_random_work() {
    let mut states = 0;
    each_seed("-p dmsim-targets --test snapshot crash_under_random_work", 15, |seed| {
        let mut rng = Rng::new(seed);
        let case = Case {
            schedule: schedule(seed),
            disks: if seed.is_multiple_of(2) { disks(3) } else { used_store(seed) },
            // In chunks of one sector, 32 exceptions fill an area.
            tables: &snapshots(if seed.is_multiple_of(4) { 1 } else { 4 }),
            tasks: random_tasks(&mut rng, &[64, 64, 45], 6),
            plan: Plan { seed, ..PLAN },
            settles: false,
            cut_again: 7,
        };
        states += case.run()?;
        Ok(())
    });
    println!("{states} power cuts");
}

#[test]
fn crash_while_a_snapshot_is_merged() {
    let mut states = 0;
    each_seed("-p dmsim-targets --test snapshot crash_while_a_snapshot_is_merged", 6, |seed| {
        let mut rng = Rng::new(seed);
        let case = Case {
            schedule: schedule(seed),
            disks: used_store(seed),
            tables: &merging(),
            tasks: random_tasks(&mut rng, &[45, 64], 4),
            plan: Plan { seed, ..PLAN },
            settles: true,
            cut_again: 5,
        };
        states += case.run()?;
        Ok(())
    });
    println!("{states} power cuts");
}

/// Every workload of up to three of these operations, at once and one after another.
#[test]
fn crash_under_every_small_workload() {
    let operations: Vec<(usize, BioStep)> = vec![
        (0, step(Op::Write, 0, 4)),
        (0, step(Op::Write, 2, 4)),
        (0, step(Op::Flush, 0, 0)),
        (1, step(Op::Write, 0, 4)),
        (1, step(Op::Write, 1, 2)),
        (1, step(Op::Flush, 0, 0)),
        (2, step(Op::Write, 6, 4)),
    ];
    let count = operations.len() as u64;
    let mut states = 0;
    // Enough for each pair twice, and for a share of the triples; all of them in a long search.
    let test = "-p dmsim-targets --test snapshot crash_under_every_small_workload";
    each_seed(test, 2 * (count * count + count) + 100, |seed| {
        let (at_once, mut number) = (seed % 2 == 0, seed / 2);
        let mut chosen = Vec::new();
        while chosen.is_empty() || number > 0 {
            chosen.push(operations[(number % count) as usize].clone());
            number =
                (number / count).saturating_sub(u64::from(chosen.len() < 3 && number >= count));
            if chosen.len() == 3 {
                break;
            }
        }
        let tasks = match at_once {
            true => chosen.into_iter().map(|(device, step)| (device, vec![step])).collect(),
            false => one_after_another(chosen),
        };
        let case = Case {
            schedule: schedule(seed),
            disks: disks(3),
            tables: &snapshots(4),
            tasks,
            plan: Plan { seed, listed: 1000, random: 2 },
            settles: false,
            cut_again: 50,
        };
        states += case.run()?;
        Ok(())
    });
    println!("{states} power cuts");
}

/// Bios of one device keep their order; those of different devices have none.
fn one_after_another(steps: Vec<(usize, BioStep)>) -> Vec<(usize, Vec<BioStep>)> {
    let mut tasks: Vec<(usize, Vec<BioStep>)> = Vec::new();
    for (device, step) in steps {
        match tasks.iter_mut().find(|(other, _)| *other == device) {
            Some((_, steps)) => steps.push(step),
            None => tasks.push((device, vec![step])),
        }
    }
    tasks
}
