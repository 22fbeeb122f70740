//! The table of mapped devices, and the ways to find one in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

use super::cell::Cell;
use super::command::Id;
use crate::numbers::FreeNumbers;
use crate::{DM_MAJOR, MAX_MINORS, MappedDevice};

/// The devices of an instance, by number, name and uuid. Finding one costs the same however many
/// there are.
pub(super) struct Cells {
    by_minor: BTreeMap<u32, Cell>,
    by_name: BTreeMap<String, u32>,
    by_uuid: HashMap<String, u32>,
    /// Those that are to be removed when they are closed.
    deferred: BTreeSet<u32>,
    free: FreeNumbers,
}

impl Default for Cells {
    fn default() -> Cells {
        Cells {
            by_minor: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_uuid: HashMap::new(),
            deferred: BTreeSet::new(),
            free: FreeNumbers::new(0..MAX_MINORS),
        }
    }
}

impl Cells {
    /// Returns the lowest free minor number.
    pub(super) fn free_minor(&self) -> Option<u32> {
        self.free.lowest()
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(super) fn has_uuid(&self, uuid: &str) -> bool {
        self.by_uuid.contains_key(uuid)
    }

    /// Adds a device, whose name, uuid and number nobody has.
    pub(super) fn insert(&mut self, cell: Cell) {
        let minor = cell.device.minor();
        let is_free = self.free.take(minor);
        assert!(is_free, "a minor number is looked at before it is taken");
        self.by_name.insert(cell.name.clone(), minor);
        self.by_uuid.extend(cell.uuid.clone().map(|uuid| (uuid, minor)));
        self.by_minor.insert(minor, cell);
    }

    /// Takes a device out.
    pub(super) fn remove(&mut self, minor: u32) -> Option<Cell> {
        let cell = self.by_minor.remove(&minor)?;
        self.by_name.remove(&cell.name);
        cell.uuid.as_ref().map(|uuid| self.by_uuid.remove(uuid));
        self.deferred.remove(&minor);
        self.free.give_back(minor);
        Some(cell)
    }

    pub(super) fn get(&self, minor: u32) -> Option<&Cell> {
        self.by_minor.get(&minor)
    }

    /// Finds a device for a change of what it is not found by.
    pub(super) fn find_mut(&mut self, id: &Id) -> Option<&mut Cell> {
        let minor = match id {
            Id::Name(name) => *self.by_name.get(name)?,
            Id::Uuid(uuid) => *self.by_uuid.get(uuid)?,
            Id::Dev(dev) if dev.major == DM_MAJOR => dev.minor,
            Id::Dev(_) => return None,
        };
        self.by_minor.get_mut(&minor)
    }

    /// Finds the cell of a device that is known already; none where it was removed, whoever has
    /// its number by now.
    pub(super) fn cell_of(&mut self, device: &MappedDevice) -> Option<&mut Cell> {
        let cell = self.by_minor.get_mut(&device.minor())?;
        std::ptr::eq(&*cell.device, device).then_some(cell)
    }

    pub(super) fn find_name(&self, name: &str) -> Option<&Cell> {
        self.by_minor.get(self.by_name.get(name)?)
    }

    /// Gives a device another name, which nobody has.
    pub(super) fn rename(&mut self, minor: u32, name: String) {
        let cell = self.by_minor.get_mut(&minor).expect("found before");
        self.by_name.remove(&cell.name);
        self.by_name.insert(name.clone(), minor);
        cell.name = name;
    }

    /// Gives a device that has none a uuid, which nobody has.
    pub(super) fn set_uuid(&mut self, minor: u32, uuid: String) {
        let cell = self.by_minor.get_mut(&minor).expect("found before");
        self.by_uuid.insert(uuid.clone(), minor);
        cell.uuid = Some(uuid);
    }

    /// Says whether a device is to be removed when it is closed.
    pub(super) fn set_deferred(&mut self, minor: u32, deferred: bool) {
        let cell = self.by_minor.get_mut(&minor).expect("found before");
        cell.deferred_remove = deferred;
        match deferred {
            true => self.deferred.insert(minor),
            false => self.deferred.remove(&minor),
        };
    }

    /// Finds a device that was to be removed when closed, and is closed.
    pub(super) fn due(&self) -> Option<u32> {
        let closed = |minor: &&u32| {
            self.by_minor.get(minor).is_some_and(|cell| cell.device.open_count() == 0)
        };
        self.deferred.iter().find(closed).copied()
    }

    /// Lists the devices by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Cell> {
        self.by_minor.values()
    }

    /// Lists the devices by number, from a minor number on.
    pub(super) fn from(&self, minor: u32) -> impl Iterator<Item = &Cell> {
        self.by_minor.range(minor..).map(|(_, cell)| cell)
    }

    /// Returns the first device after a minor number.
    pub(super) fn after(&self, minor: Option<u32>) -> Option<u32> {
        let start = minor.map_or(Unbounded, Excluded);
        self.by_minor.range((start, Unbounded)).next().map(|(minor, _)| *minor)
    }

    /// Lists the devices by name.
    pub(super) fn by_name(&self) -> impl Iterator<Item = &Cell> {
        self.by_name.values().map(|minor| &self.by_minor[minor])
    }
}
