//! The flattened map: a stack of remap-only targets folded into one sorted list of extents.
//!
//! It is a cache. It may be used while its gate is open; a device below that is suspended closes
//! the gates of all maps that pass through it, waits until they are empty, and only then changes
//! its table.

use std::sync::Arc;

use crate::{BlockDevice, Gate, Op, Sector, Sectors};

/// The most extents of reads, or of writes, in one map; a stack that has more is walked. 32 bytes
/// each.
const MAX_EXTENTS: usize = 4 << 20;

/// Where a run of sectors ends up below all targets.
pub(crate) enum Place {
    /// On this leaf, from this sector on.
    Leaf(usize, Sector),
    Zero,
    Error,
    /// Whatever the target says for each bio: it has too many runs to write them out.
    Ask,
    /// More than a remap happens here.
    Opaque,
}

/// A sorted list of runs.
#[derive(Default)]
pub(super) struct Extents {
    ends: Vec<u64>,
    places: Vec<Place>,
}

/// The flattened map of one device.
pub(crate) struct FlatMap {
    /// Bios that use the map pass here.
    pub(crate) gate: Gate,
    pub(super) reads: Extents,
    /// Nothing where writes go where reads do.
    pub(super) writes: Option<Extents>,
    pub(super) leaves: Vec<Arc<dyn BlockDevice>>,
    /// Every device that a flush must reach, where no target on the way wants to see it.
    pub(crate) flush: Option<Vec<Arc<dyn BlockDevice>>>,
    /// No target on the way wants to see how a bio ends.
    pub(crate) unwatched: bool,
}

impl FlatMap {
    /// Returns where a read or a write of `sector` ends up, and how many sectors from it on do so
    /// in one run.
    pub(crate) fn find(&self, op: Op, sector: Sector) -> Option<(&Place, Sector, Sectors)> {
        self.extents(op).find(sector)
    }

    /// Returns a leaf by its index in the map.
    pub(crate) fn leaf(&self, index: usize) -> &Arc<dyn BlockDevice> {
        &self.leaves[index]
    }

    /// Returns the number of extents.
    pub(crate) fn len(&self) -> usize {
        self.reads.places.len() + self.writes.as_ref().map_or(0, |writes| writes.places.len())
    }

    fn extents(&self, op: Op) -> &Extents {
        match (op, &self.writes) {
            (Op::Write, Some(writes)) => writes,
            _ => &self.reads,
        }
    }
}

impl Extents {
    fn find(&self, sector: Sector) -> Option<(&Place, Sector, Sectors)> {
        let index = self.ends.partition_point(|end| *end <= sector.0);
        let begin = if index == 0 { 0 } else { self.ends[index - 1] };
        let place = self.places.get(index)?;
        Some((place, Sector(begin), Sector(self.ends[index]) - sector))
    }

    /// Appends the run that ends at `end`, or lengthens the last one by it where it `may_join`.
    /// `None` where there are too many, or no memory for one more.
    pub(super) fn push(&mut self, end: Sector, place: Place, may_join: bool) -> Option<()> {
        let begin = self.ends.last().copied().unwrap_or(0);
        let last_begin = self.ends.len().checked_sub(2).map_or(0, |at| self.ends[at]);
        let joins = match (self.places.last(), &place) {
            (Some(Place::Leaf(a, at)), Place::Leaf(b, to)) => {
                a == b && at.0.wrapping_add(begin - last_begin) == to.0
            }
            (Some(Place::Zero), Place::Zero)
            | (Some(Place::Error), Place::Error)
            | (Some(Place::Ask), Place::Ask)
            | (Some(Place::Opaque), Place::Opaque) => true,
            _ => false,
        };
        if joins && may_join {
            *self.ends.last_mut().expect("an extent has an end") = end.0;
            return Some(());
        }
        if self.places.len() == MAX_EXTENTS {
            return None;
        }
        self.ends.try_reserve(1).ok()?;
        self.places.try_reserve(1).ok()?;
        self.ends.push(end.0);
        self.places.push(place);
        Some(())
    }

    /// Gives back the room for what does not come.
    pub(super) fn end(mut self) -> Extents {
        self.ends.shrink_to_fit();
        self.places.shrink_to_fit();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_no_more_extents_than_the_limit() {
        let mut extents = Extents::default();
        let place = || Place::Leaf(0, Sector::ZERO);
        for end in 1..=MAX_EXTENTS as u64 {
            assert!(extents.push(Sector(end), place(), true).is_some());
        }
        let end = MAX_EXTENTS as u64 + 1;
        assert!(extents.push(Sector(end), place(), true).is_none());
        let last = Place::Leaf(0, Sector(1));
        assert!(extents.push(Sector(end), last, true).is_some(), "one that joins needs no room");
    }
}
