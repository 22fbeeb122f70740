//! When rules strike, where plans are armed, and what is none.

use super::*;
use sim_core::control::NewName;
use sim_core::{
    Errno, Fails, Fate, FaultOp, FaultRate, Held, MAX_FAULT_RULES, MAX_STRIKES, Seconds,
};

#[test]
fn counts_and_ranges_and_kinds_of_bios_go_together() {
    let world = stack(7);
    // Of the writes that touch sectors 8 to 11, the second and the third.
    let third = FaultRule {
        on: vec![FaultOp::Writes],
        start: Some(Sector(8)),
        len: Some(Sectors(4)),
        nth: Some(2),
        times: Some(2),
        ..rule(FaultKind::Error)
    };
    arm(&world, 0, &[third]);
    let ends: Vec<bool> = [6, 8, 12, 11, 10, 9, 8, 7]
        .iter()
        .map(|at| {
            assert!(read(&world, 0, *at, 1).is_ok());
            write(&world, 0, *at, 2, 1).is_ok()
        })
        .collect();
    // 6 and 12 do not touch; 8 is the first; then 11 and 10 fail; 9, 8 and 7 are too late.
    assert_eq!(ends, [true, true, true, false, false, true, true, true]);
    let report = heal(&world, 0);
    assert_eq!((report.bio_count, report.rules[0].fit_count), (16, 6));
    let struck: Vec<_> = report.strikes.iter().map(|strike| strike.start.0).collect();
    assert_eq!(struck, [11, 10]);
}

#[test]
fn the_first_rule_that_strikes_decides_and_the_others_keep_their_turn() {
    let world = stack(8);
    let once = |kind| FaultRule { times: Some(1), ..rule(kind) };
    arm(&world, 0, &[once(FaultKind::Full), once(FaultKind::Error)]);
    let ends: Vec<_> = (0..3).map(|_| write(&world, 0, 0, 1, 1)).collect();
    assert_eq!(ends, [Err(BlkError::NoSpace), Err(BlkError::Io), Ok(())]);
    let counts: Vec<_> =
        heal(&world, 0).rules.iter().map(|rule| (rule.fit_count, rule.struck_count)).collect();
    assert_eq!(counts, [(3, 1), (3, 1)]);
}

fn seconds(seconds: f64) -> Option<Seconds> {
    Some(seconds.try_into().expect("seconds"))
}

fn pass(world: &World, seconds: f64) {
    let time = std::time::Duration::from_secs_f64(seconds);
    world.sim.block_on(world.sim.runtime().sleep(time));
}

#[test]
fn a_window_of_time_begins_when_the_plan_is_armed() {
    let world = stack(9);
    pass(&world, 100.0);
    let late = FaultRule { from_s: seconds(10.0), for_s: seconds(2.5), ..rule(FaultKind::Error) };
    arm(&world, 0, &[late]);
    assert!(read(&world, 0, 0, 1).is_ok());
    pass(&world, 10.0);
    assert!(read(&world, 0, 0, 1).is_err());
    pass(&world, 2.4);
    assert!(read(&world, 0, 0, 1).is_err());
    pass(&world, 0.2);
    assert!(read(&world, 0, 0, 1).is_ok());
}

#[test]
fn a_slow_bio_comes_later_by_the_clock_of_the_runtime() {
    let world = stack(10);
    let hour = FaultRule { delay_ms: Some(3_600_000), ..rule(FaultKind::Slow) };
    let late_error =
        FaultRule { delay_ms: Some(1000), start: Some(Sector(9)), ..rule(FaultKind::Error) };
    arm(&world, 0, &[late_error, hour]);
    let now = || world.sim.runtime().now().as_secs();
    let began = now();
    assert_eq!(write(&world, 0, 0, 1, b'x'), Ok(()));
    assert!((3600..3605).contains(&(now() - began)), "{}", now() - began);
    let began = now();
    assert_eq!(write(&world, 0, 9, 1, b'x'), Err(BlkError::Io));
    assert!((1..5).contains(&(now() - began)));
    let mut nowait = Bio::write(Sector(0), &[1; 512]);
    nowait.flags.nowait = true;
    assert_eq!(done(&world, 0, nowait), Err(BlkError::Again));
}

#[test]
fn what_a_plan_holds_goes_when_it_is_taken_away_and_no_suspend_waits_for_it() {
    for below in [None, Some("7:0")] {
        let world = stack(11);
        let hour = FaultRule { delay_ms: Some(3_600_000), ..rule(FaultKind::Slow) };
        set(&world, 0, below, plan(&[hour])).expect("a plan");
        let now = || world.sim.runtime().now().as_secs();
        let start = |byte: u8| {
            let device = world.device(0);
            world.sim.start("a write", async move {
                send(device, Bio::write(Sector(0), &[byte; 512])).await
            })
        };
        let first = start(b'a');
        pass(&world, 1.0);
        let began = now();
        world.suspend(0, Held::Flush).expect("a suspend");
        assert!(now() - began < 10, "{below:?}: a suspend waited for it");
        world.resume(0).expect("a resume");
        let second = start(b'b');
        pass(&world, 1.0);
        assert!(!second.is_done(), "it is held after the resume too");
        set(&world, 0, below, None).expect("it can be taken away");
        world.sim.block_on(async {
            world.sim.runtime().sleep(std::time::Duration::from_secs(1)).await;
        });
        assert_eq!((first.take(), second.take()), (Some(Ok(())), Some(Ok(()))), "{below:?}");
    }
}

