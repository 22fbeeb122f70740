//! Bugs planted in target types, each found by the swarm within a minute, by seeds that begin at 0;
//! and the same types without them, in which it finds nothing.
//!
//! The types have the names of ours, so that nothing of the swarm knows of them.
//! `cargo test -p dmsim-swarm --test planted -- --nocapture` prints what was found.

mod types;

use std::time::{Duration, Instant};

use sim_core::{Registry, TargetType};
use swarm::{Verdict, kind, make, run, shrink};
use types::{
    ALL_WELL, ANSWERS_EARLY, Flushing, KEEPS_ON, Keeper, LOSES_FLUSHES, OFF_BY_ONE, Remap, STUCK,
    TEXT_OF_ANOTHER,
};

/// The most time that finding one bug takes.
const LIMIT: Duration = Duration::from_secs(60);

/// The most seeds that are tried.
const SEEDS: u64 = 3000;

/// Makes a registry of few types: stacks have many of the one that matters.
fn with<T: TargetType>() -> Registry {
    let registry = Registry::new().with::<T>();
    if T::NAME == "linear" { registry } else { registry.with::<targets::Linear>() }
}

/// Asserts that the swarm finds the bug, makes it small, and that the small case repeats it.
#[track_caller]
fn finds(registry: &Registry, words: &str, most_steps: usize) {
    let started = Instant::now();
    let found = (0..SEEDS).find_map(|seed| match run(&make(seed, registry), registry).0 {
        Verdict::Failed(why) => Some((seed, why)),
        Verdict::Held | Verdict::Refused(_) => None,
    });
    let (seed, why) = found.expect("the bug is found");
    let mut fails = |case: &swarm::case::Case| match run(case, registry).0 {
        Verdict::Failed(why) => Some(why),
        Verdict::Held | Verdict::Refused(_) => None,
    };
    let (case, why) = shrink(make(seed, registry), why, Duration::from_secs(10), &mut fails);
    println!("after {seed} seeds, {:.1?}: {why}\n{case}", started.elapsed());
    assert!(started.elapsed() < LIMIT, "it took {:?}", started.elapsed());
    assert!(why.contains(words), "{why}");
    assert!(case.steps.len() <= most_steps, "{case}");
    let Verdict::Failed(again) = swarm::repeat(&case.to_string(), registry) else {
        panic!("the case repeats it: {case}");
    };
    assert_eq!(kind(&again), kind(&why));
}

#[test]
fn a_sector_that_is_off_by_one_is_found() {
    finds(&with::<Remap<OFF_BY_ONE>>(), "sector", 4);
}

#[test]
fn a_write_that_is_acknowledged_early_is_found() {
    finds(&with::<Keeper<ANSWERS_EARLY>>(), "sector", 12);
}

#[test]
fn a_flush_that_is_lost_is_found() {
    finds(&with::<Flushing<LOSES_FLUSHES>>(), "with the power off and on", 4);
}

#[test]
fn a_suspend_that_does_not_drain_is_found() {
    finds(&with::<Keeper<KEEPS_ON>>(), "suspended", 6);
}

#[test]
fn a_bio_that_never_ends_is_found() {
    finds(&with::<Remap<STUCK>>(), "never ends", 4);
}

#[test]
fn a_text_that_is_another_table_is_found() {
    finds(&with::<Remap<TEXT_OF_ANOTHER>>(), "was loaded as", 2);
}

#[test]
fn nothing_is_found_without_them() {
    for registry in
        [with::<Remap<ALL_WELL>>(), with::<Keeper<ALL_WELL>>(), with::<Flushing<ALL_WELL>>()]
    {
        for seed in 0..150 {
            let verdict = run(&make(seed, &registry), &registry).0;
            assert!(!matches!(verdict, Verdict::Failed(_)), "seed {seed}: {verdict:?}");
        }
    }
}
