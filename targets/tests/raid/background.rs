//! What goes on in the background while the set is used: resync, recovery, check and repair keep out
//! of the way of writes, and end with all copies equal.

use testkit::{Rng, each_seed};

use crate::rig::{Case, Rig};

const STEPS: usize = 24;

fn work(rig: &Rig, seed: u64) -> Result<(), String> {
    rig.run(&rig.case.steps(&mut Rng::new(seed), STEPS), 3)?;
    if let Some((step, error)) = rig.take_errors().first() {
        return Err(format!("{step:?} failed though no I/O did: {error}"));
    }
    rig.read_back()?;
    rig.is_whole()
}

/// One of the shapes that are tried: every other has parity.
fn case(seed: u64) -> Case {
    match seed % 2 {
        0 => Case::of(seed / 2),
        _ => Case::with_parity(seed / 2),
    }
}

const TEST: &str = "-p dmsim-targets --test raid background";

#[test]
fn a_set_is_used_while_it_is_resynced() {
    each_seed(TEST, 200, |seed| {
        let case = Case { in_sync: false, ..case(seed) };
        work(&Rig::new(&case, seed), seed)
    });
}

#[test]
fn a_set_is_used_while_a_leg_is_rebuilt() {
    each_seed(TEST, 200, |seed| {
        let case = Case { in_sync: true, ..case(seed) };
        let disks = Rig::new(&case, seed).disks;
        work(&Rig::rebuild(&case, seed, &disks, seed as usize % case.legs), seed)
    });
}

#[test]
fn what_is_written_during_a_check_is_no_mismatch_and_a_repair_changes_nothing() {
    each_seed(TEST, 200, |seed| {
        let case = Case { in_sync: true, ..case(seed) };
        let rig = Rig::new(&case, seed);
        rig.message(if seed / 2 % 2 == 0 { "check" } else { "repair" })?;
        work(&rig, seed)?;
        match rig.mismatches() {
            0 => Ok(()),
            sectors => Err(format!("{sectors} sectors differ: {}", rig.status())),
        }
    });
}

#[test]
fn a_check_counts_what_differs_and_a_repair_mends_it() {
    each_seed(TEST, 60, |seed| {
        let case = Case { in_sync: true, ..case(seed) };
        let rig = Rig::new(&case, seed);
        let content = rig.content()?;
        let sector = Rng::new(seed).below(case.len as usize) as u64;
        rig.spoil(sector);
        for (message, mismatches) in [("check", true), ("repair", true), ("check", false)] {
            rig.message(message)?;
            rig.idle()?;
            let found = rig.mismatches() > 0;
            if message == "check" && found != mismatches {
                return Err(format!("after {message}: {}", rig.status()));
            }
        }
        rig.is_whole()?;
        match rig.content()? == content {
            true => Ok(()),
            false => Err("a repair has changed the content".to_owned()),
        }
    });
}

#[test]
fn a_check_shows_from_when_it_is_asked_for_until_it_is_over() {
    each_seed(TEST, 40, |seed| {
        let case = Case { in_sync: true, ..case(seed) };
        // A seed of those where every task has its turn: one looks on here without an end.
        let rig = Rig::new(&case, seed * 3 + 1);
        let handle = rig.world.handle();
        for _ in 0..4 {
            rig.message("check")?;
            if rig.is_idle() {
                return Err(format!("a check was asked for: {}", rig.status()));
            }
            // Whoever waits for it asks for the next one as soon as it is over.
            let over = async {
                while !rig.is_idle() {
                    handle.turn().await;
                }
            };
            rig.world.sim.try_block_on(over).map_err(|stuck| stuck.to_string())?;
        }
        rig.idle()
    });
}

#[test]
fn what_a_suspend_cuts_off_is_shown_no_more_where_it_is_not_wanted() {
    each_seed(TEST, 40, |seed| {
        let case = Case { in_sync: true, ..case(seed) };
        let rig = Rig::new(&case, seed);
        rig.message("check")?;
        let handle = rig.world.handle();
        let turns = seed % 7;
        let later = async move {
            for _ in 0..turns {
                handle.turn().await;
            }
        };
        rig.world.sim.try_block_on(later).map_err(|stuck| stuck.to_string())?;
        rig.suspend()?;
        rig.resume()?;
        rig.idle()?;
        rig.is_whole()
    });
}