#[test]
fn a_plan_stays_with_its_device_through_all_but_its_removal() {
    let world = stack(12);
    arm(&world, 0, &[rule(FaultKind::Error)]);
    let fails = |when: &str| assert_eq!(read(&world, 0, 0, 1), Err(BlkError::Io), "{when}");
    world.suspend(0, Held::Flush).expect("a suspend");
    world.resume(0).expect("a resume");
    fails("suspended and resumed");
    let table = sim_core::parse_table("0 16 zero").expect("a line");
    world.load(0, table.into_iter().map(|(_, line)| line).collect()).expect("a table");
    fails("loaded");
    world.resume(0).expect("a table");
    fails("another table");
    let new = NewName::Name("other".to_owned());
    let named = sim_core::control::Id::Name("d0".to_owned());
    world.execute(Command::DevRename { id: named, new }).expect("a name");
    fails("renamed");
    assert_eq!(report(&world, 0)[0].bio_count, 4);
    for device in [3, 2, 0] {
        let remove = sim_core::control::WhenOpen::Refuse;
        world.execute(Command::DevRemove { id: id(device), open: remove }).expect("nobody has it");
    }
    world.set_up(0, "0 32 linear 7:0 0");
    assert_eq!((read(&world, 0, 0, 1).is_ok(), report(&world, 0)), (true, Vec::new()));
}

#[test]
fn a_plan_for_a_device_below_is_a_failure_where_it_says_no_more() {
    let world = stack(13);
    for (fails, on) in [
        (Fails::All, vec![]),
        (Fails::Reads, vec![FaultOp::Reads]),
        (Fails::Writes, vec![FaultOp::Writes, FaultOp::Flushes, FaultOp::Discards]),
    ] {
        let below = "7:0".parse().expect("a number");
        world.execute(Command::SetFails { id: id(0), below, fails }).expect("it is below");
        let [report] = &report(&world, 0)[..] else { panic!("one plan") };
        assert_eq!((report.below, &report.plan.rules[0].on), (Some(below), &on));
        assert_eq!(
            world.device(0).live().expect("a table").devices().next().map(|open| open.fails()),
            Some(fails)
        );
    }
    // Beside one for its users.
    let lost = FaultRule { start: Some(Sector(40)), ..rule(FaultKind::LostWrite) };
    set(&world, 0, Some("7:0"), plan(&[lost])).expect("40 is on the disk");
    arm(
        &world,
        0,
        &[rule(FaultKind::Slow), rule(FaultKind::Error)]
            .map(|rule| FaultRule { delay_ms: Some(1), ..rule }),
    );
    let reports = report(&world, 0);
    assert_eq!((reports.len(), reports[0].below), (2, None));
    let open = world.device(0).live().expect("a table").devices().next().map(|open| open.fails());
    assert_eq!(open, Some(Fails::ByPlan));
}

