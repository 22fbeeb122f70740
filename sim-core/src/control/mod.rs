//! The control plane: every mapped device of an instance, and the operations on them.
//!
//! One [`Command`] for each ioctl of device-mapper, with the kernel's state machine, errnos and
//! log lines. Commands that can wait are futures; no lock is held while they do.

mod backing;
mod cell;
mod cells;
mod claims;
mod command;
mod devices;
mod faults;
mod find;
pub mod ioctl;
pub(crate) mod journal;
mod lifecycle;
mod record;
mod tables;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

pub use backing::{Backing, Found};
use cell::Cell;
pub use cell::Shown;
use cells::Cells;
use claims::Claims;
pub use command::{
    Answer, Command, DevStatus, Failure, Id, Listed, NewName, Node, Overlap, Report, Slot,
    TargetVersion, WhenOpen,
};
use find::Finder;
use journal::Journal;
pub use journal::{Happened, Happenings, MAX_HAPPENED, What};
pub use record::{NoRecord, Noted, NotedTable, Record, RecordedTable, Recorder};

use crate::ctr::args::Surroundings;
use crate::ctr::routes::FlatMaps;
use crate::ctr::shared::{OptionalWords, Shared};
use crate::graph::Graph;
use crate::sync::barrier::Barrier;
use crate::sync::event::{Events, TargetEvents};
use crate::table::build::Build;
use crate::{
    Access, BlockDevice, DevNumber, Errno, KernelLog, MappedDevice, OpenDevice, Registry, Runtime,
    Sectors, Tracing,
};

/// The version of the ioctl interface that the operations follow: Linux 6.12's.
pub const INTERFACE_VERSION: [u32; 3] = [4, 48, 0];

/// The longest name, in bytes.
pub const MAX_NAME: usize = 127;

/// The longest uuid, in bytes.
pub const MAX_UUID: usize = 128;

/// What changed about a device: what whoever shows devices wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A name appeared, or went.
    Name(String),
    /// The device with this minor may read as something else, or has another size.
    Content(u32),
}

type Watcher = Arc<dyn Fn(&Changed) + Send + Sync>;

/// The mapped devices of an instance.
pub struct Control {
    registry: Registry,
    backing: Arc<dyn Backing>,
    runtime: Arc<dyn Runtime>,
    log: Arc<dyn KernelLog>,
    cells: Mutex<Cells>,
    graph: Arc<Graph>,
    /// Taken after the cells, where both are.
    claims: Mutex<Claims>,
    events: Arc<Events>,
    journal: Arc<Journal>,
    shared: Shared,
    /// How often a device that is shown came, went or changed.
    changes: AtomicU64,
    /// What [`shown_totals`](Control::shown_totals) has last found, and after which change.
    totals: Mutex<Option<(u64, (u64, Sectors))>>,
    watchers: Mutex<Vec<Watcher>>,
    recorder: OnceLock<Arc<dyn Recorder>>,
}

