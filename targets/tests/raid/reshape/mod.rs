//! Reshapes: the power fails anywhere, I/O fails anywhere, bios come all the while. Nothing is lost,
//! and the set ends whole in its new layout.

mod rig;

use std::sync::Arc;

use testkit::{Crash, Damage, Entry, Explorer, Fault, FaultSpan, Legal, Plan, SimDisk, each_seed};

use rig::{Case, Rig, steps_of};

const PLAN: Plan = Plan { listed: 1, random: 1, seed: 0 };
const SECOND: Plan = Plan { listed: 1, random: 1, seed: 0 };
/// One of so many restarts is cut off by a second power cut.
const CUT_AGAIN: u64 = 61;

fn explore(case: &Case, seed: u64) -> Result<u64, String> {
    let rig = Rig::new(case, seed);
    let case = &rig.case.clone();
    let mut legal = rig.legal();
    let begin: Vec<usize> = rig.disks.iter().map(|disk| disk.checkpoint()).collect();
    rig.disks.iter().for_each(|disk| disk.record(rig.sent.journal().clone()));
    rig.run(&steps_of(case, seed, 6), 1 + seed as usize % 3)?;
    if let Some((step, error)) = rig.take_errors().first() {
        return Err(format!("{step:?} failed though no I/O did: {error}"));
    }
    rig.read_back()?;
    rig.is_whole()?;
    let (disks, record) = (rig.disks.clone(), rig.sent.journal().take());
    drop(rig);
    disks.iter().zip(begin).for_each(|(disk, at)| disk.rewind(at));
    let (mut count, mut seconds) = (0, 0);
    let plan = Plan { seed, ..PLAN };
    let first = Explorer::new(&disks, &record).run(plan, &mut legal, |crash, legal| {
        count += 1;
        let again = come_back(case, &disks, crash, legal)?;
        if count % CUT_AGAIN != 0 {
            return Ok(());
        }
        let (entries, before) = again;
        disks.iter().zip(&before).for_each(|(disk, at)| disk.rewind(*at));
        let second = Explorer::new(&disks, &entries);
        let second = second.run(SECOND, &mut legal.clone(), |crash, legal| {
            come_back(case, &disks, crash, legal).map(drop)
        });
        seconds += second.map_err(|why| format!("during the restart, {why}"))?;
        Ok(())
    });
    Ok(first? + seconds)
}

type Restart = (Vec<Entry>, Vec<usize>);

/// Restarts: the reshape goes on to its end, and the content is legal before it and after it. Returns
/// what was written meanwhile, and where the disks were before.
fn come_back(
    case: &Case,
    disks: &[Arc<SimDisk>],
    crash: Crash,
    legal: &Legal,
) -> Result<Restart, String> {
    let before = disks.iter().map(|disk| disk.checkpoint()).collect();
    let rig = Rig::over(case, crash.at as u64, disks)?;
    let content = rig.content()?;
    legal.check_power_cut(&content)?;
    rig.idle()?;
    rig.is_whole()?;
    if rig.content()? != content {
        return Err("the reshape has changed the content".to_owned());
    }
    Ok((rig.sent.journal().take(), before))
}

const TEST: &str = "-p dmsim-targets --test raid reshape";

#[test]
fn after_a_power_cut_a_reshape_goes_on_and_the_content_is_legal() {
    let mut states = 0;
    each_seed(TEST, 4, |seed| {
        states += explore(&Case::of(seed), seed)?;
        Ok(())
    });
    println!("{states} states");
}

#[test]
fn after_a_power_cut_a_reshape_of_raid10_goes_on_and_the_content_is_legal() {
    let mut states = 0;
    each_seed(TEST, 4, |seed| {
        states += explore(&Case::of_raid10(seed), seed)?;
        Ok(())
    });
    println!("{states} states");
}

#[test]
fn a_set_is_used_while_it_is_reshaped() {
    each_seed(TEST, 200, |seed| {
        let case = if seed < 100 { Case::of(seed) } else { Case::of_raid10(seed) };
        let rig = Rig::new(&case, seed);
        rig.read_back()?;
        rig.run(&steps_of(&rig.case, seed, 40), 3)?;
        if let Some((step, error)) = rig.take_errors().first() {
            return Err(format!("{step:?} failed though no I/O did: {error}"));
        }
        rig.read_back()?;
        rig.is_whole()
    });
}

#[test]
fn whatever_fails_below_a_reshape_nothing_is_lost() {
    each_seed(TEST, 18, |seed| {
        let case = if seed < 10 { Case::of(seed) } else { Case::of_raid10(seed) };
        let mut rig = Rig::new(&case, seed);
        rig.loads_first = true;
        let ended = |disk: &Arc<SimDisk>| {
            let counts = disk.counts();
            counts.reads + counts.writes + counts.flushes + counts.discards
        };
        let before: Vec<u64> = rig.disks.iter().map(ended).collect();
        rig.run(&steps_of(&rig.case, seed, 6), 2)?;
        let after: Vec<u64> = rig.disks.iter().map(ended).collect();
        for disk in 0..case.new.1 * 2 {
            for at in 0..after[disk] - before[disk] {
                // Each third, another with each seed.
                if !(at + seed).is_multiple_of(3) {
                    continue;
                }
                for lasts in [FaultSpan::Once, FaultSpan::ForGood] {
                    let fault = Fault::At { after: at, lasts, damage: Damage::Error };
                    fail(&case, seed, disk, fault)
                        .map_err(|why| format!("disk {disk}, {fault:?}: {why}"))?;
                }
            }
        }
        Ok(())
    });
}

/// Reshapes while some I/O fails; then the power does, and the disk is good again.
fn fail(case: &Case, seed: u64, disk: usize, fault: Fault) -> Result<(), String> {
    let mut rig = Rig::new(case, seed);
    let case = &rig.case.clone();
    rig.loads_first = true;
    rig.disks[disk].inject(fault);
    let loaded = rig.run(&steps_of(case, seed, 6), 2);
    if let Err(why) = &loaded {
        // Metadata that cannot be read is known when the table is taken.
        return if why.starts_with("load") || why.starts_with("resume") { Ok(()) } else { loaded };
    }
    if let Some((step, error)) = rig.take_errors().first() {
        return Err(format!("{step:?} failed, with one bad leg: {error}; {}", rig.status()));
    }
    rig.read_back()?;
    if rig.status().contains('D') {
        // A lost leg and a power cut at once may be too much, unless nothing is being written.
        rig.flush()?;
    }
    let (legal, disks) = (rig.legal(), rig.disks.clone());
    drop(rig);
    disks.iter().for_each(|disk| {
        disk.lose_cache();
        disk.heal();
    });
    let rig = Rig::over(case, seed, &disks)?;
    let content = rig.content().map_err(|why| format!("after a power cut: {why}"))?;
    legal.check_power_cut(&content).map_err(|why| format!("after a power cut: {why}"))?;
    rig.idle()?;
    if rig.content()? != content {
        return Err("what came after a power cut has changed the content".to_owned());
    }
    rig.is_whole()
}