#[test]
fn a_plan_that_cannot_be_is_refused_and_changes_nothing() {
    let world = stack(14);
    arm(&world, 0, &[rule(FaultKind::Error)]);
    let read_full = FaultRule { on: vec![FaultOp::Reads], ..rule(FaultKind::Full) };
    let at = |start| FaultRule { start: Some(Sector(start)), ..rule(FaultKind::Error) };
    let bad = [
        (vec![], "expected a rule, found none"),
        (
            vec![rule(FaultKind::Error); MAX_FAULT_RULES + 1],
            "expected 1024 rules at most, found 1025",
        ),
        (vec![at(32)], "rule 1: start, len: 32+1 is not within the device's 32 sectors"),
        (vec![at(0), FaultRule { len: Some(Sectors(33)), ..at(0) }], "rule 2: start, len: 0+33 is"),
        (
            vec![FaultRule { len: Some(Sectors(u64::MAX)), ..at(9) }],
            "rule 1: start, len: 9+18446744073709551615",
        ),
        (
            vec![FaultRule { len: Some(Sectors(1)), ..rule(FaultKind::Error) }],
            "len: expected a start, too",
        ),
        (vec![FaultRule { len: Some(Sectors(0)), ..at(9) }], "len: expected 1 or more, found 0"),
        (vec![FaultRule { nth: Some(0), ..at(9) }], "nth: expected 1 or more, found 0"),
        (vec![FaultRule { times: Some(0), ..at(9) }], "times: expected 1 or more, found 0"),
        (vec![FaultRule { for_s: seconds(0.0), ..at(9) }], "for_s: expected some time, found 0"),
        (vec![rule(FaultKind::Slow)], "delay_ms: expected for `slow`"),
        (
            vec![FaultRule { delay_ms: Some(3_600_001), ..at(1) }],
            "delay_ms: expected 3600000 at most",
        ),
        (
            vec![FaultRule { to: Some(Sector(32)), ..rule(FaultKind::Misdirected) }],
            "to: 32 is not on the device, which has 32 sectors",
        ),
        (vec![FaultRule { to: Some(Sector(3)), ..at(9) }], "to: not for `error`"),
        (vec![FaultRule { done: Some(Sectors(3)), ..at(9) }], "done: not for `error`"),
        (vec![FaultRule { bits: Some(3), ..at(9) }], "bits: not for `error`"),
        (
            vec![FaultRule { bits: Some(4097), ..rule(FaultKind::Flip) }],
            "bits: expected 4096 at most",
        ),
        (
            vec![read_full],
            "on: expected some of writes, fua, flushes, discards for `full`, found `reads`",
        ),
        (vec![FaultRule { on: vec![FaultOp::Flushes], ..at(9) }], "start: flushes have no sectors"),
    ];
    for (rules, why) in bad {
        let refused = set(&world, 0, None, plan(&rules)).expect_err(why);
        assert_eq!(refused.errno, Errno::INVAL);
        assert!(refused.to_string().contains(why), "{refused}, not {why}");
    }
    assert_eq!(report(&world, 0)[0].plan.rules, [rule(FaultKind::Error)]);
    let again =
        Command::SetFaults { id: id(0), below: None, plan: plan(&[at(1)]), replaces: false };
    assert_eq!(world.execute(again).expect_err("one is armed").errno, Errno::BUSY);
    assert_eq!(
        set(&world, 0, Some("7:1"), plan(&[at(1)])).expect_err("not below").errno,
        Errno::NXIO
    );
    world.create(5).expect("a device");
    assert_eq!(set(&world, 5, None, plan(&[at(1)])).expect_err("no table").errno, Errno::NXIO);
    assert!(set(&world, 2, None, None).expect("there is nothing to take away").is_empty());
    for rate in [0.0, 1.5, -0.1, f64::NAN, f64::INFINITY, 1e-10] {
        assert!(FaultRate::try_from(rate).is_err(), "{rate}");
    }
}

#[test]
fn the_log_has_the_last_strikes_and_counts_all() {
    let world = stack(15);
    arm(&world, 0, &[rule(FaultKind::LostWrite)]);
    let many = MAX_STRIKES as u64 + 10;
    for at in 0..many {
        write(&world, 0, at % 32, 1, 1).expect("a lie");
    }
    let report = heal(&world, 0);
    assert_eq!((report.rules[0].struck_count, report.strikes.len()), (many, MAX_STRIKES));
    assert_eq!((report.strikes[0].start, report.strikes[0].fate), (Sector(10), Fate::Lost));
}

/// A block of 4096 bytes is done whole, whatever is left to chance.
#[test]
fn what_is_left_to_chance_keeps_to_the_blocks_of_the_device() {
    let world = World::new(16, targets::registry());
    world.add_disk(Sectors(64));
    world.set_up(0, "0 64 ebs 7:0 0 8 1");
    for kind in [FaultKind::Torn, FaultKind::Misdirected] {
        arm(&world, 0, &[rule(kind)]);
        for _ in 0..40 {
            assert_eq!(write(&world, 0, 8, 24, 1), Ok(()));
        }
        for strike in heal(&world, 0).strikes {
            match strike.fate {
                Fate::Torn(Sectors(done)) => assert!(done % 8 == 0 && done < 24, "{strike:?}"),
                Fate::Elsewhere(Sector(to)) => {
                    assert!(to % 8 == 0 && to <= 40 && to != 8, "{strike:?}");
                }
                _ => panic!("{strike:?}"),
            }
        }
    }
    let done = FaultRule { done: Some(Sectors(4)), ..rule(FaultKind::Torn) };
    let refused = set(&world, 0, None, plan(&[done])).expect_err("half a block");
    assert!(
        refused.to_string().contains("multiple of the device's block of 8 sectors"),
        "{refused}"
    );
}

#[test]
fn another_seed_strikes_others() {
    let strikes = |seed| {
        let world = stack(17);
        let half = FaultRate::try_from(0.5).expect("a rate");
        let rules = vec![FaultRule { rate: Some(half), ..rule(FaultKind::LostWrite) }];
        set(&world, 0, None, Some(FaultPlan { seed: Some(seed), rules })).expect("a plan");
        (0..64).for_each(|at| write(&world, 0, at % 32, 1, 1).expect("a lie"));
        heal(&world, 0).strikes.iter().map(|strike| strike.start).collect::<Vec<_>>()
    };
    let (one, other) = (strikes(1), strikes(2));
    assert!((20..45).contains(&one.len()) && one != other, "{one:?} {other:?}");
    let world = stack(18);
    let report =
        set(&world, 0, None, Some(FaultPlan { seed: None, rules: vec![rule(FaultKind::Error)] }));
    assert!(report.expect("a plan")[0].plan.seed.is_some_and(|seed| seed <= u64::from(u32::MAX)));
}
