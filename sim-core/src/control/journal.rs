//! What has happened to mapped devices, the last of it: for whoever follows it, at a pace of their own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::cell::Cell;
use crate::graph::NodeId;
use crate::{BlockDevice, DevNumber, Events, MappedDevice, Signal};

/// How many happenings are kept: a reader that is further behind has missed some, and is told how many.
pub const MAX_HAPPENED: usize = 4096;

/// The most that one answer has.
const PAGE: usize = 256;

/// Something that has happened to a mapped device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// Its number among all that has happened, from 1, without a gap.
    pub seq: u64,
    /// What it was.
    pub what: What,
    /// The device's name then, mangled.
    pub name: String,
    /// Its uuid then, if it had one.
    pub uuid: Option<String>,
    /// The device's number.
    pub dev: DevNumber,
    /// The number of the device's last event then.
    pub event_nr: u32,
}

/// What can happen to a mapped device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// It was made.
    Created,
    /// It was removed.
    Removed,
    /// It has another name.
    Renamed {
        /// The name that it had, mangled.
        from: String,
    },
    /// It was given a uuid.
    UuidSet,
    /// A table was loaded, which waits for a resume.
    TableLoaded,
    /// The table that waited was dropped.
    TableCleared,
    /// It was suspended.
    Suspended,
    /// It was resumed.
    Resumed {
        /// With the table that waited.
        new_table: bool,
    },
    /// An event was counted, of a target or of the device: what `dmsetup wait` waits for.
    Event,
}

/// What has happened after something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happenings {
    /// The number of the last that this tells of.
    pub last: u64,
    /// How many come before the first of these that are not kept any more.
    pub missed: u64,
    /// These, in their order; the rest comes with the next answer.
    pub happened: Vec<Happened>,
}

/// The last that has happened.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pages: Mutex<Pages>,
    waiting: Signal,
}

#[derive(Debug, Default)]
struct Pages {
    last: u64,
    kept: VecDeque<Happened>,
    devices: BTreeMap<NodeId, Known>,
}

/// A device as it is told of.
#[derive(Debug)]
struct Known {
    name: String,
    uuid: Option<String>,
    dev: DevNumber,
    events: Arc<Events>,
    /// Also before its first resume.
    suspended: bool,
}

impl Journal {
    /// Returns the number of what has happened last; zero before anything has.
    pub(super) fn last(&self) -> u64 {
        self.locked().last
    }

    /// Waits until something has happened after the one with this number.
    pub(super) async fn after(&self, seq: u64) -> Happenings {
        self.waiting.until(|| self.locked().after(seq)).await
    }

    pub(super) fn created(&self, cell: &Cell) {
        let device = &cell.device;
        let known = Known {
            name: cell.name.clone(),
            uuid: cell.uuid.clone(),
            dev: device.number(),
            events: device.events().clone(),
            suspended: true,
        };
        self.locked().devices.insert(device.node(), known);
        self.tell(device.node(), |_| Some(What::Created));
    }

    pub(super) fn removed(&self, cell: &Cell) {
        self.tell(cell.device.node(), |_| Some(What::Removed));
        self.locked().devices.remove(&cell.device.node());
    }

    /// Notes that a device has another name, or a uuid.
    pub(super) fn renamed(&self, cell: &Cell) {
        self.tell(cell.device.node(), |known| {
            let from = std::mem::replace(&mut known.name, cell.name.clone());
            match from == cell.name {
                true => {
                    known.uuid.clone_from(&cell.uuid);
                    Some(What::UuidSet)
                }
                false => Some(What::Renamed { from }),
            }
        });
    }

    pub(super) fn table_loaded(&self, cell: &Cell) {
        self.tell(cell.device.node(), |_| Some(What::TableLoaded));
    }

    pub(super) fn table_cleared(&self, cell: &Cell) {
        self.tell(cell.device.node(), |_| Some(What::TableCleared));
    }

    /// Notes whether a device is suspended, after a suspend or a resume that may have changed it.
    pub(super) fn settled(&self, device: &MappedDevice, new_table: bool) {
        self.tell(device.node(), |known| {
            // Asked here, so that of two at once the last tells how it is.
            let suspended = device.is_suspended();
            let before = std::mem::replace(&mut known.suspended, suspended);
            match (before, suspended) {
                (false, true) => Some(What::Suspended),
                (true, false) => Some(What::Resumed { new_table }),
                (false, false) if new_table => Some(What::Resumed { new_table }),
                (true, true) | (false, false) => None,
            }
        });
    }

    /// Counts an event of a device, and tells of it, in the order of the numbers.
    pub(crate) fn event(&self, node: NodeId, events: &Events) {
        let mut pages = self.locked();
        events.raise();
        pages.note(node, |_| Some(What::Event));
        drop(pages);
        self.waiting.notify();
    }

    fn tell(&self, node: NodeId, what: impl FnOnce(&mut Known) -> Option<What>) {
        self.locked().note(node, what);
        self.waiting.notify();
    }

    fn locked(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// Notes what has happened to a device, unless it is gone.
    fn note(&mut self, node: NodeId, what: impl FnOnce(&mut Known) -> Option<What>) {
        let Some(known) = self.devices.get_mut(&node) else { return };
        let Some(what) = what(known) else { return };
        self.last += 1;
        let Known { name, uuid, dev, events, .. } = known;
        let (name, uuid, dev) = (name.clone(), uuid.clone(), *dev);
        let event_nr = events.number();
        if self.kept.len() == MAX_HAPPENED {
            self.kept.pop_front();
        }
        self.kept.push_back(Happened { seq: self.last, what, name, uuid, dev, event_nr });
    }

    fn after(&self, seq: u64) -> Option<Happenings> {
        let first = self.kept.front()?.seq;
        let missed = first.saturating_sub(seq.saturating_add(1));
        let next = seq.saturating_add(missed).saturating_add(1);
        let from = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
        let happened: Vec<Happened> = self.kept.iter().skip(from).take(PAGE).cloned().collect();
        let last = happened.last()?.seq;
        Some(Happenings { last, missed, happened })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(count: u64) -> Pages {
        let mut pages = Pages::default();
        let (name, uuid, dev) = ("a".to_owned(), None, DevNumber::mapped(0));
        let known = Known { name, uuid, dev, events: Arc::default(), suspended: true };
        let node = crate::graph::Graph::default().node();
        pages.devices.insert(node, known);
        (0..count).for_each(|_| pages.note(node, |_| Some(What::Event)));
        pages
    }

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        let pages = pages(600);
        let (mut seq, mut read) = (0, Vec::new());
        while let Some(next) = pages.after(seq) {
            assert_eq!(next.missed, 0);
            assert!(next.happened.len() <= PAGE);
            read.extend(next.happened.iter().map(|happened| happened.seq));
            seq = next.last;
        }
        assert_eq!(read, (1..=600).collect::<Vec<_>>());
        assert_eq!(pages.after(u64::MAX - 1), None);
    }

    #[test]
    fn who_is_too_far_behind_is_told_how_many_are_gone() {
        let most = MAX_HAPPENED as u64;
        let at = |seq| {
            let next = pages(most + 10).after(seq).expect("there is more");
            (next.missed, next.happened[0].seq, next.happened.len())
        };
        assert_eq!(at(0), (10, 11, PAGE));
        assert_eq!(at(9), (1, 11, PAGE));
        assert_eq!(at(10), (0, 11, PAGE));
        assert_eq!(at(most + 9), (0, most + 10, 1));
        assert_eq!(pages(most + 10).kept.len(), MAX_HAPPENED);
    }
}
