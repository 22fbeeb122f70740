//! The state machine of device-mapper, as plainly as it can be said.

use std::collections::BTreeSet;

use sim_core::control::{
    Answer, Command, DevStatus, INTERFACE_VERSION, Id, Listed, NewName, Report, Slot, WhenOpen,
};
use sim_core::{Access, DevNumber, Errno, Params, Sectors};

use super::Outcome;
use crate::disks::lines;

/// A table that can be loaded: what it says, and what is known of it.
pub(super) struct Known {
    /// Its text, as it is printed too.
    pub(super) text: &'static str,
    /// What becomes of it, by itself.
    result: Result<Below, Errno>,
}

/// What a table maps onto.
#[derive(Clone, Copy)]
enum Below {
    Nothing,
    /// Disks, as it lists them.
    Disks(&'static [u32]),
    /// The mapped device of this name, for so many sectors from its start on.
    Name(&'static str, u64),
    /// The mapped device with this minor number.
    Minor(u32, u64),
}

pub(super) const TABLES: [Known; 17] = [
    Known { text: "0 8 zero ", result: Ok(Below::Nothing) },
    Known { text: "0 16 zero ", result: Ok(Below::Nothing) },
    Known { text: "0 8 linear 7:0 0", result: Ok(Below::Disks(&[0])) },
    Known { text: "0 16 striped 2 8 7:0 0 7:1 64", result: Ok(Below::Disks(&[1, 0])) },
    Known { text: "0 8 zero \n8 8 error ", result: Ok(Below::Nothing) },
    Known { text: "0 8 linear /dev/mapper/x 0", result: Ok(Below::Name("x", 8)) },
    Known { text: "0 16 linear /dev/mapper/y 0", result: Ok(Below::Name("y", 16)) },
    Known { text: "0 8 linear z 0", result: Ok(Below::Name("z", 8)) },
    Known { text: "0 8 linear 253:0 0", result: Ok(Below::Minor(0, 8)) },
    Known { text: "0 16 linear 253:1 0", result: Ok(Below::Minor(1, 16)) },
    Known { text: "0 8 linear 253:2 0", result: Ok(Below::Minor(2, 8)) },
    Known { text: "0 8 nonsense", result: Err(Errno::INVAL) },
    Known { text: "8 8 zero", result: Err(Errno::INVAL) },
    Known { text: "", result: Err(Errno::INVAL) },
    Known { text: "0 8 linear /dev/loop9 0", result: Err(Errno::NOENT) },
    Known { text: "0 0 zero", result: Err(Errno::INVAL) },
    Known { text: "0 8 linear 7:0 4096", result: Ok(Below::Disks(&[0])) },
];

/// The one of [`TABLES`] that lies past the end of its disk.
const TOO_LONG: usize = 16;

/// One table of a device.
#[derive(Clone)]
struct Table {
    index: usize,
    access: Access,
    /// The minor of the mapped device below, and how many sectors of it are used.
    mapped: Option<(u32, u64)>,
}

struct Device {
    minor: u32,
    name: String,
    uuid: Option<String>,
    live: Option<Table>,
    inactive: Option<Table>,
    suspended: bool,
    deferred: bool,
    /// A table was loaded once.
    has_disk: bool,
    read_only: bool,
    event_nr: u32,
}

/// Every device, and who has one open.
#[derive(Default)]
pub(super) struct Model {
    devices: Vec<Device>,
    /// The minors that somebody besides tables has open.
    users: Vec<u32>,
    events: u32,
}

impl Model {
    /// Opens a device, and tells whether it is there.
    pub(super) fn open(&mut self, id: &Id) -> bool {
        let minor = self.find(id).map(|device| device.minor);
        self.users.extend(minor.ok());
        minor.is_ok()
    }

    /// Closes what was opened last.
    pub(super) fn release(&mut self) {
        self.users.pop();
        self.reap();
    }

    /// Carries out one operation; `table` is which of [`TABLES`] it loads.
    pub(super) fn execute(&mut self, command: &Command, table: usize) -> Outcome {
        match command {
            Command::Version => Ok(Answer::Version(INTERFACE_VERSION)),
            Command::RemoveAll { open } => Ok(self.remove_all(*open)),
            Command::ListDevices => Ok(self.list()),
            Command::DevCreate { name, uuid, minor } => self.create(name, uuid.as_deref(), *minor),
            Command::DevRemove { id, open } => self.remove(id, *open),
            Command::DevRename { id, new } => self.rename(id, new),
            Command::DevSuspend { id, .. } => {
                self.find(id)?.suspended = true;
                self.status(id, Slot::Live)
            }
            Command::DevResume { id, .. } => self.resume(id),
            Command::DevStatus { id, slot } => self.status(id, *slot),
            Command::TableLoad { id, access, .. } => self.load(id, *access, table),
            Command::TableClear { id } => {
                self.find(id)?.inactive = None;
                let status = self.status(id, Slot::Live);
                self.reap();
                status
            }
            Command::TableDeps { id, slot } => self.deps(id, *slot),
            Command::TableStatus { id, slot, report, .. } => self.table(id, *slot, *report),
            Command::DevWait { id, .. } => self.table(id, Slot::Live, Report::Status),
            Command::TargetMsg { id, message, .. } => self.message(id, message),
            Command::SetGeometry { id, geometry } => {
                self.find(id)?;
                if geometry != "1 1 1 0" { Err(Errno::INVAL) } else { self.status(id, Slot::Live) }
            }
            Command::ArmPoll => Ok(Answer::Events(self.events)),
            Command::ListVersions
            | Command::GetTargetVersion { .. }
            | Command::SetFails { .. }
            | Command::SetFaults { .. }
            | Command::Faults { .. }
            | Command::Locate { .. }
            | Command::Shows { .. }
            | Command::SetReadAhead { .. }
            | Command::SetNode { .. } => unreachable!("no step is one of these"),
        }
    }

    fn create(&mut self, name: &str, uuid: Option<&str>, minor: Option<u32>) -> Outcome {
        check_name(name)?;
        let uuid = uuid.filter(|uuid| !uuid.is_empty());
        let used = |minor: &u32| self.devices.iter().any(|device| device.minor == *minor);
        let lowest = (0..).find(|minor| !used(minor)).expect("few are in use");
        let minor = minor.unwrap_or(lowest);
        if used(&minor) || minor >= 1 << 20 {
            return Err(Errno::NXIO);
        }
        let same = |device: &Device| {
            device.name == name || (uuid.is_some() && device.uuid.as_deref() == uuid)
        };
        if self.devices.iter().any(same) {
            return Err(Errno::BUSY);
        }
        self.devices.push(Device {
            minor,
            name: name.to_owned(),
            uuid: uuid.map(str::to_owned),
            live: None,
            inactive: None,
            suspended: false,
            deferred: false,
            has_disk: false,
            read_only: false,
            event_nr: 0,
        });
        self.status(&Id::Name(name.to_owned()), Slot::Live)
    }

    fn remove(&mut self, id: &Id, open: WhenOpen) -> Outcome {
        let minor = self.find(id)?.minor;
        match (self.open_count(minor), open) {
            (0, _) => self.devices.retain(|device| device.minor != minor),
            (_, WhenOpen::Refuse) => return Err(Errno::BUSY),
            (_, WhenOpen::Defer) => self.find(id)?.deferred = true,
        }
        self.reap();
        Ok(Answer::Done)
    }

    fn remove_all(&mut self, open: WhenOpen) -> Answer {
        self.remove_closed(|_| true);
        for device in &mut self.devices {
            device.deferred |= open == WhenOpen::Defer;
        }
        Answer::Done
    }

    /// Removes what was to be removed when it is closed.
    fn reap(&mut self) {
        self.remove_closed(|device| device.deferred);
    }

    /// Removes what nobody has open; a device that goes closes those below it.
    fn remove_closed(&mut self, which: fn(&Device) -> bool) {
        let closed = |device: &Device| which(device) && self.open_count(device.minor) == 0;
        if let Some(place) = self.devices.iter().position(closed) {
            self.devices.remove(place);
            self.remove_closed(which);
        }
    }

    fn rename(&mut self, id: &Id, new: &NewName) -> Outcome {
        match new {
            NewName::Name(name) => check_name(name)?,
            NewName::Uuid(uuid) if uuid.is_empty() => return Err(Errno::INVAL),
            NewName::Uuid(_) => {}
        }
        let taken = |device: &Device| match new {
            NewName::Name(name) => device.name == *name,
            NewName::Uuid(uuid) => device.uuid.as_ref() == Some(uuid),
        };
        if self.devices.iter().any(taken) {
            return Err(Errno::BUSY);
        }
        let Id::Name(_) = id else { return Err(Errno::NXIO) };
        let device = self.find(id)?;
        match new {
            NewName::Name(name) => device.name = name.clone(),
            NewName::Uuid(_) if device.uuid.is_some() => return Err(Errno::INVAL),
            NewName::Uuid(uuid) => device.uuid = Some(uuid.clone()),
        }
        let minor = device.minor;
        if device.live.is_some() {
            device.event_nr += 1;
            self.events += 1;
        }
        self.status(&Id::Dev(DevNumber::mapped(minor)), Slot::Live)
    }

    fn load(&mut self, id: &Id, access: Access, index: usize) -> Outcome {
        let (owner, first) = self.find(id).map(|device| (device.minor, !device.has_disk))?;
        let mapped = match TABLES[index].result? {
            Below::Nothing | Below::Disks(_) => None,
            Below::Name(name, len) => Some((self.below(owner, Some(name), None)?, len)),
            Below::Minor(minor, len) => Some((self.below(owner, None, Some(minor))?, len)),
        };
        let table = Table { index, access, mapped };
        // Limits are worked out at the first load, and at every swap.
        if first && !self.fits(&table) {
            return Err(Errno::INVAL);
        }
        let device = self.find(id)?;
        device.inactive = Some(table);
        device.has_disk = true;
        let status = self.status(id, Slot::Live);
        self.reap();
        status
    }

    /// Finds the mapped device that a table of `owner` names.
    fn below(&self, owner: u32, name: Option<&str>, minor: Option<u32>) -> Result<u32, Errno> {
        let by_name = |device: &&Device| Some(&*device.name) == name && !device.deferred;
        let by_minor = |device: &&Device| Some(device.minor) == minor;
        let mut devices = self.devices.iter().filter(|device| device.has_disk);
        let found = match name {
            Some(_) => devices.find(by_name).ok_or(Errno::NOENT)?,
            None => devices.find(by_minor).ok_or(Errno::NXIO)?,
        };
        match found.minor {
            minor if minor == owner => Err(Errno::INVAL),
            minor if self.all_below(minor).contains(&owner) => Err(Errno::LOOP),
            minor => Ok(minor),
        }
    }

    /// The minors of the devices below one, at any depth.
    fn all_below(&self, minor: u32) -> BTreeSet<u32> {
        let mut all = BTreeSet::new();
        for device in self.devices.iter().filter(|device| device.minor == minor) {
            for (below, _) in device.tables().filter_map(|table| table.mapped) {
                all.insert(below);
                all.extend(self.all_below(below));
            }
        }
        all
    }

    fn fits(&self, table: &Table) -> bool {
        let room = |minor| self.devices.iter().find(|device| device.minor == minor)?.size();
        let mapped = table.mapped.is_none_or(|(minor, len)| {
            // Without a table there is no size yet, and nothing to check against.
            room(minor).is_none_or(|size| len <= size)
        });
        mapped && table.index != TOO_LONG
    }

    fn resume(&mut self, id: &Id) -> Outcome {
        let device = self.find(id)?;
        let minor = device.minor;
        let Some(table) = device.inactive.take() else {
            if device.suspended && device.live.is_none() {
                return Err(Errno::INVAL);
            }
            device.suspended = false;
            return self.status(id, Slot::Live);
        };
        device.suspended = true;
        let fits = self.fits(&table);
        if fits {
            let device = self.find(id)?;
            device.read_only = table.access == Access::ReadOnly;
            device.live = Some(table);
            device.suspended = false;
        }
        self.reap();
        if !fits {
            return Err(Errno::INVAL);
        }
        self.status(&Id::Dev(DevNumber::mapped(minor)), Slot::Live)
    }

    fn message(&mut self, id: &Id, message: &str) -> Outcome {
        let device = self.find(id)?;
        if message != "@cancel_deferred_remove" {
            return Err(Errno::INVAL);
        }
        device.deferred = false;
        Ok(Answer::Text(None))
    }

    fn list(&self) -> Answer {
        let listed = |device: &Device| Listed {
            name: device.name.clone(),
            uuid: device.uuid.clone(),
            dev: DevNumber::mapped(device.minor),
            event_nr: device.event_nr,
        };
        let mut devices: Vec<Listed> = self.devices.iter().map(listed).collect();
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        Answer::Devices(devices)
    }

    fn status(&mut self, id: &Id, slot: Slot) -> Outcome {
        let minor = self.find(id)?.minor;
        let (open_count, read_only) = (self.open_count(minor), self.reads_only(minor));
        let device = self.find(id)?;
        let table = device.table(slot);
        Ok(Answer::Status(DevStatus {
            name: device.name.clone(),
            uuid: device.uuid.clone(),
            dev: DevNumber::mapped(minor),
            open_count,
            event_nr: device.event_nr,
            target_count: table.map_or(0, |table| lines(TABLES[table.index].text).len()),
            suspended: device.suspended,
            read_only: match slot {
                Slot::Live => read_only,
                Slot::Inactive => table.is_some_and(|table| table.access.is_read_only()),
            },
            live_present: device.live.is_some(),
            inactive_present: device.inactive.is_some(),
            deferred_remove: device.deferred,
            read_ahead: device.has_disk.then_some(Sectors::ZERO),
            overlap: None,
            fault_rules: 0,
        }))
    }

    fn table(&mut self, id: &Id, slot: Slot, report: Report) -> Outcome {
        let Answer::Status(status) = self.status(id, slot)? else { unreachable!("a status") };
        let table = self.find(id)?.table(slot);
        let printed = |table: &Table| {
            let mut lines = lines(TABLES[table.index].text);
            if let Some((minor, _)) = table.mapped {
                lines[0].params = format!("{} 0", DevNumber::mapped(minor)).into();
            }
            if matches!(report, Report::Status | Report::Measure) {
                // How targets are is not the state machine's.
                lines.iter_mut().for_each(|line| line.params = Params::default());
            }
            lines
        };
        Ok(Answer::Table(status, table.map(printed).unwrap_or_default()))
    }

    fn deps(&mut self, id: &Id, slot: Slot) -> Outcome {
        let Some(table) = self.find(id)?.table(slot) else { return Ok(Answer::Deps(Vec::new())) };
        Ok(Answer::Deps(match TABLES[table.index].result {
            Ok(Below::Disks(disks)) => {
                disks.iter().map(|minor| DevNumber { major: 7, minor: *minor }).collect()
            }
            Ok(_) | Err(_) => {
                table.mapped.iter().map(|(minor, _)| DevNumber::mapped(*minor)).collect()
            }
        }))
    }

    /// Tells whether a device, or the mapped device that its live table lies on, is read-only: the
    /// disks are not.
    fn reads_only(&self, minor: u32) -> bool {
        let device = self.devices.iter().find(|device| device.minor == minor);
        device.is_some_and(|device| {
            let below = device.live.as_ref().and_then(|table| table.mapped);
            device.read_only || below.is_some_and(|(below, _)| self.reads_only(below))
        })
    }

    /// Counts who has a device open: users, and other devices, each once for reading and once for
    /// writing.
    fn open_count(&self, minor: u32) -> u32 {
        let mut tables = BTreeSet::new();
        for above in &self.devices {
            for table in above.tables().filter(|table| table.mapped.is_some_and(|m| m.0 == minor)) {
                tables.insert((above.minor, table.access.is_read_only()));
            }
        }
        let users = self.users.iter().filter(|user| **user == minor).count();
        (users + tables.len()) as u32
    }

    fn find(&mut self, id: &Id) -> Result<&mut Device, Errno> {
        let is = |device: &&mut Device| match id {
            Id::Name(name) => device.name == *name,
            Id::Uuid(uuid) => device.uuid.as_ref() == Some(uuid),
            Id::Dev(dev) => *dev == DevNumber::mapped(device.minor),
        };
        self.devices.iter_mut().find(is).ok_or(Errno::NXIO)
    }
}

impl Device {
    fn table(&self, slot: Slot) -> Option<&Table> {
        match slot {
            Slot::Live => self.live.as_ref(),
            Slot::Inactive => self.inactive.as_ref(),
        }
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.live.iter().chain(&self.inactive)
    }

    /// The size in sectors; none without a live table.
    fn size(&self) -> Option<u64> {
        let lines = lines(TABLES[self.live.as_ref()?.index].text);
        lines.last().map(|line| (line.start.0, line.len.0)).map(|(start, len)| start + len)
    }
}

fn check_name(name: &str) -> Result<(), Errno> {
    let odd = ["", "control", ".", ".."].contains(&name);
    if odd || name.contains('/') || name.len() > 127 { Err(Errno::INVAL) } else { Ok(()) }
}
