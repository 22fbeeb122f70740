//! The control plane: every mapped device of an instance, and the operations on them.
//!
//! One [`Command`] for each ioctl of device-mapper, with the kernel's state machine, errnos and
//! log lines. Commands that can wait are futures; no lock is held while they do.

mod command;
mod find;
mod graph;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use command::{
    Answer, Command, DevStatus, Failure, Id, Listed, NewName, Node, Report, Slot, TargetVersion,
    WhenOpen,
};
use find::Finder;
use graph::Graph;

use crate::event::{Events, TargetEvents};
use crate::table::{Build, MAX_DEPTH};
use crate::{
    Access, BlockDevice, DevNumber, Errno, Held, KernelLog, MappedDevice, OpenDevice, Registry,
    Runtime, Sectors, Table, TableError, TargetSpec, split_words,
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

/// Everything that is needed to build a device again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// The name, mangled.
    pub name: String,
    /// The uuid, if it has one.
    pub uuid: Option<String>,
    /// The minor number.
    pub minor: u32,
    /// The live table.
    pub live: Option<RecordedTable>,
    /// The inactive table.
    pub inactive: Option<RecordedTable>,
    /// It was suspended.
    pub suspended: bool,
    /// The read-ahead, where it was set.
    pub read_ahead: Option<Sectors>,
    /// Mode and owner of its file.
    pub node: Node,
}

/// A table as it is kept to be loaded again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RecordedTable {
    /// Whether it was loaded read-only.
    pub access: Access,
    /// Its lines.
    pub targets: Vec<TargetSpec>,
}

