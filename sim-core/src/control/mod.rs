//! The control plane: every mapped device of an instance, and the operations on them.
//!
//! One [`Command`] for each ioctl of device-mapper, with the kernel's state machine, errnos and
//! log lines. Commands that can wait are futures; no lock is held while they do.

mod command;
mod devices;
mod find;
mod graph;
mod record;
mod tables;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use command::{
    Answer, Command, DevStatus, Failure, Id, Listed, NewName, Node, Report, Slot, TargetVersion,
    WhenOpen,
};
use find::Finder;
use graph::Graph;
pub use record::{NoRecord, Noted, NotedTable, Record, RecordedTable, Recorder};

use crate::args::World;
use crate::event::{Events, TargetEvents};
use crate::shared::Shared;
use crate::table::Build;
use crate::{
    Access, BlockDevice, DevNumber, Errno, KernelLog, MappedDevice, OpenDevice, Registry, Runtime,
    Sectors, Table,
};

/// The version of the ioctl interface that the operations follow: Linux 6.12's.
pub const INTERFACE_VERSION: [u32; 3] = [4, 48, 0];

/// The longest name, in bytes.
pub const MAX_NAME: usize = 127;

/// The longest uuid, in bytes.
pub const MAX_UUID: usize = 128;

/// The most minor numbers: `1 << MINORBITS`.
const MAX_MINORS: u32 = 1 << 20;

/// Where devices that are not mapped come from: attached images.
pub trait Backing: Send + Sync {
    /// Finds a device by its number; [`Errno::NXIO`] where there is none.
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno>;

    /// Finds a device by the name or the path that a table line has. A relative path starts from
    /// `base`. [`Errno::NOENT`] where there is none, [`Errno::NOTBLK`] for what is no device.
    fn by_word(&self, word: &str, base: &str) -> Result<Arc<dyn BlockDevice>, Errno>;
}

/// What changed about a device: what whoever shows devices wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A name appeared, or went.
    Name(String),
    /// The device with this minor may read as something else, or has another size.
    Content(u32),
}

/// One mapped device in the control plane: the kernel's hash cell.
struct Cell {
    device: Arc<MappedDevice>,
    name: String,
    uuid: Option<String>,
    inactive: Option<Arc<Table>>,
    deferred_remove: bool,
    /// A table was loaded once: there is a disk, and a file that shows it.
    has_disk: bool,
    read_ahead: Option<Sectors>,
    node: Node,
}

/// A device as whoever shows it sees it.
#[derive(Clone)]
pub struct Shown {
    /// The name, mangled.
    pub name: String,
    /// Mode and owner of its file.
    pub node: Node,
    /// The device.
    pub device: Arc<MappedDevice>,
}

type Watcher = Box<dyn Fn(&Changed) + Send + Sync>;

/// The mapped devices of an instance.
pub struct Control {
    registry: Registry,
    backing: Arc<dyn Backing>,
    runtime: Arc<dyn Runtime>,
    log: Arc<dyn KernelLog>,
    cells: Mutex<BTreeMap<u32, Cell>>,
    events: Arc<Events>,
    shared: Shared,
    watcher: Mutex<Option<Watcher>>,
    recorder: OnceLock<Arc<dyn Recorder>>,
}

type Done = Result<Answer, Failure>;

impl Control {
    /// Makes a control plane without devices.
    pub fn new(
        registry: Registry,
        backing: Arc<dyn Backing>,
        runtime: Arc<dyn Runtime>,
        log: Arc<dyn KernelLog>,
    ) -> Arc<Control> {
        Arc::new(Control {
            registry,
            backing,
            runtime,
            log,
            cells: Mutex::new(BTreeMap::new()),
            events: Arc::default(),
            shared: Shared::default(),
            watcher: Mutex::new(None),
            recorder: OnceLock::new(),
        })
    }

    /// Calls `watcher` at every change from now on. It is called with no lock held, and must not
    /// wait.
    pub fn watch(&self, watcher: impl Fn(&Changed) + Send + Sync + 'static) {
        *lock(&self.watcher) = Some(Box::new(watcher));
    }

    /// Shows every change to `recorder` from now on.
    ///
    /// # Panics
    /// When there is a recorder already.
    pub fn record_with(&self, recorder: Arc<dyn Recorder>) {
        assert!(self.recorder.set(recorder).is_ok(), "a control plane has one recorder");
    }

    /// Makes durable what was changed so far. The error says what could not be done.
    pub async fn commit(&self) -> Result<(), String> {
        match self.recorder.get() {
            Some(recorder) => recorder.commit().await,
            None => Ok(()),
        }
    }

