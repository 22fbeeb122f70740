//! Every step of `mirror --add` and `--drop` made to fail, on a control plane in this process.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use daemon::Fault;
use sim_core::{Access, Sectors, TargetSpec};

use super::add::Add;
use super::state::{behind, mirror, status};
use super::wait::until_synced;
use super::{add, drop};
use crate::commands::{load, one, resume};
use crate::devices::find;
use crate::rig::{Bench, Fails, SIZE};
use crate::watch::INTERRUPTED;

static GO_ON: AtomicBool = AtomicBool::new(false);

fn new_leg(image: &Path, log: Option<&Path>, rate: Option<u64>) -> Add {
    Add {
        name: "base".to_owned(),
        image: image.to_owned(),
        log: log.map(Path::to_owned),
        region_size: Some(32 << 10),
        resync_rate: rate,
    }
}

fn add_leg(bench: &mut Bench, options: &Add, fails: Fails) -> Result<(), Fault> {
    let plan = add::plan(bench, options)?;
    (bench.fails, bench.calls) = (fails, 0);
    let result = add::carry_out(bench, &plan, &GO_ON);
    bench.fails = Fails::Never;
    result
}

fn drop_leg(bench: &mut Bench, leg: &str, fails: Fails) -> Result<(), Fault> {
    (bench.fails, bench.calls) = (fails, 0);
    let result = drop::drop_leg(bench, "base", leg, &GO_ON);
    bench.fails = Fails::Never;
    result
}

fn synced(bench: &mut Bench) {
    let (_, line) = mirror(bench, "base").expect("a mirror");
    until_synced(bench, "base", &line, &GO_ON).expect("it is synced");
    assert!(behind(bench, "base").expect("an answer").is_none());
}

/// What a device is before a leg is added.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    Linear,
    TwoLines,
    Mirror,
    MirrorWithLog,
}

impl Start {
    fn bench(self) -> Bench {
        let mut bench = Bench::new();
        let disk = bench.dir.path().join("disk");
        let other = bench.file("other", 7, SIZE);
        let log = bench.file("old log", 0, Sectors(8));
        match self {
            Start::Linear => {}
            Start::TwoLines => {
                let half = SIZE.0 / 2;
                let mut table = one(Sectors(half), "linear", &format!("{} 0", disk.display()));
                table.push(TargetSpec {
                    start: sim_core::Sector(half),
                    len: Sectors(half),
                    target_type: "linear".to_owned(),
                    params: format!("{} {half}", disk.display()).into(),
                });
                load(&mut bench, "base", Access::ReadWrite, table).expect("a table");
                resume(&mut bench, "base").expect("a table");
            }
            Start::Mirror => {
                add_leg(&mut bench, &new_leg(&other, None, None), Fails::Never).expect("a leg");
                synced(&mut bench);
            }
            Start::MirrorWithLog => {
                let log = log.to_string_lossy().replace(' ', "-");
                let log = Path::new(&log);
                add_leg(&mut bench, &new_leg(&other, Some(log), None), Fails::Never)
                    .expect("a leg");
                synced(&mut bench);
            }
        }
        bench
    }
}

const ALL: [Start; 4] = [Start::Linear, Start::TwoLines, Start::Mirror, Start::MirrorWithLog];

#[test]
fn whatever_fails_of_an_added_leg_all_is_as_it_was() {
    for from in ALL {
        for (when, with_log) in
            [(Fails::At as fn(usize) -> Fails, true), (Fails::At, false), (Fails::After, false)]
        {
            let with_log = with_log && matches!(from, Start::Linear | Start::TwoLines);
            for at in 1.. {
                let mut bench = from.bench();
                let new = bench.file("new", 3, SIZE);
                let log = bench.dir.path().join("log");
                let log = with_log.then_some(log.as_path());
                let region = matches!(from, Start::Linear | Start::TwoLines);
                let mut options = new_leg(&new, log, Some(0));
                options.region_size = options.region_size.filter(|_| region);
                let records = bench.records();
                match add_leg(&mut bench, &options, when(at)) {
                    Ok(()) if bench.calls < at => break,
                    // An answer that was lost, and nothing else.
                    Ok(()) => assert!(matches!(when(at), Fails::After(_)), "step {at} of {from:?}"),
                    Err(fault) => {
                        assert!(
                            fault.why.contains("`base` is as it was"),
                            "{from:?} {at}: {fault}"
                        );
                        assert_eq!(bench.records(), records, "step {at} of {from:?}");
                        assert!(log.is_none_or(|log| !log.exists()), "step {at} left a log");
                        // And once more, without the failure.
                        if matches!(from, Start::Mirror | Start::MirrorWithLog) {
                            synced(&mut bench);
                        }
                        add_leg(&mut bench, &options, Fails::Never).expect("a leg");
                    }
                }
                synced(&mut bench);
                let held = std::fs::read(&new).expect("a leg");
                assert!(held == bench.image(), "step {at} of {from:?}: the legs differ");
            }
        }
    }
}

