//! Which mapped device maps onto which: no device onto itself, and none too deep.

use std::collections::{BTreeMap, BTreeSet};

use super::Cell;
use crate::Table;

/// The mapped devices below each mapped device, by live and inactive tables.
pub(super) struct Graph(BTreeMap<u32, BTreeSet<u32>>);

impl Graph {
    pub(super) fn of(cells: &BTreeMap<u32, Cell>) -> Graph {
        let below = |cell: &Cell| cell.tables().flat_map(|table| mapped_below(&table)).collect();
        Graph(cells.iter().map(|(minor, cell)| (*minor, below(cell))).collect())
    }

    /// Tells whether `top` is `bottom` or lies above it.
    pub(super) fn reaches(&self, top: u32, bottom: u32) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), vec![top]);
        while let Some(minor) = next.pop() {
            if minor == bottom {
                return true;
            }
            if seen.insert(minor) {
                next.extend(self.0.get(&minor).into_iter().flatten());
            }
        }
        false
    }

    /// Counts the devices on top of one another in the tallest stack through `minor`, once its
    /// table is `table`.
    pub(super) fn depth(&self, minor: u32, table: &Table) -> u32 {
        let mut heights = BTreeMap::new();
        let below = mapped_below(table);
        let below = below.iter().map(|below| self.height(*below, &mut heights)).max();
        let mut known = BTreeMap::new();
        let above = self.0.keys().filter_map(|top| self.distance(*top, minor, &mut known)).max();
        below.unwrap_or(0) + 1 + above.unwrap_or(0)
    }

    /// Lists the minors so that each comes after those below it, and `last`, with what is above
    /// them, at the end.
    pub(super) fn bottom_up(&self, last: &[u32]) -> Vec<u32> {
        let mut heights = BTreeMap::new();
        let mut minors: Vec<u32> = self.0.keys().copied().collect();
        minors.sort_by_key(|minor| {
            let is_last = last.iter().any(|last| self.reaches(*minor, *last));
            (is_last, self.height(*minor, &mut heights))
        });
        minors
    }

    fn height(&self, minor: u32, known: &mut BTreeMap<u32, u32>) -> u32 {
        if let Some(height) = known.get(&minor) {
            return *height;
        }
        let below = self.0.get(&minor).into_iter().flatten();
        let height = 1 + below.map(|below| self.height(*below, known)).max().unwrap_or(0);
        known.insert(minor, height);
        height
    }

    /// How many devices lie above `bottom` in the tallest stack from `top` down to it.
    fn distance(
        &self,
        top: u32,
        bottom: u32,
        known: &mut BTreeMap<u32, Option<u32>>,
    ) -> Option<u32> {
        if top == bottom {
            return Some(0);
        }
        if let Some(distance) = known.get(&top) {
            return *distance;
        }
        let below = self.0.get(&top).into_iter().flatten();
        let steps = below.filter_map(|below| self.distance(*below, bottom, known)).max();
        let distance = steps.map(|steps| steps + 1);
        known.insert(top, distance);
        distance
    }
}

/// The mapped devices that a table maps onto.
fn mapped_below(table: &Table) -> Vec<u32> {
    let below = |open: &std::sync::Arc<crate::OpenDevice>| {
        open.device().as_mapped().map(|below| below.minor())
    };
    table.devices().filter_map(below).collect()
}
