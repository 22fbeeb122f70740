//! What is there now, as far as it was noted: which entries stand for what.

use std::collections::{BTreeSet, HashMap};

use sim_core::control::{Node, Noted, NotedTable, RecordedTable};
use sim_core::{DM_MAJOR, DevNumber, Sectors};

use super::entry::{DeviceEntry, Entry, EntryId, ImageEntry, ImageRecord, TableEntry};
use super::past::PastDevice;

/// The revision of a table whose text is on record, and its id there.
pub(super) type Written = (u64, EntryId);

/// A table that is noted: the text of one that is on record need not be written again.
pub(super) enum NotedText {
    Written(Written),
    New(u64, RecordedTable),
}

impl NotedText {
    fn new(table: NotedTable<'_>, written: &[Written]) -> Option<NotedText> {
        let revision = table.revision();
        match written.iter().find(|(known, _)| *known == revision) {
            Some(written) => Some(NotedText::Written(*written)),
            None => table.record().map(|text| NotedText::New(revision, text)),
        }
    }
}

/// A device that is noted.
pub(super) struct NotedDevice {
    pub(super) name: String,
    pub(super) uuid: Option<String>,
    pub(super) live: Option<NotedText>,
    pub(super) inactive: Option<NotedText>,
    pub(super) suspended: bool,
    pub(super) read_ahead: Option<Sectors>,
    pub(super) node: Node,
}

impl NotedDevice {
    /// Nothing where a target cannot say what its line is.
    pub(super) fn new(noted: &Noted<'_>, written: &[Written]) -> Option<NotedDevice> {
        let text = |table: Option<NotedTable<'_>>| match table {
            Some(table) => NotedText::new(table, written).map(Some),
            None => Some(None),
        };
        Some(NotedDevice {
            name: noted.name.to_owned(),
            uuid: noted.uuid.map(str::to_owned),
            live: text(noted.live)?,
            inactive: text(noted.inactive)?,
            suspended: noted.suspended,
            read_ahead: noted.read_ahead,
            node: noted.node,
        })
    }
}

/// A device that is there.
struct Current {
    entry: DeviceEntry,
    live: Option<Written>,
    inactive: Option<Written>,
}

/// A device that is being restored. Until it is back it is on record as past alone.
struct Restoring {
    id: EntryId,
    tables: Vec<Entry>,
}

/// What is there, and the ids that it has on record.
#[derive(Default)]
pub(super) struct Present {
    devices: HashMap<u32, Current>,
    images: HashMap<DevNumber, EntryId>,
    past: BTreeSet<EntryId>,
    /// By minor.
    restoring: HashMap<u32, Restoring>,
    /// Images that are about to come back.
    returning: HashMap<DevNumber, EntryId>,
    highest: EntryId,
}

impl Present {
    /// Begins with what is past.
    pub(super) fn new(past: BTreeSet<EntryId>, highest: EntryId) -> Present {
        Present { past, highest, ..Present::default() }
    }

    /// Returns what is past.
    pub(super) fn past(&self) -> &BTreeSet<EntryId> {
        &self.past
    }

    /// Returns the id of the image or the device that has a number.
    pub(super) fn id_of(&self, number: DevNumber) -> Option<EntryId> {
        let device = self.devices.get(&number.minor).filter(|_| number.major == DM_MAJOR);
        device.map(|device| device.entry.id).or_else(|| self.images.get(&number).copied())
    }

    /// Returns the tables of a device that are on record.
    pub(super) fn written(&self, minor: u32) -> Vec<Written> {
        let current = self.devices.get(&minor);
        current.into_iter().flat_map(|current| [current.live, current.inactive]).flatten().collect()
    }

    /// Takes note of a device. Returns the entries that say so: none where nothing changed.
    pub(super) fn device(&mut self, minor: u32, noted: NotedDevice) -> Vec<Entry> {
        let old = self.devices.remove(&minor);
        let restored = self.restoring.get(&minor).map(|restoring| restoring.id);
        let id = old.as_ref().map(|old| old.entry.id).or(restored).unwrap_or_else(|| self.id());
        let mut entries = Vec::new();
        let [live, inactive] =
            [noted.live, noted.inactive].map(|table| Some(self.written_now(table?, &mut entries)));
        let entry = DeviceEntry {
            id,
            minor,
            name: noted.name,
            uuid: noted.uuid,
            live: live.map(|(_, id)| id),
            inactive: inactive.map(|(_, id)| id),
            suspended: noted.suspended,
            read_ahead: noted.read_ahead,
            node: noted.node,
            past: false,
        };
        let changed = old.is_none_or(|old| old.entry != entry);
        self.devices.insert(minor, Current { entry: entry.clone(), live, inactive });
        match self.restoring.get_mut(&minor) {
            Some(restoring) => {
                restoring.tables.append(&mut entries);
                Vec::new()
            }
            None if changed => {
                entries.push(Entry::Device(entry));
                entries
            }
            None => Vec::new(),
        }
    }

