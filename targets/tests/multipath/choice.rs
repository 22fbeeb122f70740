//! The path that is taken is the one that the model says, bio for bio.

use std::time::Duration;

use proptest::prelude::*;
use sim_core::{BlkError, Flags, Op};
use testkit::BioStep;

use crate::model::{Group, Kind, Model, Path};
use crate::rig::{Case, LEN, Rig, Step};

/// Something that changes which path is next.
#[derive(Clone, Debug)]
enum Act {
    /// A bio of so many sectors comes.
    Send(u64),
    /// The bio ends that is on this path for the longest time, if there is one.
    End(usize),
    /// It fails, instead.
    EndBadly(usize),
    Fail(usize),
    Reinstate(usize),
    Disable(usize),
    Enable(usize),
    Switch(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (1u64..=8).prop_map(Act::Send),
        3 => (0usize..6).prop_map(Act::End),
        1 => (0usize..6).prop_map(Act::EndBadly),
        2 => (0usize..6).prop_map(Act::Fail),
        2 => (0usize..6).prop_map(Act::Reinstate),
        1 => (0usize..3).prop_map(Act::Disable),
        1 => (0usize..3).prop_map(Act::Enable),
        1 => (0usize..3).prop_map(Act::Switch),
    ];
    prop::collection::vec(act, 1..40)
}

fn model(groups: &[(Kind, Vec<u64>)]) -> Model {
    let mut nr = 0;
    let mut path = |throughput: &u64| {
        nr += 1;
        let (nr, throughput) = (nr - 1, *throughput);
        Path { nr, failed: false, failures: 0, throughput, in_flight: Vec::new() }
    };
    let groups = groups.iter().map(|(kind, throughputs)| Group {
        kind: *kind,
        disabled: false,
        paths: throughputs.iter().map(&mut path).collect(),
    });
    Model { groups: groups.collect(), next: Some(0), current: None }
}

/// Sends one bio, and returns the path that it came to.
fn send(rig: &Rig, len: u64) -> Option<usize> {
    let before: Vec<u64> = rig.ports.iter().map(|port| port.came()).collect();
    let bio = BioStep { op: Op::Read, sector: LEN - len, len, flags: Flags::default() };
    rig.start(&[Step::Bio(bio)], 1);
    rig.idle().expect("an end");
    let came = rig.ports.iter().zip(before).map(|(port, before)| port.came() - before);
    let came: Vec<u64> = came.collect();
    assert!(came.iter().sum::<u64>() <= 1, "a bio takes one path: {came:?}");
    came.iter().position(|came| *came == 1)
}

