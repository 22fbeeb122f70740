//! A control plane over devices in memory, and a device that is told how slow to be.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod asked;
pub(crate) mod mounted;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use backing::{Memory, Pool, block_on};
use sim_core::control::{Answer, Command, Failure, Id, WhenOpen};
use sim_core::{
    Access, Backing, BlockDevice, BoxFuture, Control, DevNumber, Errno, Held, MappedDevice, NoLog,
    Registry, Sectors, TargetSpec, parse_table,
};

/// Devices by the name that table lines use.
#[derive(Default)]
pub(crate) struct Devices(Mutex<HashMap<String, Arc<dyn BlockDevice>>>);

impl Devices {
    pub(crate) fn add(&self, name: &str, device: Arc<dyn BlockDevice>) {
        self.0.lock().unwrap().insert(name.to_owned(), device);
    }
}

impl Backing for Devices {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        let devices = self.0.lock().unwrap();
        devices.values().find(|device| device.number() == number).cloned().ok_or(Errno::NXIO)
    }

    fn by_word<'a>(
        &'a self,
        word: &'a str,
        _base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        Box::pin(async move { self.0.lock().unwrap().get(word).cloned().ok_or(Errno::NOENT) })
    }
}

/// A control plane over a 64 MiB device in memory called `disk`, and one called `disk4k` with
/// logical blocks of 4096 bytes.
pub(crate) struct World {
    pub(crate) control: Arc<Control>,
    pub(crate) devices: Arc<Devices>,
    pub(crate) pool: Arc<Pool>,
}

pub(crate) const MIB: u64 = 1 << 20;

/// Sectors in a MiB.
pub(crate) const M: u64 = 2048;

impl World {
    pub(crate) fn new() -> World {
        World::on(Arc::default())
    }

    pub(crate) fn on(devices: Arc<Devices>) -> World {
        World::with(targets::registry(), devices)
    }

    /// As `on`, with these target types.
    pub(crate) fn with(registry: Registry, devices: Arc<Devices>) -> World {
        for (minor, name, block) in [(0, "disk", 512), (1, "disk4k", 4096)] {
            let number = DevNumber { major: 7, minor };
            let memory = Memory::new(number, &format!("loop{minor}"), Sectors(64 * M), block);
            devices.add(name, memory);
        }
        let pool = Pool::new(2);
        let control = Control::new(registry, devices.clone(), pool.clone(), Arc::new(NoLog));
        World { control, devices, pool }
    }

    pub(crate) fn run(&self, command: Command) -> Result<Answer, Failure> {
        block_on(self.control.execute(command))
    }

    /// Makes a device and resumes it with a table.
    pub(crate) fn create(&self, name: &str, table: &str) -> Arc<MappedDevice> {
        self.create_as(name, table, Access::ReadWrite)
    }

    pub(crate) fn create_as(&self, name: &str, table: &str, access: Access) -> Arc<MappedDevice> {
        let create = Command::DevCreate { name: name.to_owned(), uuid: None, minor: None };
        self.run(create).unwrap();
        self.load(name, table, access);
        self.resume(name);
        self.control.find_shown(name).expect("shown since it has a table").device
    }

    pub(crate) fn load(&self, name: &str, table: &str, access: Access) {
        let lines = parse_table(table).unwrap_or_else(|_| panic!("a table: {table}"));
        let targets: Vec<TargetSpec> = lines.into_iter().map(|(_, spec)| spec).collect();
        let base = "/".to_owned();
        self.run(Command::TableLoad { id: id(name), access, targets, base }).unwrap();
    }

    pub(crate) fn reload(&self, name: &str, table: &str) {
        self.load(name, table, Access::ReadWrite);
        self.resume(name);
    }

    pub(crate) fn suspend(&self, name: &str) {
        self.run(Command::DevSuspend { id: id(name), held: Held::Flush }).unwrap();
    }

    pub(crate) fn resume(&self, name: &str) {
        self.run(Command::DevResume { id: id(name), held: Held::Flush }).unwrap();
    }

    pub(crate) fn remove(&self, name: &str, open: WhenOpen) -> Result<(), Errno> {
        let removed = self.run(Command::DevRemove { id: id(name), open });
        removed.map(drop).map_err(|failure| failure.errno)
    }
}

pub(crate) fn id(name: &str) -> Id {
    Id::Name(name.to_owned())
}

/// Bytes that tell where they belong: a pattern of period 251.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 + 1).collect()
}
