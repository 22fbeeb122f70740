//! Bios that wait for a path: they go on with the first, and end only where they are let go.

use std::time::Duration;

use sim_core::{BlkError, Held};
use testkit::{Rng, each_seed};

use crate::rig::{Case, LEN, LONGEST, Rig, steps};

fn waiting(seed: u64) -> Case {
    Case { queue_if_no_path: true, ..Case::of(seed) }
}

/// All paths fail while bios are on their way; then `what`, and all bios have ended.
fn all_paths_fail(
    seed: u64,
    fails_by_message: bool,
    what: impl Fn(&Rig) -> Result<(), String>,
) -> Result<Rig, String> {
    let case = waiting(seed);
    let rig = Rig::new(&case, seed);
    rig.ports.iter().for_each(|port| port.delay(Duration::from_millis(2)));
    let steps = steps(&mut Rng::new(seed), LEN, 12, LONGEST);
    let started = rig.start(&steps, 4);
    for path in 0..case.paths() {
        match fails_by_message {
            true => rig.message(&format!("fail_path {}", Rig::path(path)))?,
            false => rig.ports[path].fail(BlkError::Io),
        }
    }
    rig.idle()?;
    rig.no_errors()?;
    if started.iter().all(|task| task.is_done()) {
        return Err("no bio waits".to_owned());
    }
    rig.counts_nothing()?;
    rig.ports.iter().for_each(|port| port.heal());
    what(&rig)?;
    rig.idle()?;
    rig.all_ended(&started)?;
    rig.counts_nothing()?;
    Ok(rig)
}

fn reinstate_all(rig: &Rig) -> Result<(), String> {
    (0..rig.case.paths())
        .try_for_each(|path| rig.message(&format!("reinstate_path {}", Rig::path(path))))
}

const TEST: &str = "-p dmsim-targets --test multipath bios_wait";

#[test]
fn bios_wait_for_a_path_and_go_on() {
    each_seed(TEST, 120, |seed| {
        let rig = all_paths_fail(seed, seed.is_multiple_of(2), |rig| {
            let path = seed as usize % rig.case.paths();
            rig.message(&format!("reinstate_path {}", Rig::path(path)))
        })?;
        rig.no_errors()?;
        rig.read_back()
    });
}

#[test]
fn bios_wait_through_a_suspend_that_flushes_nothing() {
    each_seed(TEST, 120, |seed| {
        let rig = all_paths_fail(seed, seed.is_multiple_of(2), |rig| {
            rig.suspend(Held::NoFlush)?;
            if rig.device.in_flight() > 0 {
                return Err("suspended with bios in flight".to_owned());
            }
            if seed.is_multiple_of(3) {
                // Another table, in which all paths are in use.
                let lines = sim_core::parse_table(&rig.case.table()).expect("a table");
                let lines = lines.into_iter().map(|(_, spec)| spec).collect();
                rig.world.load(0, lines).map_err(|failure| failure.to_string())?;
                return rig.resume();
            }
            rig.resume()?;
            rig.idle()?;
            rig.no_errors()?;
            reinstate_all(rig)
        })?;
        rig.no_errors()?;
        rig.read_back()
    });
}

#[test]
fn bios_wait_no_longer_than_they_are_meant_to() {
    each_seed(TEST, 120, |seed| {
        let by_message = seed.is_multiple_of(2);
        let rig = all_paths_fail(seed, by_message, |rig| match seed / 2 % 2 {
            0 => rig.message("fail_if_no_path"),
            _ => {
                rig.suspend(Held::Flush)?;
                rig.resume()?;
                reinstate_all(rig)
            }
        })?;
        let errors = rig.take_errors();
        if errors.is_empty() {
            return Err(format!("no bio failed: {}", rig.text()));
        }
        if let Some((step, error)) = errors.iter().find(|(_, error)| *error != BlkError::Io) {
            return Err(format!("{step}: {error}"));
        }
        reinstate_all(&rig)?;
        rig.read_back()
    });
}
