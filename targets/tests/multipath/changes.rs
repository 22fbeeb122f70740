//! Paths die, hang, answer late and come back, by faults and by messages, groups change, and the device
//! is suspended, while bios come: each ends once, none is lost, and none fails that had a path.

use std::time::Duration;

use sim_core::{BlkError, Held};
use testkit::{Rng, each_seed};

use crate::rig::{Case, LEN, LONGEST, Rig, steps};

/// Does something to the device or a path. One path, `kept`, is left alone.
fn change(rig: &Rig, rng: &mut Rng, kept: usize) -> Result<(), String> {
    let path = rng.below(rig.case.paths());
    let group = 1 + rng.below(rig.case.groups.len());
    let port = &rig.ports[path];
    match rng.below(12) {
        0 | 1 if path != kept => port.fail([BlkError::Io, BlkError::Timeout][rng.below(2)]),
        2 if path != kept => port.hold(true),
        3 => port.delay(Duration::from_millis(rng.below(20) as u64)),
        4 | 5 => {
            if path != kept {
                port.heal();
            }
            rig.message(&format!("reinstate_path {}", Rig::path(path)))?;
        }
        6 if path != kept => rig.message(&format!("fail_path {}", Rig::path(path)))?,
        7 => rig.message(&format!("disable_group {group}"))?,
        8 => rig.message(&format!("enable_group {group}"))?,
        9 => rig.message(&format!("switch_group {group}"))?,
        10 => {
            // What hangs on a path would keep the suspend.
            rig.ports.iter().for_each(|port| port.hold(false));
            let held = if rng.below(2) == 0 { Held::Flush } else { Held::NoFlush };
            rig.suspend(held)?;
            if rng.below(2) == 0 {
                let lines = sim_core::parse_table(&rig.case.table()).expect("a table");
                let lines = lines.into_iter().map(|(_, spec)| spec).collect();
                rig.world.load(0, lines).map_err(|failure| failure.to_string())?;
            }
            rig.resume()?;
        }
        _ => rig.world.sim.block_on(rig.world.handle().turn()),
    }
    Ok(())
}

#[test]
fn whatever_happens_to_paths_no_bio_is_lost() {
    each_seed("-p dmsim-targets --test multipath whatever_happens", 400, |seed| {
        let mut rng = Rng::new(seed);
        let case = Case { queue_if_no_path: seed.is_multiple_of(2), ..Case::of(seed / 2) };
        let rig = Rig::new(&case, seed);
        let kept = rng.below(case.paths());
        let steps = steps(&mut rng, LEN, 40, LONGEST);
        let started = rig.start(&steps, 5);
        for _ in 0..24 {
            change(&rig, &mut rng, kept)?;
        }
        rig.ports.iter().for_each(|port| port.heal());
        rig.idle()?;
        rig.all_ended(&started)?;
        rig.no_errors()?;
        rig.counts_nothing()?;
        rig.read_back()
    });
}

#[test]
fn a_path_that_hangs_keeps_its_bios_and_no_others() {
    for seed in 0..40 {
        let case = Case { groups: vec![2], selectors: vec![seed as usize % 4], ..Case::of(seed) };
        let rig = Rig::new(&case, seed);
        rig.ports[0].hold(true);
        let steps = steps(&mut Rng::new(seed), LEN, 30, LONGEST);
        let started = rig.start(&steps, 10);
        rig.idle().expect("an end");
        let held = rig.ports[0].held();
        assert!(held > 0 && rig.paths()[0] == (true, 0), "{}", rig.text());
        // It is not known to hang; whoever finds out fails it, and what comes goes by the other.
        rig.message("fail_path 253:1").expect("a path");
        let came = rig.ports[0].came();
        let waiting = started.iter().filter(|task| !task.is_done()).count();
        assert!(waiting <= held, "{waiting} of {held}");
        rig.run(&steps, 3).expect("an end");
        assert_eq!(rig.ports[0].came(), came);
        // What hung ends with an error, and is carried out by the other path.
        rig.ports[0].fail(BlkError::Timeout);
        rig.ports[0].hold(false);
        rig.idle().expect("an end");
        rig.all_ended(&started).expect("an end");
        rig.no_errors().expect("no error");
        assert_eq!(rig.paths()[0], (false, 1), "counted once");
        rig.read_back().expect("what was written");
        rig.counts_nothing().expect("nothing in flight");
    }
}
