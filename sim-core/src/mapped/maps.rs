//! The flattened maps that pass through a device: taken away, awaited, folded anew.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};

use super::flat_map::{FlatMap, Place};
use super::fold::fold;
use super::walk::{Destination, walk};
use super::{MappedDevice, Phase};
use crate::ctr::routes::FlatMaps;
use crate::{BoxFuture, DevNumber, Op, Sector};

impl MappedDevice {
    /// Returns the number of extents in the flattened map; `None` while there is no map.
    pub fn extents(&self) -> Option<usize> {
        self.flat.look().map().map(|map| map.len())
    }

    /// Follows a read of a sector down to where it ends up below all tables: the leaf device and the sector
    /// on it, or nothing where it is mapped to zeros, to errors, or by more than a remap.
    ///
    /// Asks each table on the way; [`flat_place`](Self::flat_place) asks the flattened map.
    pub fn walk_place(&self, sector: Sector) -> Option<(DevNumber, Sector)> {
        match walk(self, Op::Read, sector)?.0 {
            Destination::Leaf(leaf, to) => Some((leaf.number(), to)),
            Destination::Zero | Destination::Error | Destination::Opaque => None,
        }
    }

    /// As [`walk_place`](Self::walk_place), by the flattened map; `None` also while there is none.
    pub fn flat_place(&self, sector: Sector) -> Option<(DevNumber, Sector)> {
        let map = self.flat()?;
        match map.find(Op::Read, sector)? {
            (Place::Leaf(leaf, start), begin, _) => {
                Some((map.leaf(*leaf).number(), *start + (sector - begin)))
            }
            (Place::Ask, _, _) => self.walk_place(sector),
            (Place::Zero | Place::Error | Place::Opaque, _, _) => None,
        }
    }

    /// Turns the flattened map on or off, for comparing the two ways. Takes effect at once.
    pub fn set_folding(&self, folding: bool) {
        self.folding.store(folding, SeqCst);
        if folding {
            self.refold();
        } else {
            self.revoke();
        }
    }

    /// Folds the maps anew that pass through this device: something below is mapped otherwise now.
    /// Waits until no bio is left in those that were.
    pub(crate) async fn fold_anew(&self) {
        let _one = self.changing.lock().await;
        for map in self.revoke() {
            map.gate.drained().await;
        }
        self.refold();
    }

    fn maps_upwards(&self, maps: &mut Vec<Arc<FlatMap>>, seen: &mut BTreeSet<u32>) {
        if !seen.insert(self.minor) {
            return;
        }
        let above = {
            let state = self.state();
            maps.extend(self.flat().into_iter().chain(state.draining.iter().cloned()));
            state.above.clone()
        };
        for device in above.values().filter_map(Weak::upgrade) {
            device.maps_upwards(maps, seen);
        }
    }

    /// Closes the flattened maps of this device and of all devices above it, and returns those
    /// that may have bios in them.
    pub(super) fn revoke(&self) -> Vec<Arc<FlatMap>> {
        let (mut revoked, mut seen) = (Vec::new(), BTreeSet::new());
        self.revoke_upwards(&mut revoked, &mut seen);
        revoked
    }

    fn revoke_upwards(&self, revoked: &mut Vec<Arc<FlatMap>>, seen: &mut BTreeSet<u32>) {
        // A device may be reached by many ways, and is looked at once.
        if !seen.insert(self.minor) {
            return;
        }
        let above = {
            let mut state = self.state();
            self.flat.take_away(&mut state.draining);
            revoked.extend(state.draining.iter().cloned());
            state.above.clone()
        };
        for device in above.values().filter_map(Weak::upgrade) {
            device.revoke_upwards(revoked, seen);
        }
    }

    /// Folds the map of this device, then those of the devices above it.
    ///
    /// A map that is there stays: bios may be in it, and it is good, as whatever could change
    /// below takes it away first. Without a map here there is none above either.
    pub(super) fn refold(&self) {
        let above = {
            // Held until the map is in place: whoever revokes it comes before or after.
            let state = self.state();
            let due = state.phase == Phase::Running
                && self.folding.load(SeqCst)
                && !self.faults.is_armed()
                && !self.stats.is_on()
                && !self.tap.is_on();
            if !due || self.flat.look().map().is_some() {
                return;
            }
            let fold = || self.table().as_ref().and_then(|table| fold(table));
            let Some(map) = self.barrier.run(None, fold) else { return };
            self.flat.put(Arc::new(map));
            state.above.clone()
        };
        for device in above.values().filter_map(Weak::upgrade) {
            device.refold();
        }
    }
}

impl FlatMaps for MappedDevice {
    /// Not to be called from within one.
    fn maps_turned_over(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let (mut maps, mut seen) = (Vec::new(), BTreeSet::new());
            self.maps_upwards(&mut maps, &mut seen);
            for map in maps {
                map.gate.turned_over().await;
            }
        })
    }
}
