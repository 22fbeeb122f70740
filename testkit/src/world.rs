//! A control plane over simulated disks, under one executor.

use std::sync::{Arc, Mutex, PoisonError};

use sim_core::control::{Answer, Backing, Command, Control, DevStatus, Failure, Id, Slot};
use sim_core::{
    Access, Bio, BlkResult, BlockDevice, BoxFuture, DevNumber, Errno, Held, KernelLog,
    MappedDevice, OpenDevice, Registry, Sectors, TargetSpec,
};

use crate::io::letter;
use crate::{DISK_MAJOR, Handle, Schedule, Sim, SimDisk, story};

/// Everything a test needs: executor, disks, control plane, and the lines the kernel would log.
pub struct World {
    /// The executor.
    pub sim: Sim,
    /// The control plane.
    pub control: Arc<Control>,
    disks: Arc<Disks<SimDisk>>,
    log: Arc<Log>,
}

impl World {
    /// Makes a world with the target types of `registry`, no disks and no devices.
    pub fn new(seed: u64, registry: Registry) -> World {
        World::with(&Schedule::Random(seed), registry, &[])
    }

    /// Makes a world with the power on again: over disks that were there before, without devices.
    pub fn with(schedule: &Schedule, registry: Registry, disks: &[Arc<SimDisk>]) -> World {
        let sim = Sim::with(schedule);
        if !disks.is_empty() {
            story::heading(format_args!("the power is on again"));
        }
        disks.iter().for_each(|disk| disk.power_cycle(sim.handle()));
        let (disks, log) = (Arc::new(Disks::new(disks.to_vec())), Arc::new(Log::default()));
        let control = Control::new(registry, disks.clone(), sim.runtime(), log.clone());
        World { sim, control, disks, log }
    }

    /// Returns a handle on the executor.
    pub fn handle(&self) -> Handle {
        self.sim.handle()
    }

    /// Adds a disk of zeros: the first is 7:0, and so on.
    pub fn add_disk(&self, size: Sectors) -> Arc<SimDisk> {
        self.add_disk_of(size, 512)
    }

    /// Adds a disk of zeros with logical blocks of so many bytes.
    pub fn add_disk_of(&self, size: Sectors, block: u32) -> Arc<SimDisk> {
        let mut disks = self.disks.lock();
        let disk = SimDisk::in_blocks(self.sim.handle(), disks.len() as u32, size, block);
        disks.push(disk.clone());
        disk
    }

    /// Returns a disk.
    ///
    /// # Panics
    /// When there is none with this minor number.
    pub fn disk(&self, minor: u32) -> Arc<SimDisk> {
        self.disks.lock()[minor as usize].clone()
    }

    /// Carries out one operation of the control plane.
    ///
    /// # Panics
    /// When it waits for what never comes.
    pub fn execute(&self, command: Command) -> Result<Answer, Failure> {
        self.sim.block_on(self.control.execute(command))
    }

    /// Makes a device with this minor number, without a table, named `d` and the number.
    pub fn create(&self, minor: u32) -> Result<Answer, Failure> {
        self.execute(Command::DevCreate {
            name: format!("d{minor}"),
            uuid: None,
            minor: Some(minor),
        })
    }

    /// Loads a table into the inactive slot of a device.
    pub fn load(&self, minor: u32, targets: Vec<TargetSpec>) -> Result<Answer, Failure> {
        let (access, base) = (Access::ReadWrite, String::new());
        self.execute(Command::TableLoad { id: id(minor), access, targets, base })
    }

    /// Suspends a device.
    pub fn suspend(&self, minor: u32, held: Held) -> Result<Answer, Failure> {
        self.execute(Command::DevSuspend { id: id(minor), held })
    }

    /// Swaps the inactive table in, if there is one, and resumes.
    pub fn resume(&self, minor: u32) -> Result<Answer, Failure> {
        self.execute(Command::DevResume { id: id(minor), held: Held::Flush })
    }

    /// Makes a device from the text of a table, and brings it into use.
    ///
    /// # Panics
    /// When any of it fails: the text is the test's own.
    pub fn set_up(&self, minor: u32, table: &str) -> Arc<MappedDevice> {
        self.try_set_up(minor, table).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`set_up`](Self::set_up), where it may fail: says what did, and why.
    pub fn try_set_up(&self, minor: u32, table: &str) -> Result<Arc<MappedDevice>, String> {
        let lines = sim_core::parse_table(table).map_err(|error| error.to_string())?;
        let targets = lines.into_iter().map(|(_, spec)| spec).collect();
        story::heading(format_args!("d{minor} is set up: {}", table.replace('\n', "; ")));
        self.create(minor).map_err(|error| format!("create: {error}"))?;
        self.load(minor, targets).map_err(|error| format!("load: {error}"))?;
        self.resume(minor).map_err(|error| format!("resume: {error}"))?;
        Ok(self.device(minor))
    }

    /// Returns a mapped device.
    ///
    /// # Panics
    /// When there is none.
    pub fn device(&self, minor: u32) -> Arc<MappedDevice> {
        self.control.device(&id(minor)).expect("a device with this minor")
    }

    /// Returns how a device is.
    pub fn status(&self, minor: u32) -> Result<DevStatus, Failure> {
        match self.execute(Command::DevStatus { id: id(minor), slot: Slot::Live })? {
            Answer::Status(status) => Ok(status),
            other => unreachable!("a status is answered with a status, not {other:?}"),
        }
    }

    /// Takes the lines that the kernel would have logged since the last call.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Names a mapped device by its minor number.
pub fn id(minor: u32) -> Id {
    Id::Dev(DevNumber::mapped(minor))
}

/// Sends a bio as a front end does: on the spot where nothing waits, else as a task. Holds the
/// device open meanwhile.
pub async fn send(device: Arc<dyn BlockDevice>, bio: Bio<'_>) -> BlkResult {
    let open = OpenDevice::new(device, Access::ReadWrite).map_err(|_| sim_core::BlkError::Gone)?;
    open.submit(bio).await
}

/// Disks that have the numbers 7:0, 7:1 and so on.
pub(crate) struct Disks<D>(Mutex<Vec<Arc<D>>>);

impl<D: BlockDevice + 'static> Disks<D> {
    pub(crate) fn new(disks: Vec<Arc<D>>) -> Disks<D> {
        Disks(Mutex::new(disks))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<D>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: BlockDevice + 'static> Backing for Disks<D> {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        match self.lock().get(number.minor as usize) {
            Some(disk) if number.major == DISK_MAJOR => Ok(disk.clone()),
            Some(_) | None => Err(Errno::NXIO),
        }
    }

    /// Finds a disk by the name that kernel messages give it (`loop0`), or by its letter (`a`).
    fn by_word<'a>(
        &'a self,
        word: &'a str,
        _base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        Box::pin(async move {
            let disks = self.lock();
            let letter = |disk: &D| letter(disk.number().minor).to_string() == word;
            let named = |disk: &&Arc<D>| disk.name() == word || letter(disk);
            let found = disks.iter().find(named).ok_or(Errno::NOENT)?;
            Ok(found.clone() as Arc<dyn BlockDevice>)
        })
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl KernelLog for Log {
    fn line(&self, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    }
}
