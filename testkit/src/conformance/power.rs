//! Parts about what breaks: I/O that fails, and power cuts.

use std::sync::Arc;

use super::rig::Rig;
use super::suite::Suite;
use crate::traffic::BioStep;
use crate::{
    Crash, Damage, Entry, Explorer, Fault, FaultSpan, Journal, Legal, Plan, Rng, Schedule, SimDisk,
    World,
};
use sim_core::{Flags, Op, Sectors};

/// How many faults are tried with the bios of one seed.
const FAULTS: usize = 12;

/// What is tried at each step of the run, and of a recovery.
const PLAN: Plan = Plan { listed: 6, random: 1, seed: 0 };
const SECOND: Plan = Plan { listed: 3, random: 1, seed: 0 };

/// One of so many restarts is used again, and one is cut off by a second power cut.
const USED_AGAIN: usize = 4;
const CUT_AGAIN: usize = 5;

/// The same bios over and over, with another I/O failing each time.
pub(super) fn faults(suite: &Suite, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let well = suite.start(seed)?;
    let steps = well.steps(&mut rng, 20);
    well.run_well(&steps, 2)?;
    let ios: Vec<u64> = well.disks.iter().map(|disk| disk.activity().0).collect();
    drop(well);
    for _ in 0..FAULTS {
        let disk = rng.below(ios.len());
        if ios[disk] == 0 {
            continue;
        }
        let (after, lasts) =
            (rng.number() % ios[disk], [FaultSpan::Once, FaultSpan::ForGood][rng.below(2)]);
        let damage = [Damage::Error, Damage::Short(Sectors(1))][rng.below(2)];
        let fault = Fault::At { after, lasts, damage };
        fail(suite, seed, &steps, disk, fault)
            .map_err(|why| format!("disk {disk}, {fault:?}: {why}"))?;
    }
    Ok(())
}

fn fail(
    suite: &Suite,
    seed: u64,
    steps: &[BioStep],
    disk: usize,
    fault: Fault,
) -> Result<(), String> {
    let rig = suite.start(seed)?;
    rig.disks[disk].inject(fault);
    rig.run(steps, 2)?;
    rig.sent.verdict()?;
    rig.disks[disk].heal();
    // The device may have given up; what it does read must be right.
    if rig.content().is_ok() {
        rig.read_back().map_err(|why| format!("with the disk healed: {why}"))?;
    }
    let (legal, disks) = (rig.sent.legal().unwrap_or_else(|| Legal::new(&[])), rig.disks.clone());
    drop(rig);
    disks.iter().for_each(|disk| disk.lose_cache());
    let rig = suite.restart(seed, &disks)?;
    rig.check_power_cut(&legal).map_err(|why| format!("with the power off and on: {why}"))
}

/// Power cuts at every step of a run; returns how many states there were.
pub(super) fn crash(suite: &Suite, seed: u64) -> Result<u64, String> {
    let rig = suite.start(seed)?;
    let mut rng = Rng::new(seed);
    let steps = rig.steps(&mut rng, 12);
    let mut legal = rig.sent.legal().unwrap_or_else(|| Legal::new(&[]));
    let begin: Vec<usize> = rig.disks.iter().map(|disk| disk.checkpoint()).collect();
    rig.disks.iter().for_each(|disk| disk.record(rig.sent.journal().clone()));
    rig.run_well(&steps, 1 + seed as usize % 3)?;
    let (disks, record) = (rig.disks.clone(), rig.sent.journal().take());
    drop(rig);
    disks.iter().zip(begin).for_each(|(disk, at)| disk.rewind(at));
    explore(suite, &disks, &record, Plan { seed, ..PLAN }, &mut legal)
}

/// Holds a restart after each power cut against what is legal; returns how many there were, those
/// during a recovery among them.
fn explore(
    suite: &Suite,
    disks: &[Arc<SimDisk>],
    record: &[Entry],
    plan: Plan,
    legal: &mut Legal,
) -> Result<u64, String> {
    let (mut count, mut seconds) = (0, 0);
    let found = Explorer::new(disks, record).run(plan, legal, |crash, legal| {
        count += 1;
        let before: Vec<usize> = disks.iter().map(|disk| disk.checkpoint()).collect();
        let recovery = come_back(suite, disks, crash, legal, count % USED_AGAIN == 0)?;
        if recovery.is_empty() || count % CUT_AGAIN != 0 {
            return Ok(());
        }
        disks.iter().zip(before).for_each(|(disk, at)| disk.rewind(at));
        let again =
            Explorer::new(disks, &recovery).run(SECOND, &mut legal.clone(), |crash, legal| {
                come_back(suite, disks, crash, legal, false).map(drop)
            });
        seconds += again.map_err(|why| format!("during the recovery, {why}"))?;
        Ok(())
    });
    found.map(|states| states + seconds)
}

/// Restarts, checks, and returns what the restart wrote.
fn come_back(
    suite: &Suite,
    disks: &[Arc<SimDisk>],
    crash: Crash,
    legal: &Legal,
    used: bool,
) -> Result<Vec<Entry>, String> {
    let schedule = Schedule::Random(crash.at as u64);
    disks.iter().for_each(|disk| disk.set_speed(crate::Speed::AtOnce));
    let world = World::with(&schedule, suite.registry.clone(), disks);
    let journal = Arc::new(Journal::default());
    disks.iter().for_each(|disk| disk.record(journal.clone()));
    let rig = suite.over(world, disks)?;
    let recovery = journal.take();
    rig.check_power_cut(legal)?;
    if used {
        use_again(&rig, crash).map_err(|why| format!("used again: {why}"))?;
    }
    Ok(recovery)
}

/// Writes here and there, and looks whether that has changed anything else.
fn use_again(rig: &Rig, crash: Crash) -> Result<(), String> {
    rig.adopt()?;
    let mut rng = Rng::new(crash.at as u64);
    let steps = rig.steps(&mut rng, 6);
    rig.run_well(&steps, 1)?;
    rig.read_back()
}

/// One bio at a time; now and then the power fails, and all goes that is not durable.
pub(super) fn operations(suite: &Suite, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut rig = suite.start(seed)?;
    for _ in 0..6 {
        let mut steps = rig.steps(&mut rng, 8);
        // What follows a write is what makes it durable, or not.
        if rng.below(2) == 0 {
            steps.push(BioStep { op: Op::Flush, sector: 0, len: 0, flags: Flags::default() });
        }
        for step in steps {
            rig.run_well(std::slice::from_ref(&step), 1).map_err(|why| format!("{step}: {why}"))?;
        }
        rig.read_back()?;
        let (legal, disks) =
            (rig.sent.legal().unwrap_or_else(|| Legal::new(&[])), rig.disks.clone());
        drop(rig);
        disks.iter().for_each(|disk| disk.lose_cache());
        rig = suite.restart(seed, &disks)?;
        rig.check_power_cut(&legal).map_err(|why| format!("with the power off and on: {why}"))?;
        rig.adopt()?;
    }
    Ok(())
}
