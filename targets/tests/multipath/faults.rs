//! Faults: each bio on each path fails once, or from there on, in turn. No bio fails as long as there is
//! another path, nothing is lost, and the path is out of use.

use sim_core::BlkError;
use testkit::{Rng, each_seed};

use crate::rig::{Case, LEN, LONGEST, Rig, Step, steps};

const STEPS: usize = 14;

const OF_PATHS: [BlkError; 3] = [BlkError::Io, BlkError::Timeout, BlkError::Gone];

#[test]
fn whatever_fails_on_a_path_another_does() {
    each_seed("-p dmsim-targets --test multipath whatever_fails", 40, |seed| {
        let case = Case::of(seed);
        let steps: Vec<Step> = steps(&mut Rng::new(seed), LEN, STEPS, LONGEST);
        let rig = Rig::new(&case, seed);
        rig.run(&steps, 3)?;
        let counts: Vec<u64> = rig.ports.iter().map(|port| port.came()).collect();
        let (_, most) = (drop(rig), counts.iter().copied().max().unwrap_or(0));
        for path in 0..case.paths() {
            for after in 0..most.min(9) {
                for for_good in [false, true] {
                    let error = OF_PATHS[(after as usize + path) % OF_PATHS.len()];
                    one_path_fails(&case, seed, &steps, path, (after, for_good, error))
                        .map_err(|why| format!("path {path}, {error} after {after}: {why}"))?;
                }
            }
        }
        Ok(())
    });
}

fn one_path_fails(
    case: &Case,
    seed: u64,
    steps: &[Step],
    path: usize,
    (after, for_good, error): (u64, bool, BlkError),
) -> Result<(), String> {
    let rig = Rig::new(case, seed);
    rig.ports[path].fail_after(after, for_good, error);
    let before = rig.ports[path].came();
    rig.run(steps, 3)?;
    rig.no_errors()?;
    rig.counts_nothing()?;
    let reached = rig.ports[path].came() - before;
    let is_failed = |rig: &Rig| rig.paths()[path] == (false, 1);
    let log = rig.world.take_log();
    let failing = format!("device-mapper: multipath: 253:0: Failing path {}.", Rig::path(path));
    // Bios that were given up may have come and not ended.
    if is_failed(&rig) != log.contains(&failing) || rig.events() != log.len() as u32 {
        return Err(format!("{reached} bios came: {}, {log:?}", rig.text()));
    }
    if is_failed(&rig) {
        let came = rig.ports[path].came();
        rig.run(steps, 3)?;
        rig.no_errors()?;
        if rig.ports[path].came() != came {
            return Err(format!("a path that has failed is chosen: {}", rig.text()));
        }
    }
    rig.ports[path].heal();
    let _may_be_in_use = rig.message(&format!("reinstate_path {}", Rig::path(path)));
    if rig.paths().iter().any(|(is_active, _)| !is_active) {
        return Err(format!("not reinstated: {}", rig.text()));
    }
    rig.run(steps, 3)?;
    rig.no_errors()?;
    rig.read_back()
}

#[test]
fn an_error_of_what_lies_behind_is_told_and_fails_no_path() {
    for seed in 0..12 {
        let case = Case::of(seed);
        for error in [BlkError::Medium, BlkError::NoSpace, BlkError::NotSupported] {
            let rig = Rig::new(&case, seed);
            rig.ports.iter().for_each(|port| port.fail(error));
            rig.run(&steps(&mut Rng::new(seed), LEN, 6, LONGEST), 2).expect("an end");
            let errors = rig.take_errors();
            assert!(!errors.is_empty(), "{case:?}");
            assert!(errors.iter().all(|(_, found)| *found == error), "{errors:?}");
            assert!(rig.paths().iter().all(|path| *path == (true, 0)), "{}", rig.text());
            rig.counts_nothing().expect("nothing in flight");
        }
    }
}

#[test]
fn the_last_path_that_fails_takes_the_bio_with_it() {
    for seed in 0..24 {
        let case = Case::of(seed);
        let rig = Rig::new(&case, seed);
        rig.ports.iter().for_each(|port| port.fail(BlkError::Timeout));
        let bio = Step::Bio(testkit::BioStep {
            op: sim_core::Op::Read,
            sector: 0,
            len: 8,
            flags: sim_core::Flags::default(),
        });
        rig.run(std::slice::from_ref(&bio), 1).expect("an end");
        let errors = rig.take_errors();
        // A request keeps its error.
        let expected = if case.mode == "bio" { BlkError::Io } else { BlkError::Timeout };
        assert_eq!(errors.first().map(|(_, error)| *error), Some(expected), "{case:?}");
        assert!(rig.paths().iter().all(|path| *path == (false, 1)), "{}", rig.text());
        assert_eq!(rig.events(), case.paths() as u32);
        let came: u64 = rig.ports.iter().map(|port| port.came()).sum();
        rig.run(&[bio], 1).expect("an end");
        assert_eq!(rig.take_errors().len(), 1);
        assert_eq!(rig.ports.iter().map(|port| port.came()).sum::<u64>(), came);
        rig.counts_nothing().expect("nothing in flight");
    }
}
