//! The record under a control plane: what is read from it is what was there.

mod cut;
mod file;
mod restored;
mod taken_over;

use std::sync::Arc;

use backing::{Images, Pool, block_on};
use sim_core::control::{Command, Failure, Id, NewName, Record, Recorder, WhenOpen};
use sim_core::{Access, Control, Held, NoLog, TargetSpec, parse_table};

use super::entry::ImageRecord;
use super::keeper::Keeper;
use super::log::{MARGIN, NAME};
use super::simulated::Simulated;
use crate::fault::Fault;

/// A control plane, its images, and their record.
struct Rig {
    control: Arc<Control>,
    images: Arc<Images>,
    keeper: Arc<Keeper>,
    folder: Simulated,
    damage: Option<Fault>,
}

/// What is there, or past: images by number, devices by minor.
#[derive(Clone, Debug, Default, PartialEq)]
struct Stack {
    images: Vec<ImageRecord>,
    devices: Vec<Record>,
}

impl Stack {
    fn sorted(mut self) -> Stack {
        self.images.sort_by_key(|image| image.dev);
        self.devices.sort_by_key(|device| device.minor);
        self
    }
}

impl Rig {
    fn new() -> Rig {
        Rig::over(&Simulated::default(), MARGIN)
    }

    fn over(folder: &Simulated, margin: u64) -> Rig {
        Rig::open(folder, margin).unwrap()
    }

    fn open(folder: &Simulated, margin: u64) -> Result<Rig, Fault> {
        let (keeper, damage) = Keeper::open_in(Box::new(folder.clone()), None, margin)?;
        Ok(Rig { damage, ..Rig::around(keeper, folder) })
    }

    fn around(keeper: Keeper, folder: &Simulated) -> Rig {
        let (keeper, images) = (Arc::new(keeper), Images::new());
        let (pool, registry) = (Pool::new(1), targets::registry());
        let control = Control::new(registry, images.clone(), pool, Arc::new(NoLog));
        control.record_with(keeper.clone() as Arc<dyn Recorder>);
        let (notes, writes) = (keeper.clone(), keeper.clone());
        images.watch(move |change| notes.note_image(change));
        std::thread::spawn(move || writes.run());
        Rig { control, images, keeper, folder: folder.clone(), damage: None }
    }

    /// Carries a command out as the daemon does, and returns whether it is on record.
    fn run(&self, command: Command) -> Result<(), String> {
        let _change = self.keeper.change();
        self.perform(command).unwrap();
        block_on(self.control.commit())
    }

    fn perform(&self, command: Command) -> Result<(), Failure> {
        block_on(self.control.perform(command)).map(drop)
    }

    fn there(&self) -> Stack {
        let images = self.images.list().iter().map(ImageRecord::from).collect();
        Stack { images, devices: self.control.records() }.sorted()
    }

    fn past(&self) -> Stack {
        past(&self.keeper)
    }
}

fn past(keeper: &Keeper) -> Stack {
    let past = keeper.past().unwrap();
    let images = past.images.into_iter().map(|past| past.image).collect();
    let devices = past.devices.into_iter().map(|past| past.device).collect();
    Stack { images, devices }.sorted()
}

/// Reads what a folder has on record; the record that is in it is not used.
fn read(folder: &Simulated) -> Stack {
    let (keeper, damage) = Keeper::open_in(Box::new(folder.copy()), None, MARGIN).unwrap();
    assert_eq!(damage, None);
    past_without_thread(keeper)
}

fn past_without_thread(keeper: Keeper) -> Stack {
    // Nothing is to be written: nobody has to.
    past(&keeper)
}

fn named(name: &str) -> Id {
    Id::Name(name.to_owned())
}

fn create(name: &str) -> Command {
    Command::DevCreate { name: name.to_owned(), uuid: Some(format!("U-{name}")), minor: None }
}

fn load(name: &str, table: &str) -> Command {
    let (id, targets, base) = (named(name), targets_of(table), "/".to_owned());
    Command::TableLoad { id, access: Access::ReadWrite, targets, base }
}

fn targets_of(table: &str) -> Vec<TargetSpec> {
    parse_table(table).unwrap().into_iter().map(|(_, target)| target).collect()
}

fn resume(name: &str) -> Command {
    Command::DevResume { id: named(name), held: Held::Flush }
}

fn suspend(name: &str) -> Command {
    Command::DevSuspend { id: named(name), held: Held::Flush }
}

fn rename(name: &str, to: &str) -> Command {
    Command::DevRename { id: named(name), new: NewName::Name(to.to_owned()) }
}

fn remove(name: &str) -> Command {
    Command::DevRemove { id: named(name), open: WhenOpen::Refuse }
}

/// A device's life, step by step, with others beside it.
fn life() -> Vec<Command> {
    vec![
        create("a"),
        load("a", "0 8 zero\n8 8 error"),
        resume("a"),
        create("b"),
        load("b", "0 8 linear 253:0 0"),
        resume("b"),
        load("b", "0 4 linear 253:0 4"),
        suspend("b"),
        rename("b", "c"),
        resume("c"),
        Command::SetReadAhead { id: named("c"), sectors: sim_core::Sectors(64) },
        load("c", "0 8 zero"),
        Command::TableClear { id: named("c") },
        remove("c"),
        create("d"),
    ]
}