    /// Lists the devices that have a disk to show, by name. One that is to be removed when it is
    /// closed is not shown any more.
    pub fn shown(&self) -> Vec<Shown> {
        let cells = self.cells();
        let shown = cells.values().filter(|cell| cell.is_shown()).map(Cell::shown);
        let mut shown: Vec<Shown> = shown.collect();
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        shown
    }

    /// Finds a device that has a disk to show by its name.
    pub fn find_shown(&self, name: &str) -> Option<Shown> {
        let cells = self.cells();
        cells.values().find(|cell| cell.name == name && cell.is_shown()).map(Cell::shown)
    }

    /// Finds a device that has a disk by its minor number, shown or not.
    pub fn find_minor(&self, minor: u32) -> Option<Shown> {
        self.cells().get(&minor).filter(|cell| cell.has_disk).map(Cell::shown)
    }

    /// Writes down every device, in an order in which they can be built again: each after those
    /// that it maps onto, and those that change what is below by themselves after all others.
    pub fn records(&self) -> Vec<Record> {
        let cells = self.cells();
        let changes = |cell: &&Cell| cell.device.live().is_some_and(|table| table.changes_below());
        let last: Vec<u32> =
            cells.values().filter(changes).map(|cell| cell.device.minor()).collect();
        let minors = Graph::of(&cells).bottom_up(&last);
        minors.iter().map(|minor| cells[minor].record()).collect()
    }

    /// Removes what was to be removed when closed, and is closed now. To be called by whoever
    /// has released a device.
    pub fn reap(&self) {
        loop {
            let due = |cell: &&Cell| cell.deferred_remove && cell.device.open_count() == 0;
            let due = self.cells().values().find(due).map(|cell| cell.device.minor());
            let Some(cell) = due.and_then(|minor| self.take_closed(minor).ok()) else { return };
            let (name, minor) = (cell.name.clone(), cell.device.minor());
            let mut end = Box::pin(cell.tear_down());
            // Whoever closes a device does not wait: what is not done at once goes on by itself.
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            if end.as_mut().poll(&mut cx).is_pending() {
                self.runtime.spawn(end);
            }
            self.changed(&Changed::Name(name));
            self.changed(&Changed::Content(minor));
        }
    }

    /// Carries out one operation, and makes durable what it changed; a front end that wants to
    /// know whether that could be done calls [`perform`](Self::perform) and
    /// [`commit`](Self::commit).
    pub async fn execute(&self, command: Command) -> Done {
        let changes = command.changes();
        let done = self.perform(command).await;
        if changes {
            // Whoever writes the record says so in its log.
            let _not_on_record = self.commit().await;
        }
        done
    }

    /// Carries out one operation, and leaves it to the caller to make durable what it changed.
    /// Waits where the kernel's would sleep; an operation that is dropped while it waits is
    /// undone.
    pub async fn perform(&self, command: Command) -> Done {
        // What was closed since the last operation without anybody saying so.
        self.reap();
        match command {
            Command::Version => Ok(Answer::Version(INTERFACE_VERSION)),
            Command::RemoveAll { open } => self.remove_all(open).await,
            Command::ListDevices => Ok(self.list_devices()),
            Command::DevCreate { name, uuid, minor } => self.dev_create(name, uuid, minor),
            Command::DevRemove { id, open } => self.dev_remove(&id, open).await,
            Command::DevRename { id, new } => self.dev_rename(&id, new),
            Command::DevSuspend { id, held } => self.dev_suspend(&id, held).await,
            Command::DevResume { id, held } => self.dev_resume(&id, held).await,
            Command::DevStatus { id, slot } => self.status(&id, slot),
            Command::DevWait { id, event_nr } => self.dev_wait(&id, event_nr).await,
            Command::TableLoad { id, access, targets, base } => {
                self.table_load(&id, access, &targets, &base).await
            }
            Command::TableClear { id } => self.table_clear(&id),
            Command::TableDeps { id, slot } => self.table_deps(&id, slot),
            Command::TableStatus { id, report, slot, device_names, keys } => {
                self.table_status(&id, report, slot, device_names, keys)
            }
            Command::ListVersions => Ok(Answer::Versions(self.versions())),
            Command::TargetMsg { id, sector, message, slot } => {
                self.target_msg(&id, sector, &message, slot)
            }
            Command::SetGeometry { id, geometry } => self.set_geometry(&id, &geometry),
            Command::ArmPoll => Ok(Answer::Events(self.events.number())),
            Command::GetTargetVersion { name } => self.target_version(&name),
            Command::SetReadAhead { id, sectors } => self.with(&id, |cell| {
                cell.read_ahead = Some(sectors);
                Ok(Answer::Status(cell.status(Slot::Live)))
            }),
            Command::SetFails { id, below, fails } => self.set_fails(&id, below, fails),
            Command::SetNode { id, node } => self.with(&id, |cell| {
                cell.node = node;
                Ok(Answer::Status(cell.status(Slot::Live)))
            }),
        }
    }

