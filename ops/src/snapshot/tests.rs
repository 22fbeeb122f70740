//! Every step of `snapshot` and `merge` made to fail, on a control plane in this process.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use daemon::{Fault, Instance};
use targets::lines::DeviceWord;

use super::merge::mark::unfinished;
use super::merge::note::noted;
use super::merge::{Merge, WhenOpen};
use super::state::state;
use super::steps::carry_out;
use super::take::Take;
use super::{finish, give_up, merge, take, wait};
use crate::devices::find;
use crate::rig::{Bench, Fails, SIZE};
use crate::watch::INTERRUPTED;

impl Bench {
    fn take(&mut self, name: &str, cow: Option<&Path>, fails: Fails) -> Result<(), Fault> {
        let options = Take {
            origin: "base".to_owned(),
            name: name.to_owned(),
            cow: cow.map(Path::to_owned),
            size: None,
            chunk: Some(4096),
            transient: false,
            read_only: false,
        };
        let own = self.own(name);
        let plan = take::plan(self, &own, &options)?;
        (self.fails, self.calls) = (fails, 0);
        let result = carry_out(self, &plan, &AtomicBool::new(false));
        self.fails = Fails::Never;
        result
    }

    fn own(&self, name: &str) -> PathBuf {
        self.instance().cow(name)
    }

    fn instance(&self) -> Instance {
        Instance::find(Some(self.dir.path())).expect("a folder")
    }
}

#[test]
fn whatever_fails_of_a_snapshot_all_is_as_it_was() {
    for first in [true, false] {
        for given in [true, false] {
            for at in 1.. {
                let mut bench = Bench::new();
                if !first {
                    bench.take("other", None, Fails::Never).expect("a snapshot");
                }
                let cow = bench.dir.path().join("cow image");
                if given {
                    std::fs::write(&cow, vec![0; 1 << 20]).expect("room for it");
                }
                let given = given.then_some(cow.as_path());
                let (records, image) = (bench.records(), bench.image());
                let Err(fault) = bench.take("snap", given, Fails::At(at)) else {
                    assert!(at > if first { 9 } else { 5 }, "{at} steps");
                    break;
                };
                assert!(fault.why.contains("`base` is as it was"), "step {at}: {fault}");
                assert_eq!(bench.records(), records, "step {at} of first={first}");
                assert!(bench.image() == image);
                match given {
                    Some(cow) => {
                        let bytes = std::fs::read(cow).expect("it stays");
                        assert!(bytes == vec![0; 1 << 20], "step {at} left something in it");
                    }
                    None => assert!(!bench.own("snap").exists(), "step {at} left an image"),
                }
                // And once more, without the failure.
                bench.take("snap", given, Fails::Never).expect("a snapshot");
            }
        }
    }
}

#[test]
fn a_resume_that_fails_when_the_table_is_swapped_is_undone_too() {
    let mut bench = Bench::new();
    bench.take("snap", None, Fails::Never).expect("a snapshot");
    let last = bench.calls;
    let mut bench = Bench::new();
    let records = bench.records();
    let fault = bench.take("snap", None, Fails::After(last)).expect_err("it fails");
    assert!(fault.why.contains("`base` is as it was"), "{fault}");
    assert_eq!(bench.records(), records);
}

#[test]
fn an_interrupted_snapshot_is_undone() {
    let mut bench = Bench::new();
    let records = bench.records();
    let options = Take {
        origin: "base".to_owned(),
        name: "snap".to_owned(),
        cow: None,
        size: None,
        chunk: None,
        transient: true,
        read_only: true,
    };
    let own = bench.own("snap");
    let plan = take::plan(&mut bench, &own, &options).expect("a plan");
    let fault = carry_out(&mut bench, &plan, &AtomicBool::new(true)).expect_err("interrupted");
    assert_eq!(fault.status, INTERRUPTED);
    assert_eq!(bench.records(), records);
}

#[test]
fn whatever_fails_of_a_merge_all_is_as_it_was_or_the_same_again_goes_on() {
    for at in 1.. {
        let mut bench = Bench::new();
        let cow = bench.dir.path().join("cow image");
        std::fs::write(&cow, vec![0; 1 << 20]).expect("room for it");
        let before = bench.records();
        bench.take("snap", Some(&cow), Fails::Never).expect("a snapshot");
        let records = bench.records();
        let instance = bench.instance();
        (bench.fails, bench.calls) = (Fails::At(at), 0);
        let begun = begin(&mut bench, &instance, "snap");
        bench.fails = Fails::Never;
        if begun.is_err() && bench.records() != records {
            let name = merge::merging(&mut bench, &instance, "snap").expect("it goes on");
            assert_eq!(name, "base", "step {at}");
        } else if begun.is_err() {
            begin(&mut bench, &instance, "snap").expect("nothing stands in the way");
        }
        wait::until_merged(&mut bench, "base", &AtomicBool::new(false)).expect("it is merged");
        finish::finish(&mut bench, "base").expect("the table comes back");
        assert_eq!(bench.records(), before, "step {at}");
        if begun.is_ok() {
            assert!(at > 4, "{at} steps");
            return;
        }
    }
}

