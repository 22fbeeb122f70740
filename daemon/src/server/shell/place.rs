//! Which device has which node.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block_frontend::{Node, Whole};
use sim_core::OpenDevice;

use super::numbers::Numbers;

/// The nodes that devices have.
#[derive(Default)]
pub(super) struct Placed {
    /// By minor number; each has a lock of its own, as one that hangs is to hold up no other. None is ever
    /// taken out: whoever waits for one would have another than who comes later.
    places: Mutex<HashMap<u32, Arc<Mutex<Place>>>>,
    pub(super) numbers: Numbers,
    /// How many commands are under way that change a device, by minor number: its node is made true
    /// when they are done, and not before.
    pub(super) under_way: Mutex<HashMap<u32, u32>>,
    said: Said,
}

/// What is wrong, as it was said last, of a device or of all: what is tried again and again is logged when it
/// becomes another, and not each time.
#[derive(Default)]
struct Said(Mutex<HashMap<Option<u32>, String>>);

impl Said {
    /// Tells whether it was not what was said last.
    fn is_new(&self, of: Option<u32>, trouble: &str) -> bool {
        lock(&self.0).insert(of, trouble.to_owned()).is_none_or(|before| before != trouble)
    }
}

/// A device's node.
#[derive(Default)]
pub(super) struct Place {
    pub(super) node: Option<Node>,
    /// The minor number of the node by which the tree has it: programs take it for that of the device.
    pub(super) in_tree: Option<u32>,
    /// It shows the device.
    pub(super) shows: bool,
    /// The device, where it is shown without its file. Whoever has it open keeps it from being removed.
    pub(super) opened: Option<OpenDevice>,
    /// How long it has been told that the device is, in bytes.
    pub(super) bytes: u64,
    /// The device is removed when nobody uses it any more.
    pub(super) goes: bool,
}

impl Placed {
    pub(super) fn at(&self, minor: u32) -> Arc<Mutex<Place>> {
        self.places().entry(minor).or_default().clone()
    }

    /// Tells whether a loop device with this number is one of ours.
    pub(super) fn has_disk(&self, disk: u32) -> bool {
        let places: Vec<_> = self.places().values().cloned().collect();
        let is_it = |node: Node| node.disk == Whole::Loop(disk);
        places.iter().any(|place| lock(place).node.is_some_and(is_it))
    }

    /// Tells whether a device is shown by a loop device of ours over its file.
    pub(super) fn shows_by_loop(&self, minor: u32) -> bool {
        let place = self.places().get(&minor).cloned();
        place.is_some_and(|place| {
            let place = lock(&place);
            place.shows && place.node.is_some_and(|node| matches!(node.disk, Whole::Loop(_)))
        })
    }

    pub(super) fn is_under_way(&self, minor: u32) -> bool {
        lock(&self.under_way).contains_key(&minor)
    }

    /// Logs what is wrong, of a device or of all, unless it is what was said last.
    pub(super) fn say(&self, of: Option<u32>, what: &str, error: impl Display) {
        if self.said.is_new(of, &format!("{what}: {error}")) {
            tracing::error!(%error, minor = of, "{what}");
        }
    }

    /// Forgets what was said last: it has gone well since.
    pub(super) fn goes_well(&self, of: Option<u32>) {
        lock(&self.said.0).remove(&of);
    }

    fn places(&self) -> MutexGuard<'_, HashMap<u32, Arc<Mutex<Place>>>> {
        lock(&self.places)
    }
}

/// What becomes of a node that somebody has open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Force {
    /// It stays.
    Refuse,
    /// It goes, if that can be.
    Take,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_once_for_each_change() {
        let said = Said::default();
        let news = [(Some(1), "busy"), (Some(1), "busy"), (Some(2), "busy"), (None, "busy")];
        assert_eq!(news.map(|(of, trouble)| said.is_new(of, trouble)), [true, false, true, true]);
        assert!(said.is_new(Some(1), "gone") && said.is_new(Some(1), "busy"));
    }
}
