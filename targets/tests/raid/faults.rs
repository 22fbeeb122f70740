//! Faults: each I/O below fails once, or from there on, in turn. No write is lost that was
//! acknowledged, a bio fails only where a set has no other leg, and a leg that failed and is back has
//! what it lacked: with the power off and on in between too.

use sim_core::{Bio, BlockDevice, Flags, Op, Sector};
use targets::raid::superblock::Superblock;
use testkit::{BioStep, Damage, Fault, FaultSpan, Rng, SimDisk, Speed, each_seed};

use crate::rig::{Case, FLUSH, Rig, SECTOR, Step};

const STEPS: usize = 14;

fn ended(disk: &SimDisk) -> u64 {
    let counts = disk.counts();
    counts.reads + counts.writes + counts.flushes + counts.discards
}

const GONE: Fault = Fault::At { after: 0, lasts: FaultSpan::ForGood, damage: Damage::Error };

/// Chooses a disk of another leg that is gone too, where a set can do without two.
fn second(case: &Case, seed: u64, disk: usize) -> Option<usize> {
    let parity = case.parity().filter(|parity| parity.parities() == 2)?;
    let leg = (disk / 2 + 1 + seed as usize % (parity.legs() - 1)) % parity.legs();
    (seed / 20 % 2 == 1).then(|| Case::data(leg))
}

fn run(case: &Case, seed: u64, disk: usize, fault: Fault) -> Result<(), String> {
    let rig = Rig::new(case, seed);
    rig.disks[disk].inject(fault);
    if let Some(other) = second(case, seed, disk) {
        rig.disks[other].inject(GONE);
    }
    let steps = case.steps(&mut Rng::new(seed), STEPS);
    rig.run(&steps, 2)?;
    // Without its journal, a set is written no more.
    // What ends in it cannot be made durable, unless it can be told that it is old.
    let fails = |step: &BioStep| {
        case.is_journal(disk) && (step.op == Op::Write || case.ends_there && step.op == Op::Flush)
    };
    if let Some((step, error)) = rig.take_errors().iter().find(|(step, _)| !fails(step)) {
        return Err(format!("{step:?} failed, with one bad leg: {error}; {}", rig.status()));
    }
    rig.read_back()?;
    if seed.is_multiple_of(3) && !case.is_journal(disk) {
        revive(&rig)?;
        // What it is sent now it must know of after a power cut.
        rig.run(&steps[..STEPS / 2], 2)?;
    }
    drop_power(rig, case, seed)
}

/// The leg is repaired, and comes back with the next resume.
fn revive(rig: &Rig) -> Result<(), String> {
    rig.disks.iter().for_each(|disk| disk.heal());
    rig.suspend()?;
    rig.resume()?;
    rig.idle()?;
    rig.read_back().map_err(|why| format!("revived: {why}"))?;
    rig.is_whole().map_err(|why| format!("revived: {why}"))
}

/// The power fails, and the leg is good again afterwards, or is left out at first.
fn drop_power(rig: Rig, case: &Case, seed: u64) -> Result<(), String> {
    let degraded = rig.status().contains('D');
    if degraded && case.parity().is_some() {
        // Both at once may be too much, unless nothing is being written.
        rig.run(&[Step::Bio(FLUSH)], 1)?;
    }
    let (legal, disks) = (rig.legal(), rig.disks.clone());
    drop(rig);
    disks.iter().for_each(|disk| {
        disk.lose_cache();
        disk.heal();
    });
    // Writes end in the journal of whole sets alone.
    let case = Case { ends_there: case.ends_there && !degraded, ..case.clone() };
    let rig = Rig::over(&case, seed, &disks);
    let content = rig.content().map_err(|why| format!("after a power cut: {why}"))?;
    legal.check_power_cut(&content).map_err(|why| format!("after a power cut: {why}"))?;
    rig.idle()?;
    if rig.content()? != content {
        return Err("the resync has changed the content".to_owned());
    }
    rig.is_whole().map_err(|why| format!("after a power cut ({degraded}): {why}"))
}

const TEST: &str = "-p dmsim-targets --test raid whatever_fails";

