//! Operations on devices: making, removing, renaming, suspending and resuming them.

use std::sync::Arc;

use super::{
    Answer, Cell, Changed, Control, DevStatus, Done, Failure, Id, Listed, MAX_MINORS, MAX_NAME,
    MAX_UUID, NewName, Node, Report, Slot, WhenOpen, find_cell,
};
use crate::{BlockDevice, Errno, Held, KeyText, MappedDevice, Table};

impl Control {
    pub(super) fn list_devices(&self) -> Answer {
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

    pub(super) fn dev_create(
        &self,
        name: String,
        uuid: Option<String>,
        minor: Option<u32>,
    ) -> Done {
        self.check_name(&name)?;
        if uuid.as_ref().is_some_and(|uuid| uuid.len() > MAX_UUID || uuid.contains('\0')) {
            return Err(Errno::INVAL.into());
        }
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

    pub(super) fn check_name(&self, name: &str) -> Result<(), Failure> {
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

    pub(super) async fn dev_remove(&self, id: &Id, open: WhenOpen) -> Done {
        let minor = self.with(id, |cell| Ok(cell.device.minor()))?;
        match (self.take_closed(minor), open) {
            (Ok(cell), _) => self.end(cell).await,
            (Err(errno), WhenOpen::Defer) if errno == Errno::BUSY => {
                let name = self.with(id, |cell| {
                    cell.deferred_remove = true;
                    Ok(cell.name.clone())
                })?;
                self.changed(&Changed::Name(name));
            }
            (Err(errno), _) => return Err(errno.into()),
        }
        self.reap();
        Ok(Answer::Done)
    }

    pub(super) async fn remove_all(&self, open: WhenOpen) -> Done {
        loop {
            let minors: Vec<u32> = self.cells().keys().copied().collect();
            let mut removed = 0;
            for minor in minors {
                if let Ok(cell) = self.take_closed(minor) {
                    self.end(cell).await;
                    removed += 1;
                }
            }
            // Each device removed may have been what kept another open.
            if removed == 0 {
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

    /// Takes a device that nobody has open out of the control plane: [`Errno::BUSY`] if somebody
    /// has. What is left of it is for [`end`](Self::end).
    pub(super) fn take_closed(&self, minor: u32) -> Result<Cell, Errno> {
        let mut cells = self.cells();
        match cells.get(&minor) {
            None => Err(Errno::NXIO),
            Some(cell) if cell.device.open_count() > 0 => Err(Errno::BUSY),
            Some(_) => Ok(cells.remove(&minor).expect("found above")),
        }
    }

    /// Ends a device that was taken out: its targets are told as at a suspend, and its tables go.
    async fn end(&self, cell: Cell) {
        let (name, minor) = (cell.name.clone(), cell.device.minor());
        cell.tear_down().await;
        self.changed(&Changed::Name(name));
        self.changed(&Changed::Content(minor));
    }

    pub(super) fn dev_rename(&self, id: &Id, new: NewName) -> Done {
        let (NewName::Name(to) | NewName::Uuid(to)) = &new;
        let max = if matches!(new, NewName::Name(_)) { MAX_NAME } else { MAX_UUID };
        if to.is_empty() || to.len() > max || to.contains('\0') {
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

    pub(super) async fn dev_suspend(&self, id: &Id, held: Held) -> Done {
        let device = self.device(id)?;
        device.suspend(held).await?;
        self.status(&Id::Dev(device.number()), Slot::Live)
    }

    pub(super) async fn dev_resume(&self, id: &Id, held: Held) -> Done {
        let (device, inactive) =
            self.with(id, |cell| Ok((cell.device.clone(), cell.inactive.take())))?;
        // Until the new table is bound, a resume that is given up puts it back.
        let mut pending = PutBack { control: self, minor: device.minor(), table: inactive };
        let result = device
            .resume(pending.table.clone(), held, |table| {
                pending.table = None;
                let site = self.site(&device, table.access(), "");
                table.limits(&site.build()).map_err(|error| error.errno)
            })
            .await;
        drop(pending);
        // The old table is gone now, and with it what kept devices below open.
        self.reap();
        result?;
        self.changed(&Changed::Content(device.minor()));
        self.status(&Id::Dev(device.number()), Slot::Live)
    }

    pub(super) async fn dev_wait(&self, id: &Id, event_nr: u32) -> Done {
        let device = self.device(id)?;
        device.events().until(|number| number != event_nr || device.is_gone()).await;
        let id = Id::Dev(device.number());
        self.table_status(&id, Report::Status, Slot::Live, false, KeyText::Zeros)
    }

    pub(super) fn status(&self, id: &Id, slot: Slot) -> Done {
        self.with(id, |cell| Ok(Answer::Status(cell.status(slot))))
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