impl RecordedTable {
    fn of(table: &Table) -> RecordedTable {
        let targets = table.status(crate::StatusKind::Table, crate::DeviceStyle::Number);
        RecordedTable { access: table.access(), targets }
    }
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
    watcher: Mutex<Option<Watcher>>,
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
            watcher: Mutex::new(None),
        })
    }

    /// Calls `watcher` at every change from now on. It is called with no lock held, and must not
    /// wait.
    pub fn watch(&self, watcher: impl Fn(&Changed) + Send + Sync + 'static) {
        *lock(&self.watcher) = Some(Box::new(watcher));
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
    /// that it maps onto.
    pub fn records(&self) -> Vec<Record> {
        let cells = self.cells();
        let minors = Graph::of(&cells).bottom_up();
        minors.iter().map(|minor| cells[minor].record()).collect()
    }

    /// Removes what was to be removed when closed, and is closed now. To be called by whoever
    /// has released a device.
    pub fn reap(&self) {
        loop {
            let due = |cell: &&Cell| cell.deferred_remove && cell.device.open_count() == 0;
            let due = self.cells().values().find(due).map(|cell| cell.device.minor());
            let Some(minor) = due else { return };
            if self.remove_if(minor, |cell| cell.device.open_count() == 0).is_err() {
                return;
            }
        }
    }

    /// Carries out one operation. Waits where the kernel's would sleep; an operation that is
    /// dropped while it waits is undone.
    pub async fn execute(&self, command: Command) -> Done {
        // What was closed since the last operation without anybody saying so.
        self.reap();
        match command {
            Command::Version => Ok(Answer::Version(INTERFACE_VERSION)),
            Command::RemoveAll { open } => self.remove_all(open),
            Command::ListDevices => Ok(self.list_devices()),
            Command::DevCreate { name, uuid, minor } => self.dev_create(name, uuid, minor),
            Command::DevRemove { id, open } => self.dev_remove(&id, open),
            Command::DevRename { id, new } => self.dev_rename(&id, new),
            Command::DevSuspend { id, held } => self.dev_suspend(&id, held).await,
            Command::DevResume { id, held } => self.dev_resume(&id, held).await,
            Command::DevStatus { id, slot } => self.status(&id, slot),
            Command::DevWait { id, event_nr } => self.dev_wait(&id, event_nr).await,
            Command::TableLoad { id, access, targets, base } => {
                self.table_load(&id, access, &targets, &base)
            }
            Command::TableClear { id } => self.table_clear(&id),
            Command::TableDeps { id, slot } => self.table_deps(&id, slot),
            Command::TableStatus { id, report, slot, device_names } => {
                self.table_status(&id, report, slot, device_names)
            }
            Command::ListVersions => Ok(Answer::Versions(self.versions())),
            Command::TargetMsg { id, sector, message } => self.target_msg(&id, sector, &message),
            Command::SetGeometry { id, geometry } => self.set_geometry(&id, &geometry),
            Command::ArmPoll => Ok(Answer::Events(self.events.number())),
            Command::GetTargetVersion { name } => self.target_version(&name),
            Command::SetReadAhead { id, sectors } => self.with(&id, |cell| {
                cell.read_ahead = Some(sectors);
                Ok(Answer::Status(cell.status(Slot::Live)))
            }),
            Command::SetNode { id, node } => self.with(&id, |cell| {
                cell.node = node;
                Ok(Answer::Status(cell.status(Slot::Live)))
            }),
        }
    }

    fn list_devices(&self) -> Answer {
        let cells = self.cells();
        let listed = |cell: &Cell| Listed {
            name: cell.name.clone(),
            uuid: cell.uuid.clone(),
            dev: cell.device.number(),
            event_nr: cell.device.events().number(),
        };
        let mut devices: Vec<Listed> = cells.values().map(listed).collect();
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        Answer::Devices(devices)
    }

    fn dev_create(&self, name: String, uuid: Option<String>, minor: Option<u32>) -> Done {
        self.check_name(&name)?;
        let mut cells = self.cells();
        let free = || (0..MAX_MINORS).find(|minor| !cells.contains_key(minor));
        let minor = match minor {
            // As the kernel answers when it cannot have the minor asked for.
            Some(minor) if minor >= MAX_MINORS || cells.contains_key(&minor) => {
                return Err(Errno::NXIO.into());
            }
            Some(minor) => minor,
            None => free().ok_or(Errno::NXIO)?,
        };
        let uuid = uuid.filter(|uuid| !uuid.is_empty());
        let taken = |cell: &Cell| cell.name == name || (uuid.is_some() && cell.uuid == uuid);
        if cells.values().any(taken) {
            return Err(Errno::BUSY.into());
        }
        let cell = Cell {
            device: MappedDevice::new(minor, self.log.clone()),
            name,
            uuid,
            inactive: None,
            deferred_remove: false,
            has_disk: false,
            read_ahead: None,
            node: Node::default(),
        };
        let status = cell.status(Slot::Live);
        cells.insert(minor, cell);
        Ok(Answer::Status(status))
    }

    fn check_name(&self, name: &str) -> Result<(), Failure> {
        let refuse = |why: &str| Err(self.failure(Errno::INVAL, why));
        match name {
            "" => refuse("name not supplied when creating device"),
            "control" | "." | ".." => refuse("device name cannot be \"control\", \".\", or \"..\""),
            _ if name.contains(['/', '\0']) || name.len() > MAX_NAME => {
                refuse("invalid device name")
            }
            _ => Ok(()),
        }
    }

    fn dev_remove(&self, id: &Id, open: WhenOpen) -> Done {
        let minor = self.with(id, |cell| Ok(cell.device.minor()))?;
        let removed = self.remove_if(minor, |cell| cell.device.open_count() == 0);
        match (removed, open) {
            (Err(errno), WhenOpen::Defer) if errno == Errno::BUSY => {
                let name = self.with(id, |cell| {
                    cell.deferred_remove = true;
                    Ok(cell.name.clone())
                })?;
                self.changed(&Changed::Name(name));
            }
            (result, _) => result?,
        }
        self.reap();
        Ok(Answer::Done)
    }

    fn remove_all(&self, open: WhenOpen) -> Done {
        loop {
            let minors: Vec<u32> = self.cells().keys().copied().collect();
            let closed = |cell: &Cell| cell.device.open_count() == 0;
            let removed = minors.into_iter().filter(|m| self.remove_if(*m, closed).is_ok());
            // Each device removed may have been what kept another open.
            if removed.count() == 0 {
                break;
            }
        }
        let mut left = Vec::new();
        for cell in self.cells().values_mut() {
            cell.deferred_remove |= open == WhenOpen::Defer;
            left.push(cell.name.clone());
        }
        if !left.is_empty() {
            let count = left.len();
            self.log.line(&format!("device-mapper: ioctl: remove_all left {count} open device(s)"));
            left.into_iter().for_each(|name| self.changed(&Changed::Name(name)));
        }
        Ok(Answer::Done)
    }

    /// Removes a device if `may` allows it; [`Errno::BUSY`] if not.
    fn remove_if(&self, minor: u32, may: impl FnOnce(&Cell) -> bool) -> Result<(), Errno> {
        let mut cell = {
            let mut cells = self.cells();
            match cells.get(&minor) {
                None => return Err(Errno::NXIO),
                Some(cell) if !may(cell) => return Err(Errno::BUSY),
                Some(_) => cells.remove(&minor).expect("found above"),
            }
        };
        // Tables release their devices when they go, so outside of the lock.
        cell.device.destroy();
        cell.inactive = None;
        self.changed(&Changed::Name(cell.name));
        self.changed(&Changed::Content(minor));
        Ok(())
    }

    fn dev_rename(&self, id: &Id, new: NewName) -> Done {
        let (NewName::Name(to) | NewName::Uuid(to)) = &new;
        let max = if matches!(new, NewName::Name(_)) { MAX_NAME } else { MAX_UUID };
        if to.is_empty() || to.len() > max {
            let why = "Invalid new mapped device name or uuid string supplied.";
            return Err(self.failure(Errno::INVAL, why));
        }
        if matches!(new, NewName::Name(_)) {
            self.check_name(to)?;
        }
        let mut cells = self.cells();
        let what = if matches!(new, NewName::Name(_)) { "name" } else { "uuid" };
        // The kernel renames what it finds by name alone.
        let from = match id {
            Id::Name(name) => name.as_str(),
            Id::Uuid(_) | Id::Dev(_) => "",
        };
        let taken = |cell: &Cell| match &new {
            NewName::Name(name) => cell.name == *name,
            NewName::Uuid(uuid) => cell.uuid.as_ref() == Some(uuid),
        };
        if cells.values().any(taken) {
            let why = format!(
                "Unable to change {what} on mapped device {from} to one that already exists: {to}"
            );
            return Err(self.failure(Errno::BUSY, &why));
        }
        let Some(cell) = find_cell(&mut cells, &Id::Name(from.to_owned())) else {
            let why = format!("Unable to rename non-existent device, {from} to {to}");
            return Err(self.failure(Errno::NXIO, &why));
        };
        if let (NewName::Uuid(_), Some(set)) = (&new, &cell.uuid) {
            let why = format!(
                "Unable to change uuid of mapped device {from} to {to} because uuid is already set to {set}"
            );
            return Err(self.failure(Errno::INVAL, &why));
        }
        let old = cell.name.clone();
        match new {
            NewName::Name(name) => cell.name = name,
            NewName::Uuid(uuid) => cell.uuid = Some(uuid),
        }
        let (status, now) = (cell.status(Slot::Live), cell.name.clone());
        let device = cell.device.clone();
        drop(cells);
        if device.live().is_some() {
            self.events_of(&device).raise();
        }
        self.changed(&Changed::Name(old));
        self.changed(&Changed::Name(now));
        Ok(Answer::Status(DevStatus { event_nr: device.events().number(), ..status }))
    }

    async fn dev_suspend(&self, id: &Id, held: Held) -> Done {
        let device = self.device(id)?;
        device.suspend(held).await?;
        self.status(&Id::Dev(device.number()), Slot::Live)
    }

    async fn dev_resume(&self, id: &Id, held: Held) -> Done {
        let (device, inactive) =
            self.with(id, |cell| Ok((cell.device.clone(), cell.inactive.take())))?;
        // Until the new table is bound, a resume that is given up puts it back.
        let mut pending = PutBack { control: self, minor: device.minor(), table: inactive };
        let result = device
            .resume(pending.table.clone(), held, |table| {
                pending.table = None;
                let limits = self.build(&device, table.access(), "", |build| table.limits(build));
                limits.map_err(|error| error.errno)
            })
            .await;
        drop(pending);
        // The old table is gone now, and with it what kept devices below open.
        self.reap();
        result?;
        self.changed(&Changed::Content(device.minor()));
        self.status(&Id::Dev(device.number()), Slot::Live)
    }

    async fn dev_wait(&self, id: &Id, event_nr: u32) -> Done {
        let device = self.device(id)?;
        device.events().until(|number| number != event_nr || device.is_gone()).await;
        let id = Id::Dev(device.number());
        self.table_status(&id, Report::Status, Slot::Live, false)
    }

    fn status(&self, id: &Id, slot: Slot) -> Done {
        self.with(id, |cell| Ok(Answer::Status(cell.status(slot))))
    }

    fn table_load(&self, id: &Id, access: Access, targets: &[TargetSpec], base: &str) -> Done {
        let (device, first) = self.with(id, |cell| Ok((cell.device.clone(), !cell.has_disk)))?;
        let number = device.number();
        let table = Arc::new(self.build(&device, access, base, |build| {
            let table = Table::build(targets, build)?;
            if let Some(old) = device.live()
                && let Some(immutable) = old.immutable_type()
                && table.immutable_type() != Some(immutable)
                && !table.is_wildcard()
            {
                let why = format!("can't replace immutable target type {immutable}");
                self.log.line(&format!("device-mapper: ioctl: {why}"));
                return Err(TableError::new(why));
            }
            Ok(table)
        })?);
        self.check_depth(&device, &table)?;
        if first {
            let limits = self.build(&device, access, base, |build| table.limits(build));
            let limits = limits.inspect_err(|_| {
                self.log.line("device-mapper: core: Cannot calculate initial queue limits");
                self.log.line("device-mapper: ioctl: unable to set up device queue for new table.");
            })?;
            device.set_limits(limits);
        }
        let (old, name, status) = self.with(&Id::Dev(number), |cell| {
            let old = cell.inactive.replace(table);
            cell.has_disk = true;
            Ok((old, cell.name.clone(), cell.status(Slot::Live)))
        })?;
        drop(old);
        self.reap();
        if first {
            self.changed(&Changed::Name(name));
        }
        Ok(Answer::Status(status))
    }

    /// Refuses a table that would pile more devices up than a bio can pass through, or map a
    /// device onto itself.
    fn check_depth(&self, device: &MappedDevice, table: &Table) -> Result<(), Failure> {
        let depth = Graph::of(&self.cells()).depth(device.minor(), table);
        if depth > MAX_DEPTH {
            let why =
                format!("{depth} mapped devices on top of one another, of {MAX_DEPTH} at most");
            return Err(Failure { errno: Errno::LOOP, table: None, why: Some(why) });
        }
        Ok(())
    }

    fn table_clear(&self, id: &Id) -> Done {
        let (old, status) = self.with(id, |cell| {
            let old = cell.inactive.take();
            Ok((old, cell.status(Slot::Live)))
        })?;
        drop(old);
        self.reap();
        Ok(Answer::Status(status))
    }

    fn table_deps(&self, id: &Id, slot: Slot) -> Done {
        let table = self.with(id, |cell| Ok(cell.table(slot)))?;
        let deps = table.iter().flat_map(|table| table.devices());
        Ok(Answer::Deps(deps.map(|open| open.device().number()).collect()))
    }

    fn table_status(&self, id: &Id, report: Report, slot: Slot, device_names: bool) -> Done {
        let (status, table) = self.with(id, |cell| Ok((cell.status(slot), cell.table(slot))))?;
        let lines = table.map(|table| table.status(report.kind(), command::style(device_names)));
        Ok(Answer::Table(status, lines.unwrap_or_default()))
    }

    fn versions(&self) -> Vec<TargetVersion> {
        let version = |target_type: &Arc<dyn crate::AnyTargetType>| TargetVersion {
            name: target_type.name().to_owned(),
            version: target_type.version(),
        };
        self.registry.iter().map(version).collect()
    }

    fn target_version(&self, name: &str) -> Done {
        let found = self.versions().into_iter().find(|version| version.name == name);
        found.map(|version| Answer::Versions(vec![version])).ok_or(Errno::INVAL.into())
    }

    fn target_msg(&self, id: &Id, sector: crate::Sector, message: &str) -> Done {
        let device = self.device(id)?;
        let words = split_words(message);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some(first) = words.first() else {
            self.log.line("device-mapper: ioctl: Empty message received.");
            return Err(Errno::INVAL.into());
        };
        if first.starts_with('@') {
            return self.core_msg(id, &words);
        }
        let table = device.live().ok_or(Errno::INVAL)?;
        let Some(entry) = table.find(sector) else {
            let why = "Target message sector outside device.";
            return Err(self.failure(Errno::INVAL, why));
        };
        if !entry.target.takes_messages() {
            return Err(self.failure(Errno::INVAL, "Target type does not support messages"));
        }
        Ok(Answer::Text(entry.target.message(&words)?))
    }

    /// A message for the core: its first word begins with `@`.
    fn core_msg(&self, id: &Id, words: &[&str]) -> Done {
        if !words[0].eq_ignore_ascii_case("@cancel_deferred_remove") {
            let why = format!("Unsupported message sent to DM core: {}", words[0]);
            return Err(self.failure(Errno::INVAL, &why));
        }
        if words.len() != 1 {
            let why = "Invalid arguments for @cancel_deferred_remove";
            return Err(self.failure(Errno::INVAL, why));
        }
        let name = self.with(id, |cell| {
            cell.deferred_remove = false;
            Ok(cell.name.clone())
        })?;
        self.changed(&Changed::Name(name));
        Ok(Answer::Text(None))
    }

    fn set_geometry(&self, id: &Id, geometry: &str) -> Done {
        let device = self.device(id)?;
        let numbers: Vec<Option<u64>> =
            geometry.split_whitespace().map(|word| word.parse().ok()).collect();
        let [Some(cylinders), Some(heads), Some(sectors), Some(start)] = numbers[..] else {
            return Err(self.failure(Errno::INVAL, "Unable to interpret geometry settings."));
        };
        if cylinders > 65535 || heads > 255 || sectors > 255 {
            return Err(self.failure(Errno::INVAL, "Geometry exceeds range limits."));
        }
        if start > cylinders * heads * sectors {
            let why = "Start sector is beyond the geometry limits.";
            self.log.line(&format!("device-mapper: core: {why}"));
            return Err(Failure { errno: Errno::INVAL, table: None, why: Some(why.into()) });
        }
        // A regular file has no geometry to report: it is checked, and dropped.
        self.status(&Id::Dev(device.number()), Slot::Live)
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

    fn build<T>(
        &self,
        device: &MappedDevice,
        access: Access,
        base: &str,
        build: impl FnOnce(&Build<'_>) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let number = device.number();
        let open: Vec<Arc<OpenDevice>> = {
            let cells = self.cells();
            let tables = cells.get(&number.minor).into_iter().flat_map(Cell::tables);
            tables.flat_map(|table| table.devices().cloned().collect::<Vec<_>>()).collect()
        };
        build(&Build {
            number,
            access,
            registry: &self.registry,
            finder: &Finder { control: self, minor: number.minor, base },
            runtime: &self.runtime,
            events: &self.events_of(device),
            log: &*self.log,
            open,
        })
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

impl Cell {
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

    fn record(&self) -> Record {
        Record {
            name: self.name.clone(),
            uuid: self.uuid.clone(),
            minor: self.device.minor(),
            live: self.device.live().map(|table| RecordedTable::of(&table)),
            inactive: self.inactive.as_ref().map(|table| RecordedTable::of(table)),
            suspended: self.device.is_suspended(),
            read_ahead: self.read_ahead,
            node: self.node,
        }
    }
}

/// Puts the inactive table back when a resume is given up before the table is live.
struct PutBack<'a> {
    control: &'a Control,
    minor: u32,
    table: Option<Arc<Table>>,
}

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        if let Some(table) = self.table.take()
            && let Some(cell) = self.control.cells().get_mut(&self.minor)
        {
            // A table loaded in the meantime is newer.
            cell.inactive.get_or_insert(table);
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