#[test]
fn a_merge_whose_command_dies_at_any_step_is_finished_by_the_same_command() {
    for name in ["snap", "base"] {
        for at in 1.. {
            let mut bench = Bench::new();
            let before = bench.records();
            bench.take("snap", None, Fails::Never).expect("a snapshot");
            let (instance, image) = (bench.instance(), bench.dir.path().join("disk"));
            let go = AtomicBool::new(false);
            let ask =
                |name: &str| Merge { name: name.to_owned(), open: WhenOpen::Refuse, waits: true };
            (bench.fails, bench.calls) = (Fails::From(at), 0);
            let result = merge(&mut bench, &instance, &ask("snap"), &go);
            bench.fails = Fails::Never;
            let mark = unfinished(&image, Some(&instance));
            if result.is_ok() {
                assert!(at > 8, "{at} steps");
                assert_eq!(mark, None);
                break;
            }
            let base = find(&mut bench, "base").expect("no fault").expect("a device");
            if base.merge().is_some() && !base.status.suspended {
                // It runs, or has run.
                wait::until_merged(&mut bench, "base", &go).expect("it is merged");
            }
            if noted(&instance, "base").is_some() || name == "snap" {
                let again = merge(&mut bench, &instance, &ask(name), &go);
                assert!(again.is_ok(), "step {at} by {name}: {again:?}");
                assert_eq!(bench.records(), before, "step {at} by {name}");
                assert_eq!(unfinished(&image, Some(&instance)), None, "step {at} by {name}");
                let left = std::fs::read_dir(instance.cows()).expect("it is there").count();
                assert_eq!(left, 0, "step {at} by {name}");
            }
        }
    }
}

