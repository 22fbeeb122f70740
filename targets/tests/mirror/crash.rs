//! Power cuts: after any of them, and a resync, all legs are equal, and hold what is legal.

use std::sync::Arc;

use testkit::{Crash, Entry, Explorer, Legal, Plan, Rng, SimDisk, each_seed};

use crate::rig::{Case, Rig, steps};

const PLAN: Plan = Plan { listed: 5, random: 1, seed: 0 };
const SECOND: Plan = Plan { listed: 2, random: 1, seed: 0 };

/// One of so many restarts is cut off by a second power cut.
const CUT_AGAIN: u64 = 7;

fn case(seed: u64) -> Case {
    Case {
        legs: if seed.is_multiple_of(4) { 3 } else { 2 },
        len: 40,
        region: [4, 8, 16][seed as usize / 2 % 3],
        disk_log: true,
        features: ["", "1 handle_errors", "2 handle_errors keep_log"][seed as usize % 3],
        in_sync: !seed.is_multiple_of(3),
    }
}

/// Explores the power cuts of one run, and returns how many states there were.
fn explore(seed: u64) -> Result<u64, String> {
    let case = case(seed);
    let rig = Rig::new(&case, seed);
    let mut legal = rig.legal();
    let begin: Vec<usize> = rig.disks.iter().map(|disk| disk.checkpoint()).collect();
    rig.record();
    let steps = steps(&mut Rng::new(seed), case.len, 10, 6);
    rig.run(&steps, 1 + seed as usize % 3)?;
    if let Some((step, error)) = rig.take_errors().first() {
        return Err(format!("{step:?} failed though no I/O did: {error}"));
    }
    rig.legs_are_equal()?;
    let (disks, record) = (rig.disks.clone(), rig.sent.journal().take());
    drop(rig);
    disks.iter().zip(begin).for_each(|(disk, at)| disk.rewind(at));
    let (mut count, mut seconds) = (0, 0);
    let plan = Plan { seed, ..PLAN };
    let first = Explorer::new(&disks, &record).run(plan, &mut legal, |crash, legal| {
        count += 1;
        let before: Vec<usize> = disks.iter().map(|disk| disk.checkpoint()).collect();
        let recovery = come_back(&case, &disks, crash, legal)?;
        if count % CUT_AGAIN != 0 {
            return Ok(());
        }
        disks.iter().zip(before).for_each(|(disk, at)| disk.rewind(at));
        let again = Explorer::new(&disks, &recovery);
        let again = again.run(SECOND, &mut legal.clone(), |crash, legal| {
            come_back(&case, &disks, crash, legal).map(drop)
        });
        seconds += again.map_err(|why| format!("during the recovery, {why}"))?;
        Ok(())
    });
    Ok(first? + seconds)
}

/// Restarts; looks at the content before the resync and after it, and at the legs. Returns what
/// was written meanwhile.
fn come_back(
    case: &Case,
    disks: &[Arc<SimDisk>],
    crash: Crash,
    legal: &Legal,
) -> Result<Vec<Entry>, String> {
    let rig = Rig::over(case, crash.at as u64, disks);
    let content = rig.content()?;
    legal.check_power_cut(&content)?;
    rig.idle()?;
    rig.legs_are_equal()?;
    if rig.content()? != content {
        return Err("the resync has changed the content".to_owned());
    }
    let total = case.len.div_ceil(case.region);
    let status = rig.status();
    if !status.contains(&format!(" {total}/{total} 1 AA")) {
        return Err(format!("not in sync: {status}"));
    }
    Ok(rig.sent.journal().take())
}

const TEST: &str = "-p dmsim-targets --test mirror after_a_power_cut";

#[test]
fn after_a_power_cut_and_a_resync_all_legs_hold_what_is_legal() {
    let mut states = 0;
    each_seed(TEST, 12, |seed| {
        states += explore(seed)?;
        Ok(())
    });
    println!("{states} states");
}

#[test]
fn a_region_that_is_written_while_the_legs_are_flushed_is_not_made_clean() {
    explore(223).expect("a seed that has found this");
}
