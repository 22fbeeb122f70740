//! Power cuts: after any of them, and a resync, all copies are equal, and hold what is legal.

use std::sync::Arc;

use sim_core::{Flags, Op};
use testkit::{
    BioStep, Crash, Damage, Entry, Explorer, Fault, FaultSpan, Legal, Plan, Rng, SimDisk, each_seed,
};

use crate::rig::{Case, FLUSH, Rig, Step};

const PLAN: Plan = Plan { listed: 5, random: 1, seed: 0 };
/// A write of data is one of parity too.
const PARITY: Plan = Plan { listed: 3, random: 1, seed: 0 };
const SECOND: Plan = Plan { listed: 2, random: 1, seed: 0 };

/// One of so many restarts is cut off by a second power cut.
const CUT_AGAIN: u64 = 7;

/// Returns the place in what each disk has had done, to go back to.
fn checkpoint(disks: &[Arc<SimDisk>]) -> Vec<usize> {
    disks.iter().map(|disk| disk.checkpoint()).collect()
}

fn rewind(disks: &[Arc<SimDisk>], to: &[usize]) {
    disks.iter().zip(to).for_each(|(disk, at)| disk.rewind(*at));
}

/// Explores the power cuts of one run, and returns how many states there were.
fn explore(case: &Case, seed: u64) -> Result<u64, String> {
    let plan = if case.parity().is_some() { PARITY } else { PLAN };
    explore_after(case, seed, &[], &case.steps(&mut Rng::new(seed), 10), plan)
}

/// As [`explore`], after steps in which no power is cut.
fn explore_after(
    case: &Case,
    seed: u64,
    before_it: &[Step],
    steps: &[Step],
    plan: Plan,
) -> Result<u64, String> {
    let rig = Rig::new(case, seed);
    rig.run(before_it, 1)?;
    let mut legal = rig.legal();
    let begin = checkpoint(&rig.disks);
    rig.record();
    // Between the two the set is called clean.
    for steps in steps.chunks(steps.len().div_ceil(2)) {
        rig.run(steps, 1 + seed as usize % 3)?;
    }
    if let Some((step, error)) = rig.take_errors().first() {
        return Err(format!("{step:?} failed though no I/O did: {error}"));
    }
    rig.copies_are_equal()?;
    let (disks, record) = (rig.disks.clone(), rig.sent.journal().take());
    drop(rig);
    rewind(&disks, &begin);
    let (mut count, mut seconds) = (0, 0);
    let plan = Plan { seed, ..plan };
    let first = Explorer::new(&disks, &record).run(plan, &mut legal, |crash, legal| {
        count += 1;
        let before = checkpoint(&disks);
        let recovery = come_back(case, &disks, crash, legal)?;
        if count % CUT_AGAIN != 0 || !before_it.is_empty() {
            return Ok(());
        }
        rewind(&disks, &before);
        // With parity, both at once can be too much, unless there is a journal.
        if case.in_sync && (case.parity().is_none() || case.has_journal) {
            lose_a_leg(case, &disks, crash.at + count as usize, legal)?;
            rewind(&disks, &before);
        }
        let again = Explorer::new(&disks, &recovery);
        let again = again.run(SECOND, &mut legal.clone(), |crash, legal| {
            come_back(case, &disks, crash, legal).map(drop)
        });
        seconds += again.map_err(|why| format!("during the recovery, {why}"))?;
        Ok(())
    });
    Ok(first? + seconds)
}

/// Restarts; looks at the content before the resync and after it, and at the copies. Returns what was
/// written meanwhile.
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
    rig.copies_are_equal()?;
    if rig.content()? != content {
        return Err("the resync has changed the content".to_owned());
    }
    let status = rig.status();
    let expected = format!("{0}/{0} idle", case.total());
    if !status.contains(&expected) || !status.contains(&"A".repeat(case.legs)) {
        return Err(format!("not in sync: {status}"));
    }
    Ok(rig.sent.journal().take())
}

