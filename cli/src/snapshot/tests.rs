//! Every step of `snapshot` and `merge` made to fail, on a control plane in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use backing::{Attached, Images, Pool, block_on};
use sim_core::control::{Answer, Backing, Command, Failure, Record};
use sim_core::{Access, Control, Errno, KernelLog, Sectors};
use tempfile::TempDir;

use super::Machine;
use super::options::Take;
use super::steps::carry_out;
use super::{find, finish, load, merge, one, resume, state, take, wait};
use crate::fault::Fault;
use crate::instance::Instance;
use crate::machine::INTERRUPTED;
use crate::protocol::User;

struct Silent;

impl KernelLog for Silent {
    fn line(&self, _text: &str) {}
}

/// When a command is made to fail, of those that are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fails {
    Never,
    /// In the place of this one.
    At(usize),
    /// After this one has done its work.
    After(usize),
}

struct Bench {
    dir: TempDir,
    control: Arc<Control>,
    images: Arc<Images>,
    fails: Fails,
    calls: usize,
}

impl Machine for Bench {
    fn control(&mut self, command: Command) -> Result<Result<Answer, Failure>, Fault> {
        // Questions do not count: they are asked on the way back too.
        let counts = matches!(
            command,
            Command::DevCreate { .. }
                | Command::DevRemove { .. }
                | Command::DevSuspend { .. }
                | Command::DevResume { .. }
                | Command::TableLoad { .. }
        );
        self.calls += usize::from(counts);
        let failed = || Ok(Err(Failure::from(Errno::IO)));
        if counts && self.fails == Fails::At(self.calls) {
            return failed();
        }
        let mut result = block_on(self.control.execute(command.clone()));
        // As the daemon does: what a task in the background held goes a moment after it has ended.
        for _ in 0..50 {
            let removes = matches!(command, Command::DevRemove { .. });
            if !removes || !matches!(&result, Err(failure) if failure.errno == Errno::BUSY) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
            result = block_on(self.control.execute(command.clone()));
        }
        if counts && self.fails == Fails::After(self.calls) {
            return failed();
        }
        Ok(result)
    }

    fn images(&mut self) -> Result<Vec<Attached>, Fault> {
        Ok(self.images.list())
    }

    fn users(&mut self) -> Result<Vec<User>, Fault> {
        Ok(Vec::new())
    }

    fn mount(&self) -> &Path {
        Path::new("/nowhere/mapper")
    }
}

const SIZE: Sectors = Sectors(2048);

impl Bench {
    /// A device over a file.
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let image = dir.path().join("disk");
        std::fs::write(&image, vec![7; SIZE.bytes() as usize]).expect("room for it");
        let images = Images::new();
        let backing: Arc<dyn Backing> = images.clone();
        let control = Control::new(targets::registry(), backing, Pool::new(1), Arc::new(Silent));
        let mut bench = Bench { dir, control, images, fails: Fails::Never, calls: 0 };
        bench.device("base", &format!("{} 0", image.display()));
        bench
    }

    fn device(&mut self, name: &str, params: &str) {
        let command = Command::DevCreate { name: name.to_owned(), uuid: None, minor: None };
        self.control(command).expect("no fault").expect("a device");
        load(self, name, Access::ReadWrite, one(SIZE, "linear", params)).expect("a table");
        resume(self, name).expect("a table");
    }

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

    fn records(&self) -> Vec<Record> {
        self.control.records()
    }

    fn image(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("disk")).expect("an image")
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
        let device = find(&mut bench, "snap").expect("no fault").expect("a snapshot");
        (bench.fails, bench.calls) = (Fails::At(at), 0);
        let begun = merge::begin(&mut bench, &instance, &device);
        bench.fails = Fails::Never;
        if begun.is_err() && bench.records() != records {
            let name = merge::merging(&mut bench, &instance, "snap").expect("it goes on");
            assert_eq!(name, "base", "step {at}");
        } else if begun.is_err() {
            let there = find(&mut bench, "snap").expect("no fault").expect("a snapshot");
            merge::begin(&mut bench, &instance, &there).expect("nothing stands in the way");
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
fn the_end_of_a_merge_that_fails_can_be_tried_again() {
    for at in 1.. {
        let mut bench = Bench::new();
        let before = bench.records();
        bench.take("snap", None, Fails::Never).expect("a snapshot");
        let instance = bench.instance();
        let device = find(&mut bench, "snap").expect("no fault").expect("a snapshot");
        merge::begin(&mut bench, &instance, &device).expect("it begins");
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
    let device = find(&mut bench, "a").expect("no fault").expect("a snapshot");
    let origin = merge::begin(&mut bench, &instance, &device).expect("it begins");
    wait::until_merged(&mut bench, &origin, &AtomicBool::new(false)).expect("it is merged");
    finish::finish(&mut bench, &origin).expect("the table comes back");
    let base = find(&mut bench, "base").expect("no fault").expect("a device");
    assert!(base.origin_of().is_some());
    let other = state(&mut bench, "b", super::SNAPSHOT).expect("no fault");
    assert!(matches!(other, Some(super::State::Good { .. })), "{other:?}");
}