type CommandResult = Result<Answer, Failure>;

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
            cells: Mutex::default(),
            graph: Arc::default(),
            claims: Mutex::default(),
            events: Arc::default(),
            journal: Arc::default(),
            shared: Shared::default(),
            changes: AtomicU64::new(0),
            totals: Mutex::new(None),
            watchers: Mutex::default(),
            recorder: OnceLock::new(),
        })
    }

    /// Calls `watcher`, beside those that watch already, at every change from now on. It is called with no lock held, and must not
    /// wait.
    pub fn watch(&self, watcher: impl Fn(&Changed) + Send + Sync + 'static) {
        lock(&self.watchers).push(Arc::new(watcher));
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
    /// closed is shown until then.
    pub fn shown(&self) -> Vec<Shown> {
        let cells = self.cells();
        cells.by_name().filter(|cell| cell.is_shown()).map(Cell::shown).collect()
    }

    /// Returns how many devices there are to show, and how large all of them are together. Costs
    /// no walk over the devices unless something has changed since the last call.
    pub fn shown_totals(&self) -> (u64, Sectors) {
        // Before the walk: what changes during it is counted anew by the next call.
        let now = self.changes.load(SeqCst);
        let mut totals = lock(&self.totals);
        if let Some((then, totals)) = *totals
            && then == now
        {
            return totals;
        }
        let cells = self.cells();
        let shown = cells.iter().filter(|cell| cell.is_shown());
        let sum = shown.fold((0, 0u64), |(count, size), cell| {
            (count + 1, size.saturating_add(cell.device.size().0))
        });
        let sum = (sum.0, Sectors(sum.1));
        *totals = Some((now, sum));
        sum
    }

    /// Lists the devices that have a disk to show by number: from `minor` on, and `count` at most.
    pub fn shown_from(&self, minor: u32, count: usize) -> Vec<Shown> {
        let cells = self.cells();
        cells.from(minor).filter(|cell| cell.is_shown()).take(count).map(Cell::shown).collect()
    }

    /// Finds a device that has a disk to show by its name.
    pub fn find_shown(&self, name: &str) -> Option<Shown> {
        self.cells().find_name(name).filter(|cell| cell.is_shown()).map(Cell::shown)
    }

    /// Lists the devices that have names in /dev/mapper by number, from `minor` on, and `count` at most:
    /// also those without a table, and none that is to be removed when it is closed.
    pub fn named_from(&self, minor: u32, count: usize) -> Vec<Shown> {
        let cells = self.cells();
        let named = cells.from(minor).filter(|cell| !cell.deferred_remove);
        named.take(count).map(Cell::shown).collect()
    }

    /// Finds a device that has a name in /dev/mapper by that.
    pub fn find_named(&self, name: &str) -> Option<Shown> {
        self.cells().find_name(name).filter(|cell| !cell.deferred_remove).map(Cell::shown)
    }

    /// Finds a device that has a disk by its minor number, shown or not.
    pub fn find_minor(&self, minor: u32) -> Option<Shown> {
        self.cells().get(minor).filter(|cell| cell.has_disk).map(Cell::shown)
    }

    /// Returns how often tables have a device open: what is left of its open count are others.
    pub fn opened_by_tables(&self, id: &Id) -> Result<u32, Failure> {
        Ok(self.graph.opened(self.device(id)?.node()))
    }

    /// Writes down every device, in an order in which they can be built again: each after those
    /// that it maps onto, and those that change what is below by themselves after all others.
    pub fn records(&self) -> Vec<Record> {
        let cells = self.cells();
        self.bottom_up(&cells).into_iter().map(Cell::record).collect()
    }

    /// Lists every device from the top down: each before those that it maps onto, and those that
    /// change what is below by themselves before all others.
    pub fn top_down(&self) -> Vec<Arc<MappedDevice>> {
        let cells = self.cells();
        self.bottom_up(&cells).into_iter().rev().map(|cell| cell.device.clone()).collect()
    }

    fn bottom_up<'a>(&self, cells: &'a Cells) -> Vec<&'a Cell> {
        let mut all: Vec<&Cell> = cells.iter().collect();
        let changes = |cell: &&&Cell| cell.device.live().is_some_and(|table| table.changes_below());
        let last: Vec<_> = all.iter().filter(changes).map(|cell| cell.device.node()).collect();
        self.graph.bottom_up(&mut all, |cell| cell.device.node(), &last);
        all
    }

    /// Carries out one operation, and makes durable what it changed; a front end that wants to
    /// know whether that could be done calls [`perform`](Self::perform) and
    /// [`commit`](Self::commit).
    pub async fn execute(&self, command: Command) -> CommandResult {
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
    pub async fn perform(&self, command: Command) -> CommandResult {
        let barrier = Barrier::new(self.runtime.clone(), "a command".to_owned());
        barrier.wait(Err(Errno::IO.into()), self.carry_out(command)).await
    }

    async fn carry_out(&self, command: Command) -> CommandResult {
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
                self.table_status(&id, report, slot, device_names, keys).await
            }
            Command::ListVersions => Ok(Answer::Versions(self.versions())),
            Command::TargetMsg { id, sector, message, slot } => {
                self.target_msg(&id, sector, &message, slot).await
            }
            Command::SetGeometry { id, geometry } => self.set_geometry(&id, &geometry),
            Command::ArmPoll => Ok(Answer::Events(self.events.number())),
            Command::GetTargetVersion { name } => self.target_version(&name),
            Command::SetReadAhead { id, sectors } => self.change(&id, |cell| {
                cell.read_ahead = Some(sectors);
                Ok(Answer::Status(cell.status(Slot::Live)))
            }),
            Command::SetFails { id, below, fails } => self.set_fails(&id, below, fails).await,
            Command::SetFaults { id, below, plan, replaces } => {
                self.set_faults(&id, below, plan, replaces).await
            }
            Command::Faults { id } => self.faults(&id),
            Command::Locate { id, sector } => self.locate(&id, sector),
            Command::Shows { id, below, sector } => self.shows(&id, below, sector),
            Command::SetNode { id, node } => self.change(&id, |cell| {
                cell.node = node;
                Ok(Answer::Status(cell.status(Slot::Live)))
            }),
        }
    }

    fn events_of(&self, device: &MappedDevice) -> TargetEvents {
        let journal = (self.journal.clone(), device.node());
        let (own, all) = (device.events().clone(), self.events.clone());
        TargetEvents::new(own, all, device.shared_size(), journal)
    }

    /// Lists the words that targets have said may be left out ([`Args::optional`](crate::Args::optional)),
    /// in all tables that were built: where the target begins, and the first such word from 0.
    pub fn optional_words(&self) -> Vec<(crate::Sector, usize)> {
        self.shared.of::<OptionalWords>().0.lock().iter().copied().collect()
    }

    /// Returns the number of the last event of all devices.
    pub fn events(&self) -> u32 {
        self.events.number()
    }

    /// Waits for an event of any device after the one with this number
    /// ([`Command::ArmPoll`] returns the last).
    pub async fn any_event(&self, known: u32) {
        self.events.until(|number| number != known).await;
    }

    /// Returns the number of what has happened last to any device; zero before anything has.
    pub fn happened(&self) -> u64 {
        self.journal.last()
    }

    /// Waits until something has happened after the one with this number, and returns what: as much as is kept
    /// ([`MAX_HAPPENED`]), and of that a part.
    pub async fn happened_after(&self, seq: u64) -> Happenings {
        self.journal.after(seq).await
    }

    /// Begins to trace what is sent to a device, and with `deep` what its tables send below, down to the
    /// images. It ends when what is returned goes.
    pub fn trace(&self, id: &Id, deep: bool) -> Result<Tracing, Failure> {
        let device = self.device(id)?;
        let busy = |dev| {
            let why = Some(format!("{dev} is traced already"));
            Failure { errno: Errno::BUSY, table: None, why }
        };
        Tracing::begin(&device, self.runtime.clone(), deep).map_err(busy)
    }

    /// Returns a mapped device.
    pub fn device(&self, id: &Id) -> Result<Arc<MappedDevice>, Failure> {
        self.with(id, |cell| Ok(cell.device.clone()))
    }

    /// Gathers what a table of this device is built with.
    fn site<'a>(
        &'a self,
        device: &'a Arc<MappedDevice>,
        access: Access,
        base: &'a str,
    ) -> Site<'a> {
        let open: Vec<Arc<OpenDevice>> = {
            let mut cells = self.cells();
            let tables = cells.cell_of(device).into_iter().flat_map(|cell| cell.tables());
            tables.flat_map(|table| table.devices().cloned().collect::<Vec<_>>()).collect()
        };
        let (backing, cells, graph) = (&*self.backing, &self.cells, &self.graph);
        let finder = Finder { backing, cells, graph, device, base };
        let number = device.number();
        let events = self.events_of(device);
        let device: Weak<MappedDevice> = Arc::downgrade(device);
        Site { control: self, number, access, finder, events, device, open }
    }

    /// Acts on a device, with the lock held.
    fn with<T>(
        &self,
        id: &Id,
        act: impl FnOnce(&mut Cell) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        act(self.cells().find_mut(id).ok_or(Errno::NXIO)?)
    }

    /// As [`with`](Self::with), and notes for the record how the device is afterwards.
    fn change<T>(
        &self,
        id: &Id,
        act: impl FnOnce(&mut Cell) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.with(id, |cell| {
            let done = act(cell);
            self.note(cell);
            done
        })
    }

    /// Notes for the record how a device is. With the lock held, so that the last note of a device
    /// is of its last state.
    fn note(&self, cell: &Cell) {
        if let Some(recorder) = self.recorder.get() {
            cell.note(&**recorder);
        }
    }

    fn failure(&self, errno: Errno, why: &str) -> Failure {
        self.log.line(&format!("device-mapper: ioctl: {why}"));
        Failure { errno, table: None, why: Some(why.to_owned()) }
    }

    fn changed(&self, changed: &Changed) {
        self.changes.fetch_add(1, SeqCst);
        // Called with the lock let go.
        let watchers = lock(&self.watchers).clone();
        watchers.iter().for_each(|watcher| watcher(changed));
    }

    fn cells(&self) -> MutexGuard<'_, Cells> {
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
    device: Weak<dyn FlatMaps>,
    open: Vec<Arc<OpenDevice>>,
}

impl Site<'_> {
    fn build(&self) -> Build<'_> {
        let Control { registry, runtime, shared, log, .. } = self.control;
        let (number, events, device) = (self.number, &self.events, &self.device);
        let around = Surroundings { number, runtime, log, events, shared, device };
        let (access, finder, open) = (self.access, &self.finder, &self.open);
        Build { access, registry, finder, around, open }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