#[test]
fn whatever_fails_of_a_dropped_leg_all_is_as_it_was() {
    for (from, legs) in
        [(Start::Linear, 2), (Start::TwoLines, 2), (Start::Mirror, 3), (Start::MirrorWithLog, 3)]
    {
        for (when, leg) in [(Fails::At as fn(usize) -> Fails, 1), (Fails::At, 0), (Fails::After, 0)]
        {
            for at in 1.. {
                let mut bench = from.bench();
                let before = bench.records();
                let new = bench.file("new", 3, SIZE);
                let mut options = new_leg(&new, None, None);
                options.region_size = options.region_size.filter(|_| legs == 2);
                add_leg(&mut bench, &options, Fails::Never).expect("a leg");
                synced(&mut bench);
                let records = bench.records();
                let last = if leg == 0 { 0 } else { legs - 1 };
                match drop_leg(&mut bench, &last.to_string(), when(at)) {
                    Ok(()) if bench.calls < at => {
                        if last > 0 {
                            assert_eq!(bench.records(), before, "{from:?}");
                        }
                        break;
                    }
                    Ok(()) => assert!(matches!(when(at), Fails::After(_)), "step {at} of {from:?}"),
                    Err(fault) if fault.why.contains("has its own table again") => {
                        let base = find(&mut bench, "base").expect("no fault").expect("a device");
                        assert!(base.only("mirror").is_none() && !base.status.suspended);
                    }
                    Err(fault) => {
                        assert!(
                            fault.why.contains("`base` is as it was"),
                            "{from:?} {at}: {fault}"
                        );
                        assert_eq!(bench.records(), records, "step {at} of {from:?}");
                        synced(&mut bench);
                        drop_leg(&mut bench, &last.to_string(), Fails::Never).expect("it goes");
                    }
                }
                let base = find(&mut bench, "base").expect("no fault").expect("a device");
                assert!(!base.status.suspended, "step {at} of {from:?}");
            }
        }
    }
}

#[test]
fn an_interrupted_change_is_undone() {
    let mut bench = Start::TwoLines.bench();
    let new = bench.file("new", 3, SIZE);
    let options = new_leg(&new, None, None);
    let records = bench.records();
    let plan = add::plan(&mut bench, &options).expect("a plan");
    let fault = add::carry_out(&mut bench, &plan, &AtomicBool::new(true)).expect_err("interrupted");
    assert_eq!(fault.status, INTERRUPTED);
    assert_eq!(bench.records(), records);
}

#[test]
fn the_only_leg_that_has_the_data_stays() {
    let mut bench = Bench::new();
    let new = bench.file("new", 3, SIZE);
    bench.device("bad", &format!("{} 0", new.display()));
    load(&mut bench, "bad", Access::ReadWrite, one(SIZE, "error", "")).expect("a table");
    resume(&mut bench, "bad").expect("a table");
    let bad = Path::new("/nowhere/mapper/bad");
    add_leg(&mut bench, &new_leg(bad, None, None), Fails::Never).expect("a leg");
    assert!(!status(&mut bench, "base").expect("no fault").expect("a mirror").is_in_sync());
    let records = bench.records();
    let fault = drop_leg(&mut bench, "0", Fails::Never).expect_err("it has the data");
    assert!(fault.why.contains("is its only leg that has all of the data"), "{fault}");
    assert_eq!(bench.records(), records);
    let third = bench.file("third", 3, SIZE);
    let mut options = new_leg(&third, None, None);
    options.region_size = None;
    let fault = add_leg(&mut bench, &options, Fails::Never).expect_err("not in sync");
    assert!(fault.why.contains("is not in sync"), "{fault}");
    assert_eq!(bench.records(), records);
    drop_leg(&mut bench, "1", Fails::Never).expect("it has nothing of its own");
    assert!(bench.image() == vec![7; SIZE.bytes() as usize]);
}

#[test]
fn a_leg_that_does_not_fit_is_refused_in_words() {
    let mut bench = Bench::new();
    let small = bench.file("small", 0, Sectors(8));
    let disk = bench.dir.path().join("disk");
    let missing = bench.dir.path().join("missing");
    let full = bench.file("full", 1, Sectors(64));
    let good = bench.file("good", 1, SIZE);
    let mut refused = |image: &Path, log: Option<&Path>, words: &str| {
        let records = bench.records();
        let fault = add_leg(&mut bench, &new_leg(image, log, None), Fails::Never);
        let fault = fault.expect_err(words);
        assert!(fault.to_string().contains(words), "{fault}");
        assert_eq!(bench.records(), records);
    };
    refused(&small, None, "is too small: it has 4 KiB, and `base` 1 MiB");
    refused(&disk, None, "is in use by the table of `base`");
    refused(&missing, None, "no such file");
    refused(&good, Some(&full), "is not empty");
    refused(&good, Some(&good), "is the new leg already");
    refused(Path::new("/nowhere/mapper/base"), None, "lies on `base` itself");
    add_leg(&mut bench, &new_leg(&good, None, None), Fails::Never).expect("a leg");
    let fault = add_leg(&mut bench, &new_leg(&good, None, None), Fails::Never);
    let fault = fault.expect_err("twice");
    assert!(fault.why.contains("is a leg of `base` already"), "{fault}");
    let fault = drop_leg(&mut bench, "9:9", Fails::Never).expect_err("none");
    assert!(fault.why.contains("has no leg `9:9`; its legs are 0 (7:4096), 1 (7:4097)"), "{fault}");
}