fn fail_everything(case: &Case, seed: u64) -> Result<(), String> {
    let rig = Rig::new(case, seed);
    let before: Vec<u64> = rig.disks.iter().map(|disk| ended(disk)).collect();
    let steps: Vec<Step> = case.steps(&mut Rng::new(seed), STEPS);
    rig.run(&steps, 2)?;
    let counts: Vec<u64> =
        rig.disks.iter().zip(before).map(|(disk, before)| ended(disk) - before).collect();
    drop(rig);
    for (disk, count) in counts.into_iter().enumerate() {
        for after in 0..count {
            for lasts in [FaultSpan::Once, FaultSpan::ForGood] {
                let fault = Fault::At { after, lasts, damage: Damage::Error };
                run(case, seed, disk, fault)
                    .map_err(|why| format!("disk {disk}, {fault:?}: {why}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn whatever_fails_below_nothing_is_lost() {
    each_seed(TEST, 24, |seed| {
        // Of a set that was never in sync, the first leg alone has what counts.
        fail_everything(&Case { in_sync: true, ..Case::of(seed) }, seed)
    });
}

#[test]
fn whatever_fails_below_parity_nothing_is_lost() {
    each_seed(TEST, 40, |seed| {
        let (has_journal, ends_there) = (seed % 4 >= 2, seed % 4 == 2);
        let case = Case { in_sync: true, has_journal, ends_there, ..Case::with_parity(seed) };
        fail_everything(&case, seed)
    });
}

#[test]
fn a_leg_that_fails_while_it_is_rebuilt_is_rebuilt_whole_when_it_is_back() {
    each_seed(TEST, 60, |seed| {
        // Raid1, whose first leg has what counts.
        let mut case = Case { in_sync: true, ..Case::of(seed / 3 * 6 + seed % 3) };
        let disks = Rig::new(&case, seed).disks;
        let leg = 1 + seed as usize % (case.legs - 1);
        disks.iter().for_each(|disk| disk.lose_cache());
        // Nothing of it is good.
        let data = &disks[Case::data(leg)];
        (0..case.len / 4).for_each(|sector| data.fill(Sector(sector), &[0xee; SECTOR]));
        case.more = format!(" rebuild {leg}");
        let rig = Rig::again(&case, seed, &disks);
        let (after, lasts) = (seed / 2 % 5, FaultSpan::ForGood);
        rig.disks[Case::data(leg)].inject(Fault::At { after, lasts, damage: Damage::Error });
        rig.run(&case.steps(&mut Rng::new(seed), STEPS), 2)?;
        revive(&rig)
    });
}

/// What is written while it is out lies before where its rebuild had got.
#[test]
fn a_leg_that_fails_far_into_its_rebuild_lacks_what_is_written_before_that() {
    /// Three rounds of a rebuild.
    const DEVICE: u64 = 3 * 4 * 2048;
    each_seed(TEST, 8, |seed| {
        let mut case = match seed % 2 {
            0 => Case { in_sync: true, legs: 2, more: String::new(), ..Case::of(seed * 6) },
            _ => Case { in_sync: true, ..Case::with_parity(seed / 2) },
        };
        case.len = case.parity().map_or(1, |parity| parity.data_legs() as u64) * DEVICE;
        let disks = Rig::new(&case, seed).disks;
        case.more = format!(" rebuild {}", case.legs - 1);
        let leg = &disks[Case::data(case.legs - 1)];
        let before = ended(leg);
        let rig = Rig::again(&case, seed, &disks);
        rig.idle()?;
        rig.suspend()?;
        drop(rig);
        // In the second round of three, or the third.
        let (after, lasts) = ((ended(leg) - before) * 2 / 3, FaultSpan::ForGood);
        let rig = Rig::again(&case, seed, &disks);
        leg.inject(Fault::At { after, lasts, damage: Damage::Error });
        rig.idle()?;
        let mut rng = Rng::new(seed);
        let mut write = |_| {
            let sector = rng.below(case.len as usize / 4) as u64;
            Step::Bio(BioStep { op: Op::Write, sector, len: 1, flags: Flags::default() })
        };
        let steps: Vec<Step> = (0..STEPS).map(&mut write).collect();
        rig.run(&steps, 1)?;
        let superblock = rig.disks[Case::meta(case.legs - 1)].sector(Sector(0));
        let reached = Superblock::read(&superblock).map(|superblock| superblock.recovery_offset);
        if !reached.is_some_and(|reached| (DEVICE / 4..DEVICE).contains(&reached)) {
            return Err(format!("its rebuild came to {reached:?}"));
        }
        revive(&rig)
    });
}

#[test]
fn a_leg_that_fails_while_another_table_waits_is_rebuilt_when_that_is_in_use() {
    each_seed(TEST, 80, |seed| {
        let mut case = match seed % 2 {
            0 => Case { in_sync: true, ..Case::of(seed / 2) },
            _ => Case { in_sync: true, ..Case::with_parity(seed / 2) },
        };
        case.has_journal = false;
        let rig = Rig::new(&case, seed);
        rig.load()?;
        let leg = seed as usize / 2 % case.legs;
        // It knows of its failure, or has been told nothing since.
        let gone = [Case::data(leg), Case::meta(leg)];
        for disk in gone.iter().take(1 + seed as usize / 3 % 2) {
            rig.disks[*disk].inject(GONE);
        }
        rig.run(&case.steps(&mut Rng::new(seed), STEPS), 2)?;
        let was_lost = rig.status().contains('D');
        revive(&rig).map_err(|why| format!("{was_lost}, leg {leg}: {why}"))?;
        rig.run(&case.steps(&mut Rng::new(seed + 1), STEPS), 2)?;
        drop_power(rig, &case, seed)
    });
}

#[test]
fn a_write_does_not_wait_for_a_leg_that_it_may_be_behind_on() {
    let mut behind = 0;
    each_seed(TEST, 100, |seed| {
        let more = " write_mostly 1 max_write_behind 6".to_owned();
        let case = Case { in_sync: true, legs: 2, more, ..Case::of(seed * 6) };
        let rig = Rig::new(&case, seed);
        rig.disks[Case::data(0)].set_speed(Speed::AtOnce);
        rig.disks[Case::data(1)].set_speed(Speed::Waits);
        let device = rig.device.clone();
        let write = async move { device.submit(Bio::write(Sector(0), &[7; SECTOR])).await };
        let written = rig.world.sim.try_block_on(write).map_err(|stuck| stuck.to_string())?;
        written.map_err(|error| error.to_string())?;
        behind += u64::from(rig.disks[Case::data(1)].sector(Sector(0)) != [7; SECTOR]);
        // Who reads there now waits until it has it.
        rig.disks[Case::data(0)].inject(GONE);
        if rig.content()?[..SECTOR] != [7; SECTOR] {
            return Err("the leg is read before it has what was written".to_owned());
        }
        rig.disks[Case::data(0)].heal();
        rig.suspend()?;
        rig.resume()?;
        rig.idle()?;
        rig.is_whole()
    });
    assert!(behind > 20, "only {behind} of 100 writes were behind");
}
