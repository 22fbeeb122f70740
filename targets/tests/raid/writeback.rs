//! Writes that end in the journal: the legs get them later, and neighbours at once.

use sim_core::{Flags, Op};
use testkit::{BioStep, Damage, Fault, FaultSpan, Speed, Started};

use crate::rig::{CHUNK, Case, FLUSH, Rig, SECTOR, Shape, Step};

/// A raid5 of five legs, with a journal that writes end in.
fn case() -> Case {
    let case = Case { in_sync: true, has_journal: true, ends_there: true, ..Case::with_parity(6) };
    assert_eq!((case.legs, case.shape), (5, Shape::Parity(targets::lines::raid::Kind::Raid5La)));
    case
}

fn write(sector: u64, len: u64) -> Step {
    Step::Bio(BioStep { op: Op::Write, sector, len, flags: Flags::default() })
}

/// Counts reads and writes of the legs' data.
fn counts(rig: &Rig) -> (u64, u64) {
    let legs = (0..rig.case.legs).map(|leg| rig.disks[Case::data(leg)].counts());
    legs.fold((0, 0), |(reads, writes), leg| (reads + leg.reads, writes + leg.writes))
}

fn rig(seed: u64) -> Rig {
    // Those where every task has its turn: one looks on here.
    let rig = Rig::new(&case(), seed * 3 + 1);
    rig.disks.iter().for_each(|disk| disk.set_speed(Speed::Waits));
    rig
}

/// Carries steps out, each by a task of its own, up to the end of the last: no longer.
fn run(rig: &Rig, steps: &[Step]) -> Result<(), String> {
    run_by(rig, steps, steps.len())
}

fn run_by(rig: &Rig, steps: &[Step], tasks: usize) -> Result<(), String> {
    let started = rig.start(steps, tasks);
    let handle = rig.world.handle();
    let over = async {
        while !started.iter().all(Started::is_done) {
            handle.turn().await;
        }
    };
    rig.world.sim.try_block_on(over).map_err(|stuck| stuck.to_string())?;
    match rig.take_errors().first() {
        Some((step, error)) => Err(format!("{step:?}: {error}")),
        None => rig.sent.verdict(),
    }
}

#[test]
fn a_write_ends_before_the_legs_have_it_and_reads_see_it() {
    for seed in 0..20 {
        let rig = rig(seed);
        let (before, content) = (counts(&rig), rig.content().expect("it reads"));
        let read = counts(&rig).0;
        run(&rig, &[write(0, 8), write(CHUNK * 5 + 2, 3)]).expect("writes");
        let (reads, writes) = counts(&rig);
        assert_eq!(writes, before.1, "a leg was written");
        assert!(reads - read <= 2, "{} reads of a page's rest", reads - read);
        assert_ne!(rig.content().expect("it reads")[..8 * SECTOR], content[..8 * SECTOR]);
        rig.read_back().expect("what was written");
        // After a while the legs have it too.
        rig.idle().expect("an end");
        assert!(counts(&rig).1 > before.1);
        rig.is_whole().expect("a set in sync");
    }
}

#[test]
fn neighbours_are_written_as_one_stripe_of_which_nothing_is_read() {
    for seed in 0..20 {
        let rig = rig(seed);
        let before = counts(&rig);
        // Pages of one row, each on its own; the last is written twice.
        let steps: Vec<Step> = [0, 1, 2, 3, 3].map(|nr| write(nr * CHUNK, CHUNK)).into();
        run(&rig, &steps).expect("writes");
        rig.idle().expect("an end");
        let (reads, writes) = counts(&rig);
        let (reads, writes) = (reads - before.0, writes - before.1);
        // The second write of the last page may come when the row has gone.
        assert!(reads == 0 && writes == 5 || writes == 7, "{reads} reads, {writes} writes");
        rig.is_whole().expect("a set in sync");
    }
}

#[test]
fn a_suspended_set_has_everything_on_its_legs() {
    for seed in 0..20 {
        let rig = rig(seed);
        run(&rig, &[write(0, 8), write(40, 20), write(90, 3)]).expect("writes");
        rig.suspend().expect("a suspend");
        rig.copies_are_equal().expect("parity");
        let disks = rig.disks.clone();
        let legal = rig.legal();
        drop(rig);
        // Without the journal.
        let nobody = vec![0; 8192 * SECTOR];
        disks[10].fill(sim_core::Sector::ZERO, &nobody);
        let rig = Rig::over(&case(), seed, &disks);
        legal.check_power_cut(&rig.content().expect("it reads")).expect("what was written");
    }
}

#[test]
fn a_lost_leg_has_the_others_written_at_once_and_from_then_on() {
    for seed in 0..20 {
        let rig = rig(seed);
        run(&rig, &[write(0, 8), write(40, 20), write(90, 3)]).expect("writes");
        let before = counts(&rig);
        let fault = Fault::At { after: 0, lasts: FaultSpan::ForGood, damage: Damage::Error };
        rig.disks[Case::data(1)].inject(fault);
        // Until the set has noticed.
        for nr in 0..4 {
            let flags = Flags { fua: true, ..Flags::default() };
            let (op, sector, len) = (Op::Write, nr * CHUNK * 4 % 96, CHUNK * 4);
            run(&rig, &[Step::Bio(BioStep { op, sector, len, flags })]).expect("a write");
        }
        rig.idle().expect("an end");
        assert!(rig.status().contains("AD"), "{}", rig.status());
        assert!(counts(&rig).1 > before.1);
        let before = counts(&rig).1;
        run(&rig, &[write(8, 8)]).expect("a write");
        assert!(counts(&rig).1 > before, "a set that lacks a leg writes the others");
        rig.read_back().expect("what was written");
    }
}

#[test]
fn what_a_full_journal_has_is_on_the_legs_before_it_begins_anew() {
    for seed in 0..6 {
        let rig = rig(seed);
        // One page stays where it is, while others come and go until the journal has come round.
        let mut steps = vec![write(0, 8)];
        steps.extend((0..560 + seed * 9).map(|nr| write(32 + nr * 8 % 64, 8)));
        steps.push(Step::Bio(FLUSH));
        run_by(&rig, &steps, 1).expect("writes");
        let (legal, disks) = (rig.legal(), rig.disks.clone());
        drop(rig);
        disks.iter().for_each(|disk| disk.lose_cache());
        let rig = Rig::over(&case(), seed, &disks);
        legal.check_power_cut(&rig.content().expect("it reads")).expect("what was flushed");
        rig.idle().expect("an end");
        rig.is_whole().expect("a set in sync");
    }
}
