//! Folds a table, and the maps of the mapped devices below it, into one map.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::MappedDevice;
use super::flat_map::{Extents, FlatMap, Place};
use crate::table::Entry;
use crate::{BlockDevice, DevNumber, Flat, Gate, Op, Sector, Sectors, Table};

/// A target whose runs are more than this many is asked anew for each bio (striped with its
/// chunks) instead of being written out.
const MAX_RUNS: usize = 16;

/// Folds a table and the maps of the mapped devices below it. `None` where one of those has no map
/// just now (it is suspended), where there are too many extents, or no memory for them: the tables
/// are walked then.
pub(super) fn fold(table: &Table) -> Option<FlatMap> {
    let mut fold = Fold { unwatched: true, ..Fold::default() };
    let reads = fold.table(table, Op::Read)?;
    let writes = if fold.differs { Some(fold.table(table, Op::Write)?) } else { None };
    let Fold { leaves, unwatched, .. } = fold;
    let flush = flush_devices(table);
    Some(FlatMap { gate: Gate::default(), reads, writes, leaves, flush, unwatched })
}

/// A map that is being folded.
#[derive(Default)]
struct Fold<'a> {
    extents: Extents,
    /// The runs of the target that is being folded, and where in it they begin.
    runs: Vec<(Sector, Flat<'a>)>,
    leaves: Vec<Arc<dyn BlockDevice>>,
    /// The index of each leaf.
    indices: HashMap<DevNumber, usize>,
    /// The leaf that was looked for last: the next line often has the same.
    last_leaf: Option<(DevNumber, usize)>,
    unwatched: bool,
    /// Writes go elsewhere than reads, somewhere.
    differs: bool,
}

impl<'a> Fold<'a> {
    /// Folds the runs of one kind of bio.
    fn table(&mut self, table: &'a Table, op: Op) -> Option<Extents> {
        for entry in table.entries() {
            self.unwatched &= !entry.profile.watches_end;
            self.target(entry, op)?;
        }
        Some(std::mem::take(&mut self.extents).end())
    }

    fn target(&mut self, entry: &'a Entry, op: Op) -> Option<()> {
        if entry.profile.reroutes {
            self.push(entry.begin + entry.len, Place::Ask)?;
            return self.passes_through(entry);
        }
        self.runs.clear();
        let mut offset = Sector::ZERO;
        while offset.0 < entry.len.0 {
            let run = match entry.target.flatten(op, offset) {
                // The map would lead past what watches it.
                Flat::Device(area, ..) if area.is_watched() => Flat::Opaque,
                run => run,
            };
            // Reads are folded first; once writes are known to differ, nobody asks again.
            self.differs = self.differs || !run.is_same(&entry.target.flatten(Op::Write, offset));
            let len = match run {
                Flat::Device(_, _, len) | Flat::Zero(len) | Flat::Error(len) => len,
                Flat::Opaque => return self.push(entry.begin + entry.len, Place::Opaque),
            };
            assert!(!len.is_zero(), "a run of a flattened target is not empty");
            self.runs.push((offset, run));
            offset += len;
            if self.runs.len() > MAX_RUNS {
                self.push(entry.begin + entry.len, Place::Ask)?;
                return self.passes_through(entry);
            }
        }
        for index in 0..self.runs.len() {
            let (offset, run) = self.runs[index];
            let begin = entry.begin + offset.from_start();
            match run {
                Flat::Zero(len) => self.push(begin + len, Place::Zero)?,
                Flat::Error(len) => self.push(begin + len, Place::Error)?,
                Flat::Opaque => unreachable!("left above"),
                Flat::Device(area, sector, len) => {
                    let start = area.start.wrapping_add(sector.from_start());
                    self.device(op, begin, area.device(), start, len)?;
                }
            }
        }
        Some(())
    }

    /// Tells whether every mapped device below a target has a map.
    fn passes_through(&mut self, entry: &Entry) -> Option<()> {
        let (mut all, mut watched) = (true, false);
        entry.target.iterate_devices(&mut |area| {
            if let Some(below) = MappedDevice::of(&**area.device()) {
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
        let Some(below) = MappedDevice::of(&**device) else {
            let leaf = self.leaf_index(device);
            return self.push(begin + len, Place::Leaf(leaf, start));
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
            let place = match place {
                Place::Leaf(leaf, to) => {
                    let leaf = self.leaf_index(below.leaf(*leaf));
                    Place::Leaf(leaf, to.wrapping_add(sector - extent))
                }
                Place::Zero => Place::Zero,
                Place::Error => Place::Error,
                // What is below is found by asking the tables on the way.
                Place::Ask => Place::Ask,
                Place::Opaque => Place::Opaque,
            };
            self.push(begin + done + run, place)?;
            done += run;
        }
        Some(())
    }

    fn leaf_index(&mut self, device: &Arc<dyn BlockDevice>) -> usize {
        let number = device.number();
        if let Some((last, index)) = self.last_leaf
            && last == number
        {
            return index;
        }
        let index = *self.indices.entry(number).or_insert_with(|| {
            self.leaves.push(device.clone());
            self.leaves.len() - 1
        });
        self.last_leaf = Some((number, index));
        index
    }

    /// Appends the run that ends at `end`.
    ///
    /// Where a target watches how bios end, runs stay apart: an error is told to the target and
    /// the leg of its run, and a run of two could not say whose it was.
    fn push(&mut self, end: Sector, place: Place) -> Option<()> {
        self.extents.push(end, place, self.unwatched)
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
    if table.devices().any(|open| open.is_watched()) {
        return None;
    }
    for device in table.flush_devices()? {
        match MappedDevice::of(&**device) {
            None => add(device),
            Some(below) => below.flat()?.flush.as_ref()?.iter().for_each(&mut add),
        }
    }
    Some(all)
}
