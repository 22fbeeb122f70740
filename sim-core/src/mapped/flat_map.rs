//! The flattened map: a stack of remap-only targets folded into one sorted list of extents.
//!
//! It is a cache. It may be used while its gate is open; a device below that is suspended closes
//! the gates of all maps that pass through it, waits until they are empty, and only then changes
//! its table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::sync::gate::Gate;
use crate::table::Entry;
use crate::{BlockDevice, DevNumber, Fails, Flat, MappedDevice, Op, Sector, Sectors, Table};

/// A target whose runs are more than this many is asked anew for each bio (striped with its
/// chunks) instead of being written out.
const MAX_RUNS: usize = 16;

/// The most extents in one map; a stack that has more is walked. 32 bytes each.
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
struct Extents {
    ends: Vec<u64>,
    places: Vec<Place>,
}

/// The flattened map of one device.
pub(crate) struct FlatMap {
    /// Bios that use the map pass here.
    pub(crate) gate: Gate,
    reads: Extents,
    /// Nothing where writes go where reads do.
    writes: Option<Extents>,
    leaves: Vec<Arc<dyn BlockDevice>>,
    /// Every device that a flush must reach, where no target on the way wants to see it.
    pub(crate) flush: Option<Vec<Arc<dyn BlockDevice>>>,
    /// No target on the way wants to see how a bio ends.
    pub(crate) unwatched: bool,
}

impl FlatMap {
    /// Folds a table and the maps of the mapped devices below it. `None` where one of those has
    /// no map just now (it is suspended), or where there are too many extents.
    pub(crate) fn fold(table: &Table) -> Option<FlatMap> {
        let mut fold = Fold { unwatched: true, ..Fold::default() };
        let reads = fold.table(table, Op::Read)?;
        let writes = if fold.differs { Some(fold.table(table, Op::Write)?) } else { None };
        let Fold { leaves, unwatched, .. } = fold;
        let flush = flush_devices(table);
        Some(FlatMap { gate: Gate::default(), reads, writes, leaves, flush, unwatched })
    }

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
    fn push(&mut self, end: Sector, place: Place, may_join: bool) {
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
        } else {
            self.ends.push(end.0);
            self.places.push(place);
        }
    }
}

/// A map that is being folded.
#[derive(Default)]
struct Fold {
    extents: Extents,
    leaves: Vec<Arc<dyn BlockDevice>>,
    /// The place of each leaf.
    places: HashMap<DevNumber, usize>,
    unwatched: bool,
    /// Writes go elsewhere than reads, somewhere.
    differs: bool,
}

impl Fold {
    /// Folds the runs of one kind of bio.
    fn table(&mut self, table: &Table, op: Op) -> Option<Extents> {
        for entry in table.entries() {
            self.unwatched &= !entry.profile.watches_end;
            self.target(entry, op)?;
        }
        let mut extents = std::mem::take(&mut self.extents);
        extents.ends.shrink_to_fit();
        extents.places.shrink_to_fit();
        Some(extents)
    }

    fn target(&mut self, entry: &Entry, op: Op) -> Option<()> {
        if entry.profile.reroutes {
            self.push(entry.begin + entry.len, Place::Ask);
            return self.passes_through(entry);
        }
        let (mut runs, mut offset) = (Vec::new(), Sector::ZERO);
        while offset.0 < entry.len.0 {
            let run = match entry.target.flatten(op, offset) {
                // The map would lead past what watches it.
                Flat::Device(area, ..) if area.is_watched() => Flat::Opaque,
                run => run,
            };
            self.differs |=
                op == Op::Read && !run.is_same(&entry.target.flatten(Op::Write, offset));
            let len = match run {
                Flat::Device(_, _, len) | Flat::Zero(len) | Flat::Error(len) => len,
                Flat::Opaque => {
                    self.push(entry.begin + entry.len, Place::Opaque);
                    return Some(());
                }
            };
            assert!(!len.is_zero(), "a run of a flattened target is not empty");
            runs.push((offset, run));
            offset += len;
            if runs.len() > MAX_RUNS {
                self.push(entry.begin + entry.len, Place::Ask);
                return self.passes_through(entry);
            }
        }
        for (offset, run) in runs {
            let begin = entry.begin + offset.from_start();
            match run {
                Flat::Zero(len) => self.push(begin + len, Place::Zero),
                Flat::Error(len) => self.push(begin + len, Place::Error),
                Flat::Opaque => unreachable!("left above"),
                Flat::Device(area, sector, len) => {
                    let start = area.start.wrapping_add(sector.from_start());
                    self.device(op, begin, area.device().device(), start, len)?;
                }
            }
        }
        Some(())
    }