/// Restarts without one of the legs, writes, and restarts with it again: nothing that was acknowledged
/// is lost with it, and it gets what it lacks.
fn lose_a_leg(
    case: &Case,
    disks: &[Arc<SimDisk>],
    seed: usize,
    legal: &Legal,
) -> Result<(), String> {
    // What writes may be behind on does not count: the other of two is not to be lost as well.
    let lost = match case.may_be_behind() {
        Some(leg) if case.legs == 2 => leg,
        _ => seed % case.legs,
    };
    let why = |what: String| format!("leg {lost} is lost: {what}");
    // Writes end in the journal of whole sets alone.
    let case = &Case { ends_there: false, ..case.clone() };
    let without = Case { missing: vec![lost], ..case.clone() };
    let rig = Rig::over(&without, seed as u64, disks);
    let content = rig.content().map_err(why)?;
    legal.check_power_cut(&content).map_err(why)?;
    let is_left_in_order = (seed / case.legs).is_multiple_of(2);
    if is_left_in_order {
        rig.idle()?;
        rig.run(&case.steps(&mut Rng::new(seed as u64), 4), 1).map_err(why)?;
    } else {
        rig.write_durably(0)?;
    }
    let content = rig.content().map_err(why)?;
    // Its superblocks have the last word of the set, or have not.
    if is_left_in_order {
        rig.suspend()?;
    }
    drop(rig);
    let rig = Rig::over(case, seed as u64, disks);
    rig.idle()?;
    rig.is_whole().map_err(why)?;
    match rig.content().map_err(why)? == content {
        true => Ok(()),
        false => Err(why("it has brought back what was written over".to_owned())),
    }
}

const TEST: &str = "-p dmsim-targets --test raid after_a_power_cut";

#[test]
fn after_a_power_cut_and_a_resync_all_copies_hold_what_is_legal() {
    let mut states = 0;
    each_seed(TEST, 8, |seed| {
        states += explore(&Case::of(seed), seed)?;
        Ok(())
    });
    println!("{states} states");
}

/// A start is an event. Who alone has been told of it, and is lost, has as many as those that start without
/// it.
#[test]
fn a_leg_that_is_lost_as_the_set_starts_is_not_believed() {
    let mut states = 0;
    each_seed("-p dmsim-targets --test raid a_leg_that_is_lost", 12, |seed| {
        let case = Case { in_sync: true, ..Case::of(seed) };
        let rig = Rig::new(&case, seed);
        rig.run(&case.steps(&mut Rng::new(seed), 4), 1)?;
        rig.run(&[Step::Bio(FLUSH)], 1)?;
        rig.suspend()?;
        let (mut legal, disks) = (rig.legal(), rig.disks.clone());
        drop(rig);
        let begin = checkpoint(&disks);
        let rig = Rig::over(&case, seed, &disks);
        rig.idle()?;
        let record = rig.sent.journal().take();
        drop(rig);
        rewind(&disks, &begin);
        let plan = Plan { seed, ..PARITY };
        states += Explorer::new(&disks, &record).run(plan, &mut legal, |_, legal| {
            let before = checkpoint(&disks);
            for leg in 0..case.legs {
                lose_a_leg(&case, &disks, case.legs + leg, legal)?;
                rewind(&disks, &before);
            }
            Ok(())
        })?;
        Ok(())
    });
    println!("{states} states");
}

