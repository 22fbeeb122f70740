//! Plug-ins under a simulation: their callbacks run one at a time, at a seed's choice.

use sdk::sim_core::{Bio, Registry, Sector, Sectors};
use testkit::conformance::{FailedCase, Part, Suite};
use testkit::{World, send};

use crate::machine::{compile, have_cc};

/// Compiles the example with a change, and loads it for a simulation.
fn load(what: &str, flags: &[&str]) -> Registry {
    let dir = tempfile::tempdir().unwrap();
    let what = format!("-DWHAT={what}");
    let flags: Vec<&str> = flags.iter().copied().chain([&*what]).collect();
    let library = compile(dir.path(), "tests/c/nonsense.c", &flags);
    let mut registry = Registry::new();
    sdk::load_in_turn(&library, &mut registry).unwrap();
    registry
}

fn suite(what: &str, flags: &[&str]) -> Suite {
    Suite::new(load(what, flags), "0 64 invert a 0")
}

#[test]
fn every_part_of_the_suite_holds() {
    if !have_cc() {
        return;
    }
    let suite = suite("(void)0", &[]);
    for part in Part::ALL {
        // Seed 6 of `idle` gives a write up that a later one of its sector must not be older than.
        let found = suite.find(part, if part == Part::Idle { 0..20 } else { 0..3 });
        assert!(found.is_none(), "{}", found.unwrap().why);
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    if !have_cc() {
        return;
    }
    let registry = load("(void)0", &[]);
    let run = |seed: u64| {
        let world = World::new(seed, registry.clone());
        world.add_disk(Sectors(64));
        let device = world.set_up(0, "0 64 invert 7:0 0");
        for task in 0..6 {
            let device = device.clone();
            world.sim.start(format!("task {task}"), async move {
                for byte in 0..4 {
                    send(device.clone(), Bio::write(Sector(task), &[byte; 512])).await.unwrap();
                }
            });
        }
        world.sim.run_until_idle().unwrap();
        world.sim.trace_digest()
    };
    let digests = [1, 2, 3].map(run);
    assert_eq!(digests, [1, 2, 3].map(run));
    assert!(digests[0] != digests[1] && digests[1] != digests[2]);
}

#[test]
fn a_flush_that_does_nothing_is_found() {
    if !have_cc() {
        return;
    }
    let suite = suite("type.flush = plain_code", &["-DCODE=0"]);
    let FailedCase { why, .. } = suite.find(Part::Operations, 0..20).unwrap();
    assert!(why.contains("with the power off and on"), "{why}");
}

#[test]
fn a_lock_that_is_held_over_io_lets_the_others_come() {
    if !have_cc() {
        return;
    }
    let found = suite("type.write = write_locked", &[]).find(Part::Model, 0..2);
    assert!(found.is_none(), "{}", found.unwrap().why);
}