fn check(groups: &[(Kind, Vec<u64>)], acts: &[Act]) -> Result<(), TestCaseError> {
    let mut model = model(groups);
    let case = Case {
        mode: "bio",
        queue_if_no_path: false,
        groups: groups.iter().map(|(_, paths)| paths.len()).collect(),
        selectors: groups.iter().map(|(kind, _)| *kind as usize).collect(),
    };
    let rig = Rig::new_with(&case, 1, |path| {
        let throughputs: Vec<u64> = groups.iter().flat_map(|(_, paths)| paths.clone()).collect();
        throughputs[path]
    });
    rig.ports.iter().for_each(|port| port.hold(true));
    for (step, act) in acts.iter().enumerate() {
        let paths = case.paths();
        match *act {
            Act::Send(len) => {
                let expected = model.choose(len);
                prop_assert_eq!(send(&rig, len), expected, "step {}: {:?}", step, &model);
                if let Some(path) = expected {
                    model.path(path).in_flight.push(len);
                }
            }
            Act::End(path) => {
                if let Some(path) = (path < paths && rig.ports[path].held() > 0).then_some(path) {
                    rig.ports[path].release_one();
                    rig.idle().expect("an end");
                    model.path(path).in_flight.remove(0);
                }
            }
            Act::EndBadly(path) => {
                let is_alone =
                    |model: &mut Model, path: usize| model.path(path).in_flight.len() == 1;
                // With others behind it, those would fail too.
                if path < paths && is_alone(&mut model, path) {
                    rig.ports[path].fail_after(0, false, BlkError::Io);
                    rig.ports[path].release_one();
                    rig.idle().expect("an end");
                    model.fail(path);
                    let len = model.path(path).in_flight.remove(0);
                    // It goes by another path, where there is one.
                    let live = model.groups.iter().flat_map(|group| &group.paths);
                    if live.clone().any(|path| !path.failed) {
                        let other = model.choose(len).expect("a path");
                        model.path(other).in_flight.push(len);
                    }
                }
            }
            Act::Fail(path) if path < paths => {
                rig.message(&format!("fail_path {}", Rig::path(path))).expect("a path");
                model.fail(path);
            }
            Act::Reinstate(path) if path < paths => {
                rig.message(&format!("reinstate_path {}", Rig::path(path))).expect("a path");
                model.reinstate(path);
            }
            Act::Disable(group) | Act::Enable(group) if group < groups.len() => {
                let disabled = matches!(act, Act::Disable(_));
                let word = if disabled { "disable_group" } else { "enable_group" };
                rig.message(&format!("{word} {}", group + 1)).expect("a group");
                model.groups[group].disabled = disabled;
                model.current = None;
            }
            Act::Switch(group) if group < groups.len() => {
                rig.message(&format!("switch_group {}", group + 1)).expect("a group");
                model.groups.iter_mut().for_each(|group| group.disabled = false);
                (model.next, model.current) = (Some(group), None);
            }
            _ => {}
        }
        let held: Vec<usize> = rig.ports.iter().map(|port| port.held()).collect();
        let expected: Vec<usize> =
            (0..paths).map(|path| model.path(path).in_flight.len()).collect();
        prop_assert_eq!(held, expected, "after step {}, {:?}", step, act);
        let states: Vec<(bool, u32)> =
            (0..paths).map(|path| (!model.path(path).failed, model.path(path).failures)).collect();
        prop_assert_eq!(rig.paths(), states);
    }
    rig.ports.iter().for_each(|port| port.heal());
    rig.idle().expect("an end");
    prop_assert_eq!(rig.counts_nothing(), Ok(()));
    Ok(())
}

fn groups() -> impl Strategy<Value = Vec<(Kind, Vec<u64>)>> {
    let kind =
        prop_oneof![Just(Kind::RoundRobin), Just(Kind::QueueLength), Just(Kind::ServiceTime)];
    let throughputs = prop::collection::vec(prop_oneof![Just(1u64), 0u64..=100], 1..=3);
    prop::collection::vec((kind, throughputs), 1..=2)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_path_is_the_one_that_the_kernel_takes(groups in groups(), acts in acts()) {
        check(&groups, &acts)?;
    }
}

/// Sends so many bios of eight sectors from eight tasks over two paths, and returns how many took each.
fn shares(selector: usize, delays: [u64; 2], count: usize) -> [u64; 2] {
    let case =
        Case { mode: "rq", queue_if_no_path: false, groups: vec![2], selectors: vec![selector] };
    let rig = Rig::new(&case, 5);
    for (port, delay) in rig.ports.iter().zip(delays) {
        port.delay(Duration::from_millis(delay));
    }
    let bio = BioStep { op: Op::Read, sector: 0, len: 8, flags: Flags::default() };
    let before: Vec<u64> = rig.ports.iter().map(|port| port.came()).collect();
    rig.run(&vec![Step::Bio(bio); count], 8).expect("an end");
    rig.no_errors().expect("no error");
    rig.counts_nothing().expect("nothing in flight");
    [0, 1].map(|path| rig.ports[path].came() - before[path])
}

#[test]
fn a_path_that_answers_late_gets_less_where_that_counts() {
    for (selector, slow_gets_less) in [(0, false), (1, true), (2, true), (3, true)] {
        let [slow, fast] = shares(selector, [40, 2], 400);
        assert_eq!(slow + fast, 400);
        match slow_gets_less {
            true => assert!(slow > 0 && slow * 3 < fast, "{selector}: {slow} and {fast}"),
            false => assert_eq!(slow, fast, "each has its turn"),
        }
    }
}

#[test]
fn each_processor_has_its_path() {
    // Of the four processors the first two have one each.
    let [one, other] = shares(4, [1, 1], 400);
    assert!(one > 200 && (50..150).contains(&other), "{one} and {other}");
}
