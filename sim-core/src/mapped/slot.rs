//! Where bios find the flattened map of a device, and where a suspend takes it from them.

use std::sync::Arc;

use crate::mapped::flat_map::FlatMap;
use crate::sync::gate::Pass;
use crate::sync::primitives::{ArcSwapOption, Guard};

/// The place of the flattened map. It is written with the state of the device locked.
pub(crate) struct MapSlot(ArcSwapOption<FlatMap>);

/// The map as one look found it. A thread can hold few of these at once at no cost: one a layer
/// is too many.
pub(crate) struct FoundMap(Guard<Option<Arc<FlatMap>>>);

impl MapSlot {
    /// Makes one without a map.
    pub(crate) fn empty() -> MapSlot {
        MapSlot(ArcSwapOption::empty())
    }

    /// Looks for the map, at the cost of no count of references.
    pub(crate) fn look(&self) -> FoundMap {
        FoundMap(self.0.load())
    }

    /// Returns the map.
    pub(crate) fn get(&self) -> Option<Arc<FlatMap>> {
        self.0.load_full()
    }

    /// Puts a map where there is none.
    pub(crate) fn put(&self, map: Arc<FlatMap>) {
        self.0.store(Some(map));
    }

    /// Takes the map away and adds it to those that `draining` holds: closed, and perhaps with
    /// bios inside.
    pub(crate) fn take_away(&self, draining: &mut Vec<Arc<FlatMap>>) {
        // A map that another suspend has taken may still have bios in it, which pass through
        // the device of this one too: who suspends waits for those as well.
        draining.retain(|map| map.gate.inside() > 0);
        if let Some(map) = self.0.swap(None) {
            // Whoever found the map before it was taken is kept out, or is inside.
            map.gate.close();
            draining.push(map);
        }
    }
}

impl FoundMap {
    /// Returns the map that was found.
    pub(crate) fn map(&self) -> Option<&Arc<FlatMap>> {
        self.0.as_ref()
    }

    /// Lets a bio go by the map: it stays good for as long as the pass is held.
    pub(crate) fn enter(&self) -> Option<(&FlatMap, Pass<'_>)> {
        let map = self.map()?;
        Some((map, map.gate.try_enter()?))
    }
}
