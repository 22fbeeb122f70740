//! Disks in memory, under a control plane that runs on one thread in virtual time.

use std::sync::Arc;

use backing::Memory;
use sim_core::control::{Answer, Backing, Command, Failure, Id, WhenOpen};
use sim_core::{
    Access, BlockDevice, BoxFuture, Control, DevNumber, Errno, Held, NoLog, Registry, Sectors,
    TargetSpec,
};
use testkit::Sim;

/// The names of the disks in table lines: `a` is 7:0, and so on. `/dev/loop0` is `a` too.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Disks in memory, each found by its number, by `/dev/` and its name, and in table lines by its letter.
pub struct Disks(
    /// Four at most.
    pub Vec<Arc<Memory>>,
);

impl Backing for Disks {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        let disk = self.0.iter().find(|disk| disk.number() == number);
        disk.map(|disk| disk.clone() as Arc<dyn BlockDevice>).ok_or(Errno::NXIO)
    }

    fn by_word<'a>(
        &'a self,
        word: &'a str,
        _base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        Box::pin(async move {
            let path = word.strip_prefix("/dev/");
            let found =
                self.0.iter().zip(NAMES).find(|(disk, name)| {
                    *name == word || path.is_some_and(|path| path == disk.name())
                });
            found.map(|(disk, _)| disk.clone() as Arc<dyn BlockDevice>).ok_or(Errno::NOENT)
        })
    }
}

/// A control plane, what runs it, and the disks below it.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) control: Arc<Control>,
    pub(crate) disks: Vec<Arc<Memory>>,
}

impl World {
    /// Makes `count` disks of zeros, [`NAMES`] at most, and a control plane without devices.
    pub(crate) fn new(registry: Registry, count: u32, size: Sectors, sector_size: u32) -> World {
        let (backing, disks) = disks(count, size, sector_size);
        let sim = Sim::new(0);
        let control = Control::new(registry, backing, sim.runtime(), Arc::new(NoLog));
        World { sim, control, disks }
    }

    /// Carries out one operation.
    ///
    /// # Panics
    /// When it waits for what never comes.
    pub(crate) fn execute(&self, command: Command) -> Result<Answer, Failure> {
        self.sim.block_on(self.control.execute(command))
    }

    pub(crate) fn create(&self, name: &str) {
        let done = self.execute(Command::DevCreate { name: name.into(), uuid: None, minor: None });
        done.expect("no device has the name");
    }

    pub(crate) fn load(&self, name: &str, targets: Vec<TargetSpec>) -> Result<Answer, Failure> {
        let (access, base) = (Access::ReadWrite, "/".to_owned());
        self.execute(Command::TableLoad { id: id(name), access, targets, base })
    }

    pub(crate) fn resume(&self, name: &str) -> Result<Answer, Failure> {
        self.execute(Command::DevResume { id: id(name), held: Held::Flush })
    }

    pub(crate) fn suspend(&self, name: &str) {
        let done = self.execute(Command::DevSuspend { id: id(name), held: Held::Flush });
        done.expect("any device can be suspended");
    }

    pub(crate) fn remove(&self, name: &str) {
        let done = self.execute(Command::DevRemove { id: id(name), open: WhenOpen::Refuse });
        done.expect("nobody has it open");
    }
}

/// Makes `count` disks of zeros, [`NAMES`] at most, and what finds them.
pub(crate) fn disks(
    count: u32,
    size: Sectors,
    sector_size: u32,
) -> (Arc<dyn Backing>, Vec<Arc<Memory>>) {
    let disk = |minor| {
        let number = DevNumber { major: 7, minor };
        Memory::new(number, &format!("loop{minor}"), size, sector_size)
    };
    let disks: Vec<Arc<Memory>> = (0..count).map(disk).collect();
    (Arc::new(Disks(disks.clone())), disks)
}

/// Reads a table that this crate has written itself.
pub(crate) fn lines(text: &str) -> Vec<TargetSpec> {
    let lines = sim_core::parse_table(text).expect("this table is our own");
    lines.into_iter().map(|(_, spec)| spec).collect()
}

pub(crate) fn id(name: &str) -> Id {
    Id::Name(name.to_owned())
}
