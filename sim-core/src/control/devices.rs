//! Operations on what a device is called, and what it is known by: listing, making, renaming.

use super::{
    Answer, Cell, Changed, CommandResult, Control, DevStatus, Failure, Id, Listed, MAX_NAME,
    MAX_UUID, NewName, Node, Slot,
};
use crate::{BlockDevice, Errno, MAX_MINORS, MappedDevice};

impl Control {
    pub(super) fn list_devices(&self) -> Answer {
        let listed = |cell: &Cell| Listed {
            name: cell.name.clone(),
            uuid: cell.uuid.clone(),
            dev: cell.device.number(),
            event_nr: cell.device.events().number(),
        };
        Answer::Devices(self.cells().by_name().map(listed).collect())
    }

    pub(super) fn dev_create(
        &self,
        name: String,
        uuid: Option<String>,
        minor: Option<u32>,
    ) -> CommandResult {
        self.check_name(&name)?;
        if uuid.as_ref().is_some_and(|uuid| uuid.len() > MAX_UUID || uuid.contains('\0')) {
            return Err(Errno::INVAL.into());
        }
        let mut cells = self.cells();
        let minor = match minor {
            // As the kernel answers when it cannot have the minor asked for.
            Some(minor) if minor >= MAX_MINORS || cells.get(minor).is_some() => {
                return Err(Errno::NXIO.into());
            }
            Some(minor) => minor,
            None => cells.free_minor().ok_or(Errno::NXIO)?,
        };
        let uuid = uuid.filter(|uuid| !uuid.is_empty());
        if cells.has_name(&name) || uuid.as_ref().is_some_and(|uuid| cells.has_uuid(uuid)) {
            return Err(Errno::BUSY.into());
        }
        let cell = Cell {
            device: MappedDevice::new(
                minor,
                self.graph.node(),
                self.log.clone(),
                self.runtime.clone(),
            ),
            name,
            uuid,
            inactive: None,
            deferred_remove: false,
            has_disk: false,
            read_ahead: None,
            node: Node::default(),
        };
        let status = cell.status(Slot::Live);
        self.note(&cell);
        self.journal.created(&cell);
        cells.insert(cell);
        Ok(Answer::Status(status))
    }

    pub(super) fn check_name(&self, name: &str) -> Result<(), Failure> {
        let refuse = |why: &str| Err(self.failure(Errno::INVAL, why));
        match name {
            "" => refuse("name not supplied when creating device"),
            "control" | "." | ".." => refuse("device name cannot be \"control\", \".\", or \"..\""),
            _ if name.contains('/') => refuse("device name cannot contain '/'"),
            _ if name.contains('\0') || name.len() > MAX_NAME => refuse("invalid device name"),
            _ => Ok(()),
        }
    }

    pub(super) fn dev_rename(&self, id: &Id, new: NewName) -> CommandResult {
        let (NewName::Name(to) | NewName::Uuid(to)) = &new;
        let (what, max) = match new {
            NewName::Name(_) => ("name", MAX_NAME),
            NewName::Uuid(_) => ("uuid", MAX_UUID),
        };
        if to.is_empty() || to.len() > max || to.contains('\0') {
            let why = "Invalid new mapped device name or uuid string supplied.";
            return Err(self.failure(Errno::INVAL, why));
        }
        if matches!(new, NewName::Name(_)) {
            self.check_name(to)?;
        }
        let mut cells = self.cells();
        // The kernel renames what it finds by name alone.
        let from = match id {
            Id::Name(name) => name.as_str(),
            Id::Uuid(_) | Id::Dev(_) => "",
        };
        let taken = match &new {
            NewName::Name(name) => cells.has_name(name),
            NewName::Uuid(uuid) => cells.has_uuid(uuid),
        };
        if taken {
            let why = format!(
                "Unable to change {what} on mapped device {from} to one that already exists: {to}"
            );
            return Err(self.failure(Errno::BUSY, &why));
        }
        let Some(cell) = cells.find_name(from) else {
            let what = if matches!(new, NewName::Uuid(_)) { "uuid " } else { "" };
            let why = format!("Unable to rename non-existent device, {from} to {what}{to}");
            return Err(self.failure(Errno::NXIO, &why));
        };
        if let (NewName::Uuid(_), Some(set)) = (&new, &cell.uuid) {
            let why = format!(
                "Unable to change uuid of mapped device {from} to {to} because uuid is already set to {set}"
            );
            return Err(self.failure(Errno::INVAL, &why));
        }
        let device = cell.device.clone();
        match new {
            NewName::Name(name) => cells.rename(device.minor(), name),
            NewName::Uuid(uuid) => cells.set_uuid(device.minor(), uuid),
        }
        let cell = cells.get(device.minor()).expect("renamed above");
        self.note(cell);
        self.journal.renamed(cell);
        let (status, now) = (cell.status(Slot::Live), cell.name.clone());
        drop(cells);
        if device.live().is_some() {
            self.events_of(&device).raise();
        }
        self.changed(&Changed::Name(from.to_owned()));
        self.changed(&Changed::Name(now));
        Ok(Answer::Status(DevStatus { event_nr: device.events().number(), ..status }))
    }

    pub(super) fn status(&self, id: &Id, slot: Slot) -> CommandResult {
        self.with(id, |cell| Ok(Answer::Status(cell.status(slot))))
    }
}