#[test]
fn a_leg_that_comes_back_is_believed_when_it_has_what_it_lacked() {
    let mut states = 0;
    each_seed("-p dmsim-targets --test raid a_leg_that_comes_back", 12, |seed| {
        let case = match seed % 2 {
            0 => Case { in_sync: true, ..Case::of(seed / 2) },
            _ => Case { in_sync: true, ..Case::with_parity(seed / 2) },
        };
        let rig = Rig::new(&case, seed);
        let gone = &rig.disks[Case::data(seed as usize / 2 % case.legs)];
        let lasts = FaultSpan::ForGood;
        gone.inject(Fault::At { after: 0, lasts, damage: Damage::Error });
        rig.run(&case.steps(&mut Rng::new(seed), 10), 2)?;
        rig.run(&[Step::Bio(FLUSH)], 1)?;
        gone.heal();
        let mut legal = rig.legal();
        let begin = checkpoint(&rig.disks);
        // No more than what it takes to come back.
        rig.sent.journal().take();
        rig.record();
        rig.suspend()?;
        rig.resume()?;
        rig.idle()?;
        rig.is_whole()?;
        let (disks, record) = (rig.disks.clone(), rig.sent.journal().take());
        drop(rig);
        rewind(&disks, &begin);
        let plan = Plan { seed, ..PARITY };
        states += Explorer::new(&disks, &record).run(plan, &mut legal, |crash, legal| {
            come_back(&case, &disks, crash, legal).map(drop)
        })?;
        Ok(())
    });
    println!("{states} states");
}

/// The write hole: where a power cut leaves data and parity of different writes, and a leg is lost
/// before a resync, what is computed for it is what nobody wrote.
#[test]
fn a_power_cut_and_a_lost_leg_together_open_the_write_hole() {
    let found = (0..20).any(|seed| {
        let case = Case { in_sync: true, ..Case::with_parity(seed * 2) };
        let rig = Rig::new(&case, seed);
        let mut legal = rig.legal();
        let begin = checkpoint(&rig.disks);
        rig.record();
        rig.run(&case.steps(&mut Rng::new(seed), 6), 1).expect("steps");
        let (disks, record) = (rig.disks.clone(), rig.sent.journal().take());
        drop(rig);
        rewind(&disks, &begin);
        let without = Case { missing: vec![0], ..case };
        let holes = Explorer::new(&disks, &record).run(PLAN, &mut legal, |crash, legal| {
            let rig = Rig::over(&without, crash.at as u64, &disks);
            legal.check_power_cut(&rig.content()?)
        });
        holes.is_err_and(|why| why.contains("what nobody wrote there"))
    });
    assert!(found, "the search does not find the write hole");
}

#[test]
fn a_journal_closes_the_write_hole() {
    let mut states = 0;
    each_seed(TEST, 6, |seed| {
        let (has_journal, ends_there) = (true, seed >= 3);
        let case = Case { in_sync: true, has_journal, ends_there, ..Case::with_parity(seed % 3) };
        states += explore(&case, seed)?;
        Ok(())
    });
    println!("{states} states");
}

#[test]
fn a_journal_that_is_full_begins_anew() {
    let mut states = 0;
    each_seed(TEST, 4, |seed| {
        let (has_journal, ends_there) = (true, seed >= 2);
        let case = Case { in_sync: true, has_journal, ends_there, ..Case::with_parity(0) };
        // Three blocks each: the last of them are near the end of the journal.
        let write = |nr: u64| {
            let sector = nr * 8 % case.len;
            Step::Bio(BioStep { op: Op::Write, sector, len: 8, flags: Flags::default() })
        };
        let mut before: Vec<Step> = (0..340).map(write).collect();
        before.push(Step::Bio(FLUSH));
        let steps: Vec<Step> = (seed..seed + 4).map(write).collect();
        // Each state has a whole journal to replay.
        let plan = Plan { listed: 1, random: 1, seed: 0 };
        states += explore_after(&case, seed * 3 + 1, &before, &steps, plan)?;
        Ok(())
    });
    println!("{states} states");
}

#[test]
fn after_a_power_cut_and_a_resync_parity_is_that_of_legal_data() {
    let mut states = 0;
    each_seed(TEST, 4, |seed| {
        states += explore(&Case::with_parity(seed), seed)?;
        Ok(())
    });
    println!("{states} states");
}