    fn events_of(&self, device: &MappedDevice) -> TargetEvents {
        TargetEvents::new(device.events().clone(), self.events.clone())
    }

    /// Waits for an event of any device after the one with this number
    /// ([`Command::ArmPoll`] returns the last).
    pub async fn any_event(&self, known: u32) {
        self.events.until(|number| number != known).await;
    }

    /// Returns a mapped device.
    pub fn device(&self, id: &Id) -> Result<Arc<MappedDevice>, Failure> {
        self.with(id, |cell| Ok(cell.device.clone()))
    }

    /// Gathers what a table of this device is built with.
    fn site<'a>(&'a self, device: &MappedDevice, access: Access, base: &'a str) -> Site<'a> {
        let number = device.number();
        let open: Vec<Arc<OpenDevice>> = {
            let cells = self.cells();
            let tables = cells.get(&number.minor).into_iter().flat_map(Cell::tables);
            tables.flat_map(|table| table.devices().cloned().collect::<Vec<_>>()).collect()
        };
        let finder = Finder { control: self, minor: number.minor, base };
        Site { control: self, number, access, finder, events: self.events_of(device), open }
    }

    fn with<T>(
        &self,
        id: &Id,
        act: impl FnOnce(&mut Cell) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut cells = self.cells();
        act(find_cell(&mut cells, id).ok_or(Errno::NXIO)?)
    }

    fn failure(&self, errno: Errno, why: &str) -> Failure {
        self.log.line(&format!("device-mapper: ioctl: {why}"));
        Failure { errno, table: None, why: Some(why.to_owned()) }
    }

    fn changed(&self, changed: &Changed) {
        if let Some(watcher) = &*lock(&self.watcher) {
            watcher(changed);
        }
    }

    fn cells(&self) -> MutexGuard<'_, BTreeMap<u32, Cell>> {
        lock(&self.cells)
    }
}

/// Where a table is built.
struct Site<'a> {
    control: &'a Control,
    number: DevNumber,
    access: Access,
    finder: Finder<'a>,
    events: TargetEvents,
    open: Vec<Arc<OpenDevice>>,
}

impl Site<'_> {
    fn build(&self) -> Build<'_> {
        let Control { registry, runtime, shared, log, .. } = self.control;
        let world = World { runtime, events: &self.events, shared };
        let (number, access, finder, open) = (self.number, self.access, &self.finder, &self.open);
        Build { number, access, registry, finder, world, log, open }
    }
}

impl Cell {
    /// Suspends the device for good, and lets its tables go.
    async fn tear_down(self) {
        self.device.tear_down().await;
    }

    fn is_shown(&self) -> bool {
        self.has_disk && !self.deferred_remove
    }

    fn shown(&self) -> Shown {
        Shown { name: self.name.clone(), node: self.node, device: self.device.clone() }
    }

    fn table(&self, slot: Slot) -> Option<Arc<Table>> {
        match slot {
            Slot::Live => self.device.live(),
            Slot::Inactive => self.inactive.clone(),
        }
    }

    fn tables(&self) -> impl Iterator<Item = Arc<Table>> {
        [Slot::Live, Slot::Inactive].into_iter().filter_map(|slot| self.table(slot))
    }

    fn status(&self, slot: Slot) -> DevStatus {
        let asked = self.table(slot);
        let read_only = match (slot, &asked) {
            (Slot::Inactive, Some(table)) => table.access().is_read_only(),
            _ => self.device.access().is_read_only(),
        };
        let read_ahead = || self.read_ahead.unwrap_or_else(|| self.device.limits().read_ahead());
        DevStatus {
            name: self.name.clone(),
            uuid: self.uuid.clone(),
            dev: self.device.number(),
            open_count: self.device.open_count(),
            event_nr: self.device.events().number(),
            target_count: asked.map_or(0, |table| table.count()),
            suspended: self.device.is_suspended(),
            read_only,
            live_present: self.device.live().is_some(),
            inactive_present: self.inactive.is_some(),
            deferred_remove: self.deferred_remove,
            read_ahead: self.has_disk.then(read_ahead),
        }
    }
}

fn find_cell<'a>(cells: &'a mut BTreeMap<u32, Cell>, id: &Id) -> Option<&'a mut Cell> {
    match id {
        Id::Name(name) => cells.values_mut().find(|cell| cell.name == *name),
        Id::Uuid(uuid) => cells.values_mut().find(|cell| cell.uuid.as_ref() == Some(uuid)),
        Id::Dev(dev) if dev.major == crate::DM_MAJOR => cells.get_mut(&dev.minor),
        Id::Dev(_) => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
