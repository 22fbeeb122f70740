//! Bios that go by a flattened map while devices below change their tables.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use shuttle::thread;

use crate::mapped::flat_map::FlatMap;
use crate::slot::MapSlot;
use crate::sync::gate::Gate;
use crate::{join, try_interleavings};

/// A device on top of two others.
struct Device {
    map: MapSlot,
    /// The state of the device: maps that were taken away.
    draining: Mutex<Vec<Arc<FlatMap>>>,
    below: [Below; 2],
}

/// A device below: which table it has, counted.
#[derive(Default)]
struct Below {
    table: AtomicU32,
    suspended: AtomicBool,
}

impl Device {
    fn new() -> Arc<Device> {
        let (map, draining) = (MapSlot::empty(), Mutex::default());
        let device = Device { map, draining, below: Default::default() };
        device.refold();
        Arc::new(device)
    }

    fn tables(&self) -> [u32; 2] {
        self.below.each_ref().map(|below| below.table.load(SeqCst))
    }

    /// Folds the map anew, unless a device below is suspended.
    fn refold(&self) {
        let _state = self.draining.lock().expect("no scene goes on after a panic");
        let suspended = self.below.iter().any(|below| below.suspended.load(SeqCst));
        if suspended || self.map.get().is_some() {
            return;
        }
        self.map.put(Arc::new(FlatMap { gate: Gate::default(), folded_of: self.tables() }));
    }

    /// Gives a device below another table, while nobody passes through the one before.
    fn change(&self, below: &Below) {
        below.suspended.store(true, SeqCst);
        let revoked = {
            let mut draining = self.draining.lock().expect("no scene goes on after a panic");
            self.map.take_away(&mut draining);
            draining.clone()
        };
        for map in revoked {
            block_on(map.gate.drained());
        }
        below.table.fetch_add(1, SeqCst);
        below.suspended.store(false, SeqCst);
        self.refold();
    }

    /// Sends a bio by the map, if there is one just now.
    fn send(&self) {
        let look = self.map.look();
        let Some((map, _pass)) = look.enter() else { return };
        for _ in 0..2 {
            assert_eq!(map.folded_of, self.tables(), "the tables that the bio passes through");
        }
    }
}

fn scene(changes: usize) {
    let device = Device::new();
    let bios = [(); 2].map(|()| {
        let device = device.clone();
        thread::spawn(move || device.send())
    });
    let changing: Vec<_> = (0..changes)
        .map(|which| {
            let device = device.clone();
            thread::spawn(move || device.change(&device.below[which]))
        })
        .collect();
    join(bios);
    join(changing);
    let map = device.map.get().expect("who resumes last folds the map");
    assert_eq!(map.folded_of.iter().sum::<u32>() as usize, changes);
}

#[test]
fn no_table_below_a_map_changes_while_a_bio_goes_by_it() {
    try_interleavings(|| scene(1));
}

#[test]
fn a_map_that_one_suspend_has_taken_is_waited_for_by_the_next() {
    try_interleavings(|| scene(2));
}
