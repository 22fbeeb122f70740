//! What was there before and is not restored yet, in an order in which it can be built.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::PathBuf;

use sim_core::control::{Record, RecordedTable};
use sim_core::{DM_MAJOR, DevNumber};

use super::entry::{DeviceEntry, Entry, EntryId, ImageRecord};
use super::log::Log;

/// What is past.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// The images, in the order in which they were attached first.
    pub(crate) images: Vec<PastImage>,
    /// The devices, each after those that it maps onto.
    pub(crate) devices: Vec<PastDevice>,
}

/// An image that is past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PastImage {
    pub(super) id: EntryId,
    /// The image.
    pub(crate) image: ImageRecord,
}

/// A device that is past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PastDevice {
    pub(super) entry: DeviceEntry,
    /// The device.
    pub(crate) device: Record,
}

/// What a number stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// An image, by the path of its file.
    Image(PathBuf),
    /// A device, by its name and its uuid.
    Device(String, Option<String>),
}

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Meant::Image(path) => write!(f, "{}", path.display()),
            Meant::Device(name, _) => write!(f, "`{name}`"),
        }
    }
}

impl Past {
    /// Says what a number stood for when a table was loaded that names it: what had it last before.
    pub(super) fn meant(&self, number: DevNumber, table: EntryId) -> Option<(EntryId, Meant)> {
        let images = self.images.iter().filter(|past| past.image.dev == number);
        let images = images.map(|past| (past.id, Meant::Image(past.image.path.clone())));
        let devices =
            self.devices.iter().filter(|past| DevNumber::mapped(past.entry.minor) == number);
        let devices = devices.map(|PastDevice { entry, .. }| {
            (entry.id, Meant::Device(entry.name.clone(), entry.uuid.clone()))
        });
        images.chain(devices).filter(|(id, _)| *id < table).max_by_key(|(id, _)| *id)
    }

    /// Reads what is past and has an id in `left`.
    pub(super) fn read(log: &Log, left: &BTreeSet<EntryId>) -> io::Result<Past> {
        let mut past = Past::default();
        for (id, place) in log.contents().past() {
            if !left.contains(&id) {
                continue;
            }
            match log.read(place)? {
                Entry::Image(image) => past.images.push(PastImage { id, image: image.image }),
                Entry::Device(entry) => past.devices.push(PastDevice::read(log, entry)?),
                other => return Err(io::Error::other(format!("unexpected entry {other:?}"))),
            }
        }
        past.devices = in_order(past.devices);
        Ok(past)
    }
}

/// Lists what of the past a later daemon has left again: a device of the same name, with all the tables
/// that this one has, or the same image. It would be in the way of its own successor at every restore,
/// and one more of it would come with each stop.
pub(super) fn superseded(log: &Log) -> io::Result<Vec<EntryId>> {
    let (mut names, mut images) = (HashMap::<String, [bool; 2]>::new(), HashSet::new());
    let mut superseded = Vec::new();
    for (id, place) in log.contents().past() {
        // What was there last comes first.
        let is_there = match log.read(place)? {
            Entry::Image(image) => !images.insert(image.image),
            Entry::Device(entry) => {
                let tables = [entry.live.is_some(), entry.inactive.is_some()];
                let known = names.get(&entry.name);
                let is_there = known.is_some_and(|known| (0..2).all(|at| known[at] || !tables[at]));
                let known = names.entry(entry.name).or_default();
                *known = [known[0] || tables[0], known[1] || tables[1]];
                is_there
            }
            other => return Err(io::Error::other(format!("unexpected entry {other:?}"))),
        };
        if is_there {
            superseded.push(id);
        }
    }
    Ok(superseded)
}

impl PastDevice {
    fn read(log: &Log, entry: DeviceEntry) -> io::Result<PastDevice> {
        let table = |id: Option<EntryId>| -> io::Result<Option<RecordedTable>> {
            let Some(id) = id else { return Ok(None) };
            match log.read_table(id)? {
                Entry::Table(table) => Ok(Some(table.table())),
                other => Err(io::Error::other(format!("unexpected entry {other:?}"))),
            }
        };
        let device = Record {
            name: entry.name.clone(),
            uuid: entry.uuid.clone(),
            minor: entry.minor,
            live: table(entry.live)?,
            inactive: table(entry.inactive)?,
            suspended: entry.suspended,
            read_ahead: entry.read_ahead,
            node: entry.node,
        };
        Ok(PastDevice { entry, device })
    }

    /// Tells whether both are the same entry of the record.
    pub(crate) fn is(&self, other: &PastDevice) -> bool {
        self.entry.id == other.entry.id
    }

    /// Returns the device with the live table of another one in the place of its own.
    pub(crate) fn with_table_of(&self, other: &PastDevice) -> PastDevice {
        let mut with = self.clone();
        (with.entry.live, with.device.live) = (other.entry.live, other.device.live.clone());
        with
    }

    fn tables(&self) -> impl Iterator<Item = &RecordedTable> {
        self.device.live.iter().chain(&self.device.inactive)
    }

    /// Lists the numbers that its tables name.
    pub(crate) fn below(&self) -> impl Iterator<Item = DevNumber> {
        self.tables().flat_map(|table| &table.below).copied()
    }

