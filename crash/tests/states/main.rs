//! The states of recordings, against a model that copies whole disks.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use crash::log::{Entry, What, count_all, head};
use crash::{
    Flushes, Kept, Loss, Plan, Progress, Promises, Recording, State, States, check_all, shrink,
    write_log,
};
use proptest::prelude::*;
use sim_core::Sectors;
use targets::log_writes::format::Superblock;

use support::{Made, Step, made, model, steps, volatile, whole};

const ALL: Plan = Plan { states: 100_000, seed: 1, from_mark: 0, to_mark: usize::MAX };

/// A log that Linux 6.12.86 has written: 4 KiB of `a` at 0 and of `b` at 8 KiB, 8 KiB of `c` at 4 KiB, a flush; a
/// mark; 512 bytes of `d` at 512 and of `e` at 1024, a discard of 8 KiB to 12 KiB, 4 KiB of `f` at 16 KiB, a flush; a
/// mark; 4 KiB of `g` at 0 and of `h` at 4 KiB.
const OF_THE_KERNEL: &[u8] = include_bytes!("kernel.log");

/// All states of a recording, and their contents.
fn contents(recording: &Arc<Recording>, plan: &Plan) -> Vec<(State, Vec<u8>)> {
    States::new(recording.clone(), plan)
        .map(|state| {
            let content = whole(recording, &state);
            (state, content)
        })
        .collect()
}