#[test]
fn a_merge_is_marked_before_it_begins_and_until_it_is_done() {
    let mut bench = Bench::new();
    bench.take("snap", None, Fails::Never).expect("a snapshot");
    let (instance, image) = (bench.instance(), bench.dir.path().join("disk"));
    assert_eq!(unfinished(&image, Some(&instance)), None);
    begin(&mut bench, &instance, "snap").expect("it begins");
    let told = unfinished(&image, None).expect("a mark").to_string();
    let store = bench.own("snap");
    for words in [store.to_str().expect("text"), "UTC", "merge base` finishes it"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // One that has begun is nothing to be given up.
    assert!(give_up(&mut bench, &instance, "base").is_err());
    wait(&mut bench, &instance, "base", &AtomicBool::new(false)).expect("it is merged");
    assert_eq!(unfinished(&image, None), None, "all is copied");
}

#[test]
fn a_snapshot_of_the_same_name_takes_nothing_from_a_merge_under_way() {
    let mut bench = Bench::new();
    bench.take("snap", None, Fails::Never).expect("a snapshot");
    let (instance, image) = (bench.instance(), bench.dir.path().join("disk"));
    begin(&mut bench, &instance, "snap").expect("it begins");
    let other = bench.file("other disk", 3, SIZE);
    bench.device("other", &format!("{} 0", DeviceWord::from(other.to_str().expect("text"))));
    let cow = bench.file("other cow", 0, SIZE + SIZE);
    let ask = Take {
        origin: "other".to_owned(),
        name: "snap".to_owned(),
        cow: Some(cow),
        ..Take::default()
    };
    let go = AtomicBool::new(false);
    take(&mut bench, &instance, &ask, &go).expect("a snapshot");
    let fault = begin(&mut bench, &instance, "snap").expect_err("its name is taken");
    assert!(fault.why.contains("`dmsim merge base` first"), "{fault}");
    give_up(&mut bench, &instance, "snap").expect("it goes");
    assert!(unfinished(&image, None).is_some(), "the merge is as it was");
    assert_eq!(noted(&instance, "snap").as_deref(), Some("base"));
}

/// Begins a merge into an origin that nobody has open.
fn begin(bench: &mut Bench, instance: &Instance, name: &str) -> Result<String, Fault> {
    merge::begin(bench, instance, name, WhenOpen::Refuse, &AtomicBool::new(false))
}

#[test]
fn a_merge_into_an_origin_that_is_open_is_refused_or_waits_or_is_asked_for() {
    let mut bench = Bench::new();
    bench.take("snap", None, Fails::Never).expect("a snapshot");
    let instance = bench.instance();
    bench.device("above", "/dev/mapper/base 0");
    let records = bench.records();
    let fault = begin(&mut bench, &instance, "snap").expect_err("it is open");
    for words in ["`base` is in use by the table of `above`", "--when-closed", "--in-use"] {
        assert!(fault.why.contains(words), "{fault}");
    }
    assert_eq!(bench.records(), records);
    let stop = AtomicBool::new(true);
    let fault = merge::begin(&mut bench, &instance, "snap", WhenOpen::Wait, &stop);
    assert_eq!(fault.expect_err("interrupted").status, INTERRUPTED);
    assert_eq!(bench.records(), records);
    let go = AtomicBool::new(false);
    merge::begin(&mut bench, &instance, "snap", WhenOpen::Merge, &go).expect("it was asked for");
    wait::until_merged(&mut bench, "base", &go).expect("it is merged");
}

#[test]
fn the_end_of_a_merge_that_fails_can_be_tried_again() {
    for at in 1.. {
        let mut bench = Bench::new();
        let before = bench.records();
        bench.take("snap", None, Fails::Never).expect("a snapshot");
        let instance = bench.instance();
        begin(&mut bench, &instance, "snap").expect("it begins");
        wait::until_merged(&mut bench, "base", &AtomicBool::new(false)).expect("it is merged");
        (bench.fails, bench.calls) = (Fails::At(at), 0);
        let ended = finish::finish(&mut bench, "base");
        bench.fails = Fails::Never;
        let Err(fault) = ended else {
            assert!(at > 5, "{at} steps");
            return;
        };
        let base = find(&mut bench, "base").expect("no fault").expect("a device");
        assert!(!base.status.suspended, "step {at}: {fault}");
        if base.merge().is_some() {
            let again = finish::finish(&mut bench, "base");
            assert!(again.is_ok(), "step {at}, {fault}: {again:?}");
            assert_eq!(bench.records(), before, "step {at}");
        }
    }
}

#[test]
fn one_snapshot_of_several_is_merged_and_the_others_stay() {
    let mut bench = Bench::new();
    bench.take("a", None, Fails::Never).expect("a snapshot");
    bench.take("b", None, Fails::Never).expect("a snapshot");
    let instance = bench.instance();
    let origin = begin(&mut bench, &instance, "a").expect("it begins");
    wait::until_merged(&mut bench, &origin, &AtomicBool::new(false)).expect("it is merged");
    finish::finish(&mut bench, &origin).expect("the table comes back");
    let base = find(&mut bench, "base").expect("no fault").expect("a device");
    assert!(base.origin_of().is_some());
    let other = state(&mut bench, "b", super::state::SNAPSHOT).expect("no fault");
    assert!(matches!(other, Some(targets::lines::snapshot::Status::Used { .. })), "{other:?}");
}

#[test]
fn the_last_snapshot_that_is_dropped_gives_the_origin_its_own_table_back() {
    let mut bench = Bench::new();
    let before = find(&mut bench, "base").expect("no fault").expect("a device").live;
    bench.take("a", None, Fails::Never).expect("a snapshot");
    bench.take("b", None, Fails::Never).expect("a snapshot");
    let refused = give_up::carry_out(&mut bench, "base").expect_err("no snapshot");
    assert_eq!(refused.why, "is no snapshot");
    for (name, is_last) in [("b", false), ("a", true)] {
        let store = give_up::carry_out(&mut bench, name).expect("it goes").expect("an image");
        assert_eq!(store.path, bench.own(name));
        assert!(find(&mut bench, name).expect("no fault").is_none());
        let base = find(&mut bench, "base").expect("no fault").expect("a device");
        assert_eq!((base.live == before, base.status.suspended), (is_last, false));
    }
    assert!(find(&mut bench, "base-real").expect("no fault").is_none());
}

#[test]
fn whatever_fails_of_a_drop_the_origin_is_in_use() {
    for at in 1.. {
        let mut bench = Bench::new();
        bench.take("snap", None, Fails::Never).expect("a snapshot");
        let image = bench.image();
        (bench.fails, bench.calls) = (Fails::At(at), 0);
        let dropped = give_up::carry_out(&mut bench, "snap");
        bench.fails = Fails::Never;
        if dropped.is_ok() {
            assert!(at > 5, "{at} steps");
            break;
        }
        let base = find(&mut bench, "base").expect("no fault").expect("a device");
        assert!(!base.status.suspended && !base.status.inactive_present, "step {at}");
        assert_eq!(bench.image(), image, "step {at}");
    }
}