    /// Lists the numbers that its tables name, each with the id of the table.
    pub(super) fn names(&self) -> impl Iterator<Item = (EntryId, DevNumber)> {
        let live = self.entry.live.zip(self.device.live.as_ref());
        let inactive = self.entry.inactive.zip(self.device.inactive.as_ref());
        live.into_iter()
            .chain(inactive)
            .flat_map(|(id, table)| table.below.iter().map(move |number| (id, *number)))
    }
}

/// Puts devices in an order in which they can be built: each after those that it maps onto, those
/// that change what is below by themselves, and what is above these, after all others; otherwise
/// as they come.
fn in_order(devices: Vec<PastDevice>) -> Vec<PastDevice> {
    let mut by_minor: HashMap<u32, Vec<usize>> = HashMap::new();
    for (at, device) in devices.iter().enumerate() {
        by_minor.entry(device.device.minor).or_default().push(at);
    }
    let mut above = vec![Vec::new(); devices.len()];
    let mut missing = vec![0; devices.len()];
    for (at, device) in devices.iter().enumerate() {
        let below = device.tables().flat_map(|table| &table.below);
        let below = below.filter(|dev| dev.major == DM_MAJOR);
        let below: BTreeSet<usize> =
            below.filter_map(|dev| by_minor.get(&dev.minor)).flatten().copied().collect();
        missing[at] = below.len();
        below.into_iter().for_each(|below| above[below].push(at));
    }
    let late = late(&devices, &above);
    let ready = (0..devices.len()).filter(|at| missing[*at] == 0);
    let mut ready: BinaryHeap<_> = ready.map(|at| Reverse((late[at], at))).collect();
    let mut order = Vec::with_capacity(devices.len());
    while let Some(Reverse((_, at))) = ready.pop() {
        order.push(at);
        for above in &above[at] {
            missing[*above] -= 1;
            if missing[*above] == 0 {
                ready.push(Reverse((late[*above], *above)));
            }
        }
    }
    // Two records of different times can map onto each other: as they come.
    order.extend((0..devices.len()).filter(|at| missing[*at] > 0));
    let mut devices: Vec<Option<PastDevice>> = devices.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| devices[at].take()).collect()
}

/// Tells of each device whether it changes what is below, or is above one that does.
fn late(devices: &[PastDevice], above: &[Vec<usize>]) -> Vec<bool> {
    let changes = |device: &PastDevice| device.tables().any(|table| table.changes_below);
    let mut late: Vec<bool> = devices.iter().map(changes).collect();
    let mut next: Vec<usize> = (0..devices.len()).filter(|at| late[*at]).collect();
    while let Some(at) = next.pop() {
        for above in &above[at] {
            if !std::mem::replace(&mut late[*above], true) {
                next.push(*above);
            }
        }
    }
    late
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_core::Access;

    /// A device by its minor and what it maps onto; `!` in front of those that change it.
    fn device(minor: u32, below: &str) -> PastDevice {
        let (changes_below, below) = match below.strip_prefix('!') {
            Some(below) => (true, below),
            None => (false, below),
        };
        let below = below.split_whitespace().map(|dev| match dev.parse::<u32>() {
            Ok(minor) => DevNumber::mapped(minor),
            Err(_) => dev.parse::<DevNumber>().unwrap(),
        });
        let table = RecordedTable {
            access: Access::ReadWrite,
            targets: Vec::new(),
            without_keys: false,
            below: below.collect(),
            changes_below,
        };
        let node = Default::default();
        let (name, live) = (minor.to_string(), Some(table));
        let entry = DeviceEntry {
            id: minor.into(),
            minor,
            name: name.clone(),
            uuid: None,
            live: Some(0),
            inactive: None,
            suspended: false,
            read_ahead: None,
            node,
            past: true,
        };
        let device = Record {
            name,
            uuid: None,
            minor,
            live,
            inactive: None,
            suspended: false,
            read_ahead: None,
            node,
        };
        PastDevice { entry, device }
    }

    fn check(devices: &[(u32, &str)], order: &[u32]) {
        let devices = devices.iter().map(|(minor, below)| device(*minor, below)).collect();
        let minors: Vec<u32> = in_order(devices).iter().map(|device| device.device.minor).collect();
        assert_eq!(minors, order);
    }

    #[test]
    fn devices_come_after_those_below_and_otherwise_as_they_are() {
        check(&[(3, ""), (1, ""), (2, "")], &[3, 1, 2]);
        check(&[(0, "1"), (1, "2 7:0"), (2, "")], &[2, 1, 0]);
        check(&[(0, "2 1"), (5, ""), (1, "2"), (2, "7:0")], &[5, 2, 1, 0]);
    }

    #[test]
    fn what_changes_what_is_below_comes_last_with_what_is_above_it() {
        check(&[(0, "!3"), (1, "0"), (2, "3"), (3, ""), (4, "2")], &[3, 2, 4, 0, 1]);
    }

    #[test]
    fn records_that_map_onto_each_other_are_all_there() {
        check(&[(0, "1"), (1, "0"), (2, "")], &[2, 0, 1]);
    }

    #[test]
    fn ten_thousand_devices_on_one_are_put_in_order_at_once() {
        let all: Vec<PastDevice> = (0..10_000)
            .map(|minor| device(minor, if minor < 9_999 { "9999" } else { "" }))
            .collect();
        let began = std::time::Instant::now();
        assert_eq!(in_order(all)[0].device.minor, 9_999);
        assert!(began.elapsed() < std::time::Duration::from_secs(2));
    }
}
