//! What of the record's lines counts, and where it stands: not the text itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::entry::{DeviceEntry, Entry, EntryId};

/// The highest id that is read: a daemon counts on from there, and never reaches the end.
const MAX_ID: EntryId = 1 << 62;

/// Where a line stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) len: u64,
}

/// What an entry does to what is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Table { id: EntryId },
    Device { id: EntryId, live: Option<EntryId>, inactive: Option<EntryId>, past: bool },
    Image { id: EntryId, past: bool },
    Gone { id: EntryId },
    Started,
    Forgotten,
}

impl From<&Entry> for Effect {
    fn from(entry: &Entry) -> Effect {
        match entry {
            Entry::Table(table) => Effect::Table { id: table.id },
            Entry::Device(device) => {
                let DeviceEntry { id, live, inactive, past, .. } = *device;
                Effect::Device { id, live, inactive, past }
            }
            Entry::Image(image) => Effect::Image { id: image.id, past: image.past },
            Entry::Gone(id) => Effect::Gone { id: *id },
            Entry::Started(_) => Effect::Started,
            Entry::Forgotten(_) => Effect::Forgotten,
        }
    }
}

/// A device or an image.
struct Item {
    place: Place,
    /// How many daemons had started when it was put down.
    epoch: u32,
    /// It was put down as past.
    past: bool,
    /// The tables of a device; an image has none.
    tables: Option<[Option<EntryId>; 2]>,
}

impl Item {
    fn tables(&self) -> impl Iterator<Item = EntryId> + use<> {
        self.tables.into_iter().flatten().flatten()
    }
}

struct TableItem {
    place: Place,
    /// How many devices name it; one that none does does not count.
    users: u32,
}

/// The lines that count. Everything goes by ids, which grow: what is listed is in the order in
/// which it came first.
#[derive(Default)]
pub(super) struct Contents {
    items: BTreeMap<EntryId, Item>,
    tables: BTreeMap<EntryId, TableItem>,
    /// Tables that no device names.
    unused: BTreeSet<EntryId>,
    /// How many daemons have started, of those that left something.
    epoch: u32,
    live_bytes: u64,
    highest: EntryId,
}

impl Contents {
    /// Adds a line. The error says what it refers to that is not there.
    pub(super) fn apply(&mut self, effect: Effect, place: Place) -> Result<(), String> {
        match effect {
            Effect::Table { id } => {
                self.saw(id)?;
                self.tables.insert(id, TableItem { place, users: 0 });
                self.unused.insert(id);
            }
            Effect::Device { id, live, inactive, past } => {
                self.saw(id)?;
                let tables = [live, inactive];
                if let Some(id) = tables.iter().flatten().find(|id| !self.tables.contains_key(id)) {
                    return Err(format!("expected a table that is on record, found {id}"));
                }
                self.put(id, Item { place, epoch: self.epoch, past, tables: Some(tables) });
                // A table stands right before the first device that names it.
                self.drop_unused();
            }
            Effect::Image { id, past } => {
                self.saw(id)?;
                self.put(id, Item { place, epoch: self.epoch, past, tables: None });
            }
            Effect::Gone { id } => {
                self.take(id);
                self.drop_unused();
            }
            Effect::Started => self.epoch += 1,
            Effect::Forgotten => {
                self.past().into_iter().for_each(|(id, _)| self.take(id));
                self.drop_unused();
            }
        }
        Ok(())
    }

    /// Lists the lines that have to be kept, with what they do, in an order in which they can be
    /// read: each device after its tables.
    pub(super) fn lines(&self) -> Vec<(Effect, Option<Place>)> {
        let mut items: Vec<_> = self.items.iter().collect();
        items.sort_by_key(|(id, item)| (item.epoch, **id));
        let mut lines = Vec::with_capacity(items.len() + self.tables.len() + 1);
        let mut written = BTreeSet::new();
        let mut last = None;
        for (id, item) in items {
            if last.replace(item.epoch).is_some_and(|last| last < item.epoch) {
                lines.push((Effect::Started, None));
            }
            for table in item.tables().filter(|table| written.insert(*table)) {
                lines.push((Effect::Table { id: table }, Some(self.tables[&table].place)));
            }
            let (id, past) = (*id, item.past);
            let effect = match item.tables {
                Some([live, inactive]) => Effect::Device { id, live, inactive, past },
                None => Effect::Image { id, past },
            };
            lines.push((effect, Some(item.place)));
        }
        if last.is_some_and(|last| last < self.epoch) {
            lines.push((Effect::Started, None));
        }
        lines
    }

    /// Lists what is past and not restored yet: what was there last comes first.
    pub(super) fn past(&self) -> Vec<(EntryId, Place)> {
        let past = self.items.iter().filter(|(_, item)| self.is_past(item));
        let mut past: Vec<_> = past.collect();
        past.sort_by_key(|(id, item)| (Reverse(item.epoch), **id));
        past.into_iter().map(|(id, item)| (*id, item.place)).collect()
    }

    fn is_past(&self, item: &Item) -> bool {
        item.past || item.epoch < self.epoch
    }

    /// Returns where a table stands.
    pub(super) fn table(&self, id: EntryId) -> Option<Place> {
        self.tables.get(&id).map(|table| table.place)
    }

    /// Tells whether something is there that no daemon before has left.
    pub(super) fn has_present(&self) -> bool {
        self.items.values().any(|item| !self.is_past(item))
    }

    /// Returns the size of the lines that count, in bytes.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Returns the highest id that was ever seen.
    pub(super) fn highest(&self) -> EntryId {
        self.highest
    }

    /// Takes note of an id; refuses one that leaves no room for those of this daemon.
    fn saw(&mut self, id: EntryId) -> Result<(), String> {
        if id > MAX_ID {
            return Err(format!("expected an id of {MAX_ID} at most, found {id}"));
        }
        self.highest = self.highest.max(id);
        Ok(())
    }

    /// Puts an item in the place of the one that has the id. Its tables are counted before those
    /// of the old one are let go: they may be the same.
    fn put(&mut self, id: EntryId, item: Item) {
        for table in item.tables() {
            self.use_table(table);
        }
        self.take(id);
        self.live_bytes += item.place.len;
        self.items.insert(id, item);
    }

    fn take(&mut self, id: EntryId) {
        let Some(item) = self.items.remove(&id) else { return };
        self.live_bytes -= item.place.len;
        for table in item.tables() {
            self.leave_table(table);
        }
    }

    fn use_table(&mut self, id: EntryId) {
        let table = self.tables.get_mut(&id).expect("it was looked for");
        table.users += 1;
        if table.users == 1 {
            self.live_bytes += table.place.len;
            self.unused.remove(&id);
        }
    }

    fn leave_table(&mut self, id: EntryId) {
        let table = self.tables.get_mut(&id).expect("a table stays while a device names it");
        table.users -= 1;
        if table.users == 0 {
            self.live_bytes -= table.place.len;
            self.unused.insert(id);
        }
    }

    fn drop_unused(&mut self) {
        for id in std::mem::take(&mut self.unused) {
            self.tables.remove(&id);
        }
    }
}