    /// Tells whether every mapped device below a target has a map.
    fn passes_through(&mut self, entry: &Entry) -> Option<()> {
        let (mut all, mut watched) = (true, false);
        entry.target.iterate_devices(&mut |area| {
            if let Some(below) = area.as_mapped() {
                let flat = below.flat();
                all &= flat.is_some();
                watched |= flat.is_some_and(|flat| !flat.unwatched);
            }
        });
        self.unwatched &= !watched;
        all.then_some(())
    }

    fn device(
        &mut self,
        op: Op,
        begin: Sector,
        device: &Arc<dyn BlockDevice>,
        start: Sector,
        len: Sectors,
    ) -> Option<()> {
        let Some(below) = device.as_mapped() else {
            let leaf = self.leaf_index(device);
            self.push(begin + len, Place::Leaf(leaf, start));
            return Some(());
        };
        let below = below.flat()?;
        self.unwatched &= below.unwatched;
        self.differs |= below.writes.is_some();
        let mut done = Sectors::ZERO;
        while done < len {
            let sector = start.wrapping_add(done);
            // Past the end of the device below nothing can be read, up to where addresses begin
            // again at zero.
            let past_end = (&Place::Error, sector, sector.to_wrap());
            let (place, extent, room) = below.find(op, sector).unwrap_or(past_end);
            let run = room.min(len - done);
            let end = begin + done + run;
            match place {
                Place::Leaf(leaf, to) => {
                    let leaf = self.leaf_index(below.leaf(*leaf));
                    self.push(end, Place::Leaf(leaf, to.wrapping_add(sector - extent)));
                }
                Place::Zero => self.push(end, Place::Zero),
                Place::Error => self.push(end, Place::Error),
                // What is below is found by asking the tables on the way.
                Place::Ask => self.push(end, Place::Ask),
                Place::Opaque => self.push(end, Place::Opaque),
            }
            if self.extents.places.len() > MAX_EXTENTS {
                return None;
            }
            done += run;
        }
        Some(())
    }

    fn leaf_index(&mut self, device: &Arc<dyn BlockDevice>) -> usize {
        *self.places.entry(device.number()).or_insert_with(|| {
            self.leaves.push(device.clone());
            self.leaves.len() - 1
        })
    }

    /// Appends the run that ends at `end`.
    ///
    /// Where a target watches how bios end, runs stay apart: an error is told to the target and
    /// the leg of its run, and a run of two could not say whose it was.
    fn push(&mut self, end: Sector, place: Place) {
        self.extents.push(end, place, self.unwatched);
    }
}

/// Gathers the devices that a flush must reach: those of the whole stack, each once. `None`
/// where a target takes flushes through its `map`.
fn flush_devices(table: &Table) -> Option<Vec<Arc<dyn BlockDevice>>> {
    let (mut all, mut known) = (Vec::<Arc<dyn BlockDevice>>::new(), HashSet::new());
    let mut add = |device: &Arc<dyn BlockDevice>| {
        if known.insert(device.number()) {
            all.push(device.clone());
        }
    };
    if table.devices().any(|open| open.fails() != Fails::Nothing) {
        return None;
    }
    for device in table.flush_devices()? {
        match device.as_mapped() {
            None => add(device),
            Some(below) => below.flat()?.flush.as_ref()?.iter().for_each(&mut add),
        }
    }
    Some(all)
}

/// Where one run of a device's sectors ends up, all tables on the way asked.
pub(crate) enum Found {
    Leaf(Arc<dyn BlockDevice>, Sector),
    Zero,
    Error,
    Opaque,
}

/// Follows a sector of a read or a write down through the live tables of a stack, and says where it ends up and how
/// long the run is.
pub(crate) fn walk(device: &MappedDevice, op: Op, sector: Sector) -> Option<(Found, Sectors)> {
    let live = device.table();
    let entry = live.as_ref()?.find(sector)?;
    let offset = (sector - entry.begin).to_sector();
    let left = entry.len - offset.from_start();
    match entry.target.flatten(op, offset) {
        Flat::Zero(len) => Some((Found::Zero, len.min(left))),
        Flat::Error(len) => Some((Found::Error, len.min(left))),
        Flat::Opaque => Some((Found::Opaque, left)),
        Flat::Device(area, ..) if area.is_watched() => Some((Found::Opaque, left)),
        Flat::Device(area, to, len) => {
            let (to, len) = (area.start.wrapping_add(to.from_start()), len.min(left));
            match area.as_mapped() {
                None => Some((Found::Leaf(area.device().device().clone(), to), len)),
                Some(below) => match walk(below, op, to) {
                    Some((found, run)) => Some((found, run.min(len))),
                    None => Some((Found::Error, len.min(to.to_wrap()))),
                },
            }
        }
    }
}
