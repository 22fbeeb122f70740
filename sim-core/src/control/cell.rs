//! One mapped device in the control plane, with its name and its two tables.

use std::sync::Arc;

use super::command::{DevStatus, Node, Slot};
use crate::{BlockDevice, MappedDevice, Sectors, Table};

/// One mapped device in the control plane: the kernel's hash cell.
pub(super) struct Cell {
    pub(super) device: Arc<MappedDevice>,
    pub(super) name: String,
    pub(super) uuid: Option<String>,
    pub(super) inactive: Option<Arc<Table>>,
    pub(super) deferred_remove: bool,
    /// A table was loaded once: there is a disk, and a file that shows it.
    pub(super) has_disk: bool,
    pub(super) read_ahead: Option<Sectors>,
    pub(super) node: Node,
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

impl Cell {
    pub(super) fn minor(&self) -> u32 {
        self.device.minor()
    }

    /// Tells whether there is a disk to show: as in the kernel, until the device goes, also where that
    /// is only put off.
    pub(super) fn is_shown(&self) -> bool {
        self.has_disk
    }

    /// Tells whether a table may name it: dmsetup takes the name of a device away with its removal,
    /// put off or not.
    pub(super) fn has_name(&self) -> bool {
        self.has_disk && !self.deferred_remove
    }

    pub(super) fn shown(&self) -> Shown {
        Shown { name: self.name.clone(), node: self.node, device: self.device.clone() }
    }

    pub(super) fn table(&self, slot: Slot) -> Option<Arc<Table>> {
        match slot {
            Slot::Live => self.device.live(),
            Slot::Inactive => self.inactive.clone(),
        }
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = Arc<Table>> {
        [Slot::Live, Slot::Inactive].into_iter().filter_map(|slot| self.table(slot))
    }

    pub(super) fn status(&self, slot: Slot) -> DevStatus {
        let asked = self.table(slot);
        let read_only = match (slot, &asked) {
            // As the kernel has it, of no table as well.
            (Slot::Inactive, table) => {
                table.as_ref().is_some_and(|table| table.access().is_read_only())
            }
            (Slot::Live, _) => self.device.access().is_read_only(),
        };
        let read_ahead = || self.read_ahead.unwrap_or_else(|| self.device.limits().read_ahead());
        DevStatus {
            name: self.name.clone(),
            uuid: self.uuid.clone(),
            dev: self.device.number(),
            open_count: self.device.user_count(),
            event_nr: self.device.events().number(),
            target_count: asked.map_or(0, |table| table.count()),
            suspended: self.device.is_suspended(),
            read_only,
            live_present: self.device.live().is_some(),
            inactive_present: self.inactive.is_some(),
            deferred_remove: self.deferred_remove,
            read_ahead: self.has_disk.then(read_ahead),
            overlap: None,
            fault_rules: self.device.fault_rules(),
        }
    }
}