/// Every way in which whole writes may be lost, at every point.
fn by_force(made: &Made) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    let recording = &made.recording;
    for cut in 0..=recording.entries().len() {
        let volatile = volatile(made, cut);
        for bits in 0_u32..1 << volatile.len() {
            let lost = volatile.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
            let lost = lost.map(|(_, entry)| Loss { entry: *entry, kept: Kept::Nothing });
            all.insert(model(made, &State { cut, losses: lost.collect() }));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_state_is_what_a_copy_of_the_disk_would_be(
        steps in steps(14),
        seeds in prop::collection::vec(any::<u64>(), 4),
    ) {
        let made = made(&steps, 512);
        let recording = &made.recording;
        let states = seeds.iter().flat_map(|seed| {
            let plan = Plan { seed: *seed, states: 40, ..ALL };
            States::new(recording.clone(), &plan).collect::<Vec<_>>()
        });
        for state in states {
            prop_assert_eq!(recording.check(&state), Ok(()));
            prop_assert_eq!(whole(recording, &state), model(&made, &state), "{}", state);
            prop_assert_eq!(&state.to_string().parse::<State>().expect("a state"), &state);
        }
    }

    #[test]
    fn of_few_writes_each_subset_is_a_state_and_none_comes_twice(steps in steps(10)) {
        let made = made(&steps, 512);
        let recording = &made.recording;
        prop_assume!((0..=recording.entries().len()).all(|cut| recording.volatile(cut).len() <= 8));
        let mut found = BTreeSet::new();
        for (state, content) in contents(recording, &ALL) {
            let entries = recording.entries().iter().take(state.cut);
            let marks = entries.filter(|entry| matches!(entry.what, What::Mark(_))).count();
            prop_assert!(found.insert((marks, content)), "{} comes twice", state);
        }
        let found: BTreeSet<_> = found.into_iter().map(|(_, content)| content).collect();
        let missing = by_force(&made).into_iter().filter(|content| !found.contains(content));
        prop_assert_eq!(missing.count(), 0);
    }

    #[test]
    fn a_log_of_a_state_replays_to_it(steps in steps(12), seed in any::<u64>(), at in any::<prop::sample::Index>()) {
        let Made { recording, dir, .. } = made(&steps, 512);
        let states: Vec<_> = States::new(recording.clone(), &Plan { seed, states: 60, ..ALL }).collect();
        let state = at.get(&states);
        let file = dir.path().join("state.log");
        let log = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(file).expect("room");
        write_log(&recording, state, &log).expect("room");
        let base = std::fs::File::open(dir.path().join("base")).expect("a base");
        let again = Recording::new(log, Some(base), Promises::default()).expect("a log");
        let end = State { cut: again.entries().len(), losses: Vec::new() };
        prop_assert_eq!(whole(&again, &end), whole(&recording, state));
    }
}

#[test]
fn a_budget_is_kept_and_each_write_is_lost_where_it_suffices() {
    let many: Vec<Step> = (0..40)
        .flat_map(|n| [Step::Write { sector: n % 16, len: 1 + n % 3, byte: n as u8, fua: false }])
        .chain([Step::Flush])
        .collect();
    let Made { recording, .. } = made(&many, 512);
    for states in [1, 2, 10, 200] {
        let count = States::new(recording.clone(), &Plan { states, ..ALL }).count() as u64;
        assert!((1..=states.max(2)).contains(&count), "{states}: {count}");
    }
    // However many moments there are.
    let moments: Vec<Step> = (0..300_u64)
        .flat_map(|n| {
            let write =
                move |at| Step::Write { sector: at, len: 1, byte: (n % 100) as u8, fua: false };
            let writes = if n % 30 == 0 { 8 } else { 1 };
            (0..writes).map(write).chain([Step::Flush])
        })
        .collect();
    let Made { recording: several, .. } = made(&moments, 512);
    for states in [100, 250, 599, 600, 601, 700, 2000] {
        let count = States::new(several.clone(), &Plan { states, ..ALL }).count() as u64;
        assert!((states / 3..=states).contains(&count), "{states}: {count}");
    }
    let mut states = States::new(recording, &Plan { states: 1000, ..ALL });
    let count = states.by_ref().count();
    let coverage = states.coverage();
    assert!(count > 300, "{count}");
    assert_eq!((coverage.writes, coverage.lost), (40, 40));
    assert_eq!((coverage.tearable, coverage.torn), (26, 26));
}

#[test]
fn of_many_writes_each_is_lost_alone_is_there_alone_and_is_the_last() {
    let many: Vec<Step> =
        (0..10).map(|n| Step::Write { sector: n, len: 1, byte: 5, fua: false }).collect();
    let Made { recording, .. } = made(&many, 512);
    let lost = |states: u64| -> BTreeSet<Vec<usize>> {
        States::new(recording.clone(), &Plan { states, ..ALL })
            .map(|state| state.losses.iter().map(|loss| loss.entry).collect())
            .collect()
    };
    let found = lost(31);
    for one in 0..10 {
        assert!(found.contains(&vec![one]), "without {one}");
        assert!(found.contains(&(0..10).filter(|n| *n != one).collect::<Vec<_>>()), "only {one}");
        assert!(found.contains(&(one..10).collect::<Vec<_>>()), "before {one}");
    }
    // And hundreds at random, of the 1,024 that there are.
    assert!(lost(2000).len() > 500, "{}", lost(2000).len());
}

#[test]
fn a_write_with_fua_that_has_not_ended_may_be_torn() {
    let steps = [
        Step::Write { sector: 0, len: 3, byte: 1, fua: true },
        Step::Write { sector: 9, len: 1, byte: 1, fua: true },
    ];
    let Made { recording, .. } = made(&steps, 512);
    let states: Vec<_> = States::new(recording, &ALL).map(|state| state.to_string()).collect();
    assert_eq!(states, ["1", "1-0", "1-0h1", "1-0t1", "1-0h2", "1-0t2", "2"]);
}

#[test]
fn marks_bound_what_is_looked_at() {
    let steps = [
        Step::Write { sector: 0, len: 1, byte: 1, fua: false },
        Step::Mark("one"),
        Step::Write { sector: 1, len: 1, byte: 2, fua: false },
        Step::Flush,
        Step::Mark("two"),
        Step::Write { sector: 2, len: 1, byte: 3, fua: false },
    ];
    let Made { recording, .. } = made(&steps, 512);
    let cuts = |from_mark, to_mark| {
        let plan = Plan { from_mark, to_mark, ..ALL };
        let cuts: BTreeSet<_> = States::new(recording.clone(), &plan).map(|s| s.cut).collect();
        cuts.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(cuts(0, usize::MAX), [1, 3, 6]);
    assert_eq!(cuts(1, 1), [3]);
    assert_eq!(cuts(2, usize::MAX), [6]);
    assert_eq!(recording.marks().collect::<Vec<_>>(), [(1, "one"), (4, "two")]);
}

#[test]
fn what_a_failure_does_not_need_is_given_back() {
    let mut steps: Vec<Step> =
        (0..30).map(|n| Step::Write { sector: n, len: 2, byte: n as u8 + 1, fua: false }).collect();
    steps.push(Step::Flush);
    steps.push(Step::Mark("later"));
    let Made { recording, .. } = made(&steps, 512);
    // Wrong where the second half of write 7 is there, and neither write 3 nor its neighbour has written the sector.
    let fails = |state: &State| {
        let content = whole(&recording, state);
        content[9 * 512] == 0 && content[4 * 512] == 0
    };
    let found = check_all(
        &mut States::new(recording.clone(), &Plan { states: 5000, ..ALL }),
        2,
        1,
        &Progress::default(),
        |_, state| Some(if fails(state) { Err("wrong".into()) } else { Ok(()) }),
    );
    let least = shrink(&recording, &found.failures[0].state, 1000, fails);
    assert_eq!(least.to_string(), "30-3-4-8-9");
    // With no tries left, it is what it was.
    assert_eq!(shrink(&recording, &least, 0, fails), least);
}

#[test]
fn what_is_no_state_of_a_recording_is_refused() {
    let steps = [
        Step::Write { sector: 0, len: 1, byte: 1, fua: false },
        Step::Flush,
        Step::Write { sector: 1, len: 1, byte: 2, fua: false },
    ];
    let Made { recording, .. } = made(&steps, 512);
    let check = |text: &str| recording.check(&text.parse().expect("a state"));
    assert_eq!(check("3-2"), Ok(()));
    assert_eq!(check("3-0").unwrap_err(), "entry 0 is no write that can be lost at 3");
    assert_eq!(check("2-2").unwrap_err(), "entry 2 is no write that can be lost at 2");
    assert_eq!(check("4").unwrap_err(), "the log has 3 entries");
}

#[test]
fn a_log_that_lies_is_refused_and_takes_no_memory() {
    let steps = [Step::Write { sector: 3, len: 2, byte: 1, fua: false }, Step::Flush];
    let Made { dir, .. } = made(&steps, 512);
    let path = dir.path().join("log");
    let good = std::fs::read(&path).expect("a log");
    let read = |bytes: &[u8]| {
        std::fs::write(dir.path().join("bad"), bytes).expect("room");
        let file = std::fs::File::open(dir.path().join("bad")).expect("it is there");
        Recording::new(file, None, Promises::default())
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(read(&good), Ok(()));
    let with = |at: usize, value: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        read(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 7), "no log of log-writes");
    assert_eq!(with(8, 2), "expected version 1 of the log, found 2");
    assert_eq!(with(16, 1 << 60), "entry 2 at byte 2560: the log ends before it");
    assert!(with(24, 0).contains("found 0"));
    assert!(with(24, 513).contains("found 513"));
    assert!(with(24, 1 << 17).contains("found 131072"));
    assert_eq!(with(512, u64::MAX - 1), "entry 0 at byte 512: it ends past all devices");
    assert_eq!(with(520, 1 << 50), "entry 0 at byte 512: the log ends before its data do");
    assert_eq!(with(2048 + 16, 0), "entry 1 at byte 2048: nothing is there");
    for len in [0, 31, 511, 512, 540, 1024, 1500, 2047] {
        assert!(read(&good[..len]).is_err(), "{len}");
    }
}

#[test]
fn a_log_of_the_kernel_is_read() {
    let file = tempfile::tempfile().expect("room");
    (&file).write_all(OF_THE_KERNEL).expect("room");
    let recording = Arc::new(Recording::new(file, None, Promises::default()).expect("a log"));
    let told = recording.entries().iter().map(|entry| match &entry.what {
        What::Write { fua, .. } => {
            format!("{}+{}{}", entry.sector, entry.len, if *fua { "!" } else { "" })
        }
        What::Discard => format!("-{}+{}", entry.sector, entry.len),
        What::Flush => "flush".to_owned(),
        What::Mark(text) => text.clone(),
        What::Nothing => "nothing".to_owned(),
    });
    let told: Vec<String> = told.collect();
    assert_eq!(
        told.join(", "),
        "begin, 0+8, 16+8, 8+16, flush, one flushed, 1+1, 2+1, -16+8, 32+8, flush, two, 0+8, 8+8, \
         dm-log-writes-end"
    );
    let content = |state: &str| {
        let mut bytes = vec![0; 40 * 512];
        recording.read(&state.parse().expect("a state"), 0, &mut bytes).expect("it is there");
        let sectors = bytes.chunks(512).map(|sector| char::from(sector[0].max(b'.')));
        sectors.collect::<String>()
    };
    // What that kernel's disk held in the end.
    assert_eq!(content("15"), "gggggggghhhhhhhh................ffffffff");
    assert_eq!(content("4-3"), "aaaaaaaa........bbbbbbbb................");
    assert_eq!(content("4-3h8"), "aaaaaaaaccccccccbbbbbbbb................");
    assert_eq!(content("10-7-8"), "adaaaaaacccccccccccccccc........ffffffff");
}

#[test]
fn where_flushes_are_lost_nothing_is_ever_durable() {
    let steps = [
        Step::Write { sector: 0, len: 1, byte: 1, fua: false },
        Step::Flush,
        Step::Write { sector: 1, len: 1, byte: 2, fua: true },
        Step::Mark("here"),
    ];
    let Made { dir, recording, .. } = made(&steps, 512);
    let log = || std::fs::File::open(dir.path().join("log")).expect("a log");
    let promises = Promises { flushes: Flushes::Lost, atomic: None };
    let lost = Arc::new(Recording::new(log(), None, promises).expect("a log"));
    assert_eq!((recording.volatile(4), lost.volatile(4)), (vec![], vec![0, 2]));
    let state = "4-0-2".parse::<State>().expect("a state");
    assert!(recording.check(&state).is_err() && lost.check(&state).is_ok());
    // Each of the two is there or not, before the mark and after it.
    let cuts: Vec<usize> = States::new(lost, &ALL).map(|state| state.cut).collect();
    assert_eq!(cuts, [3, 3, 3, 3, 4, 4, 4, 4]);
}

/// A log of a discard, a write of two sectors at 7, and the discard again.
fn discards(len: u64) -> Vec<u8> {
    let mut log = vec![0; 512];
    Superblock { entries: 3, unit: 512 }.write(&mut log);
    let write = What::Write { preflush: false, fua: false, metadata: false, data: 0 };
    for (sector, len, what) in [(0, len, What::Discard), (7, 2, write), (0, len, What::Discard)] {
        let mut unit = [0; 512];
        let data = if what == What::Discard { 0 } else { 1024 };
        head(&Entry { sector, len: Sectors(len), what }, 512, 0).write(&mut unit);
        log.extend(unit);
        log.extend(vec![9; data]);
    }
    log
}

#[test]
fn a_discard_takes_memory_for_what_was_there_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str| std::fs::File::open(dir.path().join(name)).expect("it is there");
    std::fs::write(dir.path().join("log"), discards(1 << 50)).expect("room");
    let bare = Recording::new(file("log"), None, Promises::default()).expect("a log");
    std::fs::write(dir.path().join("log"), discards(1 << 31)).expect("room");
    let base = std::fs::File::create(dir.path().join("base")).expect("room");
    base.set_len(1 << 40).expect("it is sparse");
    std::os::unix::fs::FileExt::write_all_at(&base, &[5; 4096], 1 << 30).expect("room");
    let based = Recording::new(file("log"), Some(file("base")), Promises::default());
    let based = based.expect("a log");
    let there = |recording: &Recording, state: &str, at: u64, byte: u8| {
        let (state, mut sector) = (state.parse().expect("a state"), [0; 512]);
        recording.read(&state, at, &mut sector).expect("it is there");
        assert_eq!(sector, [byte; 512], "{state}");
    };
    for recording in [&bare, &based] {
        for (state, at, byte) in [("3", 7, 0), ("3-2", 7, 9), ("2", 8, 9), ("2-1", 8, 0)] {
            there(recording, state, at, byte);
        }
    }
    for (state, byte) in [("0", 5), ("1", 0), ("3-0-2", 5)] {
        there(&based, state, 1 << 21, byte);
        there(&based, state, 1 << 22, 0);
    }
    let count = |recording| States::new(Arc::new(recording), &ALL).count();
    let counts = (count(bare), count(based));
    assert!((2..40).contains(&counts.0) && (counts.0..80).contains(&counts.1), "{counts:?}");
}

#[test]
fn a_log_whose_writer_died_is_counted_to_its_last_whole_entry() {
    let steps = [
        Step::Write { sector: 0, len: 2, byte: 1, fua: false },
        Step::Flush,
        Step::Mark("one"),
        Step::Write { sector: 5, len: 3, byte: 1, fua: false },
        Step::Flush,
        Step::Write { sector: 9, len: 3, byte: 1, fua: false },
    ];
    let Made { dir, .. } = made(&steps, 512);
    let good = std::fs::read(dir.path().join("log")).expect("a log");
    let path = dir.path().join("dead");
    let count = |counted: Option<u64>, len: usize| {
        let mut bytes = good.clone();
        bytes[..512].fill(0);
        if let Some(entries) = counted {
            Superblock { entries, unit: 512 }.write(&mut bytes);
        }
        bytes[len..].fill(0);
        bytes.resize(1 << 16, 0);
        std::fs::write(&path, bytes).expect("room");
        let file =
            std::fs::File::options().read(true).write(true).open(&path).expect("it is there");
        count_all(&file).expect("a log");
        crash::log::read(&file).expect("a log").entries.len()
    };
    // What was counted stays; of the rest, the last one may not be whole.
    for (counted, len, expected) in [
        (Some(3), good.len(), 5),
        (Some(6), good.len(), 6),
        (Some(3), 512 * 6, 3),
        (Some(3), 512 * 9, 3),
        (Some(3), 512 * 11, 4),
        (None, good.len(), 5),
    ] {
        assert_eq!(count(counted, len), expected, "{counted:?} {len}");
    }
    let nothing = tempfile::tempfile().expect("room");
    nothing.set_len(1 << 16).expect("room");
    count_all(&nothing).expect("nothing to count");
    assert!(crash::log::read(&nothing).is_err());
}