    /// Takes note that a device is gone.
    pub(super) fn device_gone(&mut self, minor: u32) -> Vec<Entry> {
        let gone = self.devices.remove(&minor);
        if let Some(restoring) = self.restoring.get_mut(&minor) {
            restoring.tables.clear();
            return Vec::new();
        }
        gone.map(|gone| Entry::Gone(gone.entry.id)).into_iter().collect()
    }

    /// Takes note of an image.
    pub(super) fn image(&mut self, image: ImageRecord) -> Vec<Entry> {
        let returned = self.returning.remove(&image.dev).inspect(|id| {
            self.past.remove(id);
        });
        let id = returned.unwrap_or_else(|| self.id());
        self.images.insert(image.dev, id);
        vec![Entry::Image(ImageEntry { id, image, past: false })]
    }

    /// Takes note that an image is gone.
    pub(super) fn image_gone(&mut self, number: DevNumber) -> Vec<Entry> {
        self.images.remove(&number).map(Entry::Gone).into_iter().collect()
    }

    /// Begins to restore a device. One that is there already is no concern of the restore's.
    pub(super) fn begin_device(&mut self, past: &PastDevice) -> bool {
        let minor = past.entry.minor;
        let free = !self.devices.contains_key(&minor) && !self.restoring.contains_key(&minor);
        if free {
            let restoring = Restoring { id: past.entry.id, tables: Vec::new() };
            self.restoring.insert(minor, restoring);
        }
        free
    }

    /// Ends the restore of a device: it is back as it is noted. Its inactive table stays past
    /// where that is `left`.
    pub(super) fn end_device(&mut self, past: &PastDevice, left: bool) -> Vec<Entry> {
        let mut entries = Vec::new();
        // Nothing of what was forgotten meanwhile.
        if left && self.past.contains(&past.entry.id) {
            // First, so that whatever is cut off later, the table is on record.
            let id = self.id();
            self.past.insert(id);
            entries.push(Entry::Device(DeviceEntry {
                id,
                live: None,
                past: true,
                ..past.entry.clone()
            }));
        }
        if let Some(restoring) = self.restoring.remove(&past.entry.minor) {
            entries.extend(restoring.tables);
        }
        match self.devices.get(&past.entry.minor) {
            Some(current) if current.entry.id == past.entry.id => {
                entries.push(Entry::Device(current.entry.clone()));
            }
            // Somebody removed it meanwhile.
            _ => entries.push(Entry::Gone(past.entry.id)),
        }
        self.past.remove(&past.entry.id);
        entries
    }

    /// Gives the restore of a device up: it is as past as before. What is left of it, or was made
    /// in its place, is a device of its own.
    pub(super) fn abandon_device(&mut self, minor: u32) -> Vec<Entry> {
        let Some(restoring) = self.restoring.remove(&minor) else { return Vec::new() };
        let id = self.id();
        let Some(current) = self.devices.get_mut(&minor) else { return Vec::new() };
        current.entry.id = id;
        let mut entries = restoring.tables;
        entries.push(Entry::Device(current.entry.clone()));
        entries
    }

    /// Lets the next image with this number be the past one.
    pub(super) fn begin_image(&mut self, number: DevNumber, id: EntryId) {
        self.returning.insert(number, id);
    }

    /// Takes [`begin_image`](Self::begin_image) back.
    pub(super) fn end_image(&mut self, number: DevNumber) {
        self.returning.remove(&number);
    }

    /// Drops something past, which is there in another way.
    pub(super) fn is_back(&mut self, id: EntryId) -> Vec<Entry> {
        self.past.remove(&id).then_some(Entry::Gone(id)).into_iter().collect()
    }

    /// Drops all that is past.
    pub(super) fn forget(&mut self) {
        self.past.clear();
    }

    fn written_now(&mut self, text: NotedText, entries: &mut Vec<Entry>) -> Written {
        match text {
            NotedText::Written(written) => written,
            NotedText::New(revision, table) => {
                let id = self.id();
                entries.push(Entry::Table(TableEntry::new(id, table)));
                (revision, id)
            }
        }
    }

    fn id(&mut self) -> EntryId {
        self.highest += 1;
        self.highest
    }
}
