//! Which sectors of a device below are written through which mapped devices: two that write the same
//! ones are legal, and most often a mistake, so that whoever brings the second into use is told.
//!
//! Only what a table maps onto directly is looked at. Where two devices lead to one place by several
//! layers, there is one at which their ways meet, and it is told when those come into use.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use crate::graph::NodeId;
use crate::{DevNumber, Table};

/// The most runs of one table that are looked at. More would cost a table of a million lines more
/// than they tell.
const MAX_RUNS: usize = 1 << 16;

/// Sectors of a device: the first, and the first after them.
pub(super) type Run = (DevNumber, u64, u64);

/// Another device that writes where one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shared {
    /// The minor number of the other.
    pub(super) other: u32,
    /// Where both write.
    pub(super) run: Run,
}

/// What the mapped devices that are in use write to.
#[derive(Default)]
pub(super) struct Claims {
    devices: BTreeMap<NodeId, Claim>,
    below: HashMap<DevNumber, Ranges>,
    /// How often a device came into use, or went out of it.
    changes: u64,
}

/// What one device writes to.
struct Claim {
    minor: u32,
    /// The table by which it does.
    table: Weak<Table>,
    /// None while it is suspended.
    runs: Vec<Run>,
    /// The change by which it came into use, or went out of it.
    since: u64,
}

impl Claims {
    /// Notes that a device writes by a table from now on, to these runs and to no others; tells of
    /// another device that writes to some of them, unless that was so with this table before.
    pub(super) fn set(
        &mut self,
        node: NodeId,
        minor: u32,
        table: &Arc<Table>,
        runs: Vec<Run>,
    ) -> Option<Shared> {
        let before = self.take(node);
        let known = before.filter(|claim| std::ptr::eq(claim.table.as_ptr(), Arc::as_ptr(table)));
        let runs = joined(runs);
        let shared = runs.iter().find_map(|&(dev, start, end)| {
            let (from, to, other) = self.below.get(&dev)?.meeting(start, end)?;
            let other = &self.devices[&other];
            let is_news = known.as_ref().is_none_or(|known| {
                // Of one that was in use all the time it was told then, or it is told of this one.
                known.runs.is_empty() && other.since > known.since
            });
            is_news.then(|| Shared { other: other.minor, run: (dev, start.max(from), end.min(to)) })
        });
        for &(dev, start, end) in &runs {
            self.below.entry(dev).or_default().insert((start, end, node));
        }
        self.put(node, Claim { minor, table: Arc::downgrade(table), runs, since: 0 });
        shared
    }

    /// Notes that a device writes to nothing for as long as it is suspended.
    pub(super) fn suspend(&mut self, node: NodeId) {
        if let Some(claim) = self.take(node) {
            self.put(node, Claim { runs: Vec::new(), ..claim });
        }
    }

    /// Notes that a device is gone.
    pub(super) fn remove(&mut self, node: NodeId) {
        self.take(node);
    }

    fn put(&mut self, node: NodeId, claim: Claim) {
        self.changes += 1;
        self.devices.insert(node, Claim { since: self.changes, ..claim });
    }

    fn take(&mut self, node: NodeId) -> Option<Claim> {
        let claim = self.devices.remove(&node)?;
        for &(dev, start, end) in &claim.runs {
            let Some(ranges) = self.below.get_mut(&dev) else { continue };
            ranges.remove((start, end, node));
            if ranges.is_empty() {
                self.below.remove(&dev);
            }
        }
        Some(claim)
    }
}

/// Gathers the runs that a table may write to; none of one that is read-only, or of a device below
/// that is.
pub(super) fn written(table: &Table) -> Vec<Run> {
    let mut runs = Vec::new();
    if table.access().is_read_only() {
        return runs;
    }
    table.each_written(&mut |area| {
        let (start, len) = (area.start.0, area.size().0);
        let is_written = len > 0 && !area.access().is_read_only();
        if is_written && !area.device().access().is_read_only() && runs.len() < MAX_RUNS {
            runs.push((area.number(), start, start.saturating_add(len)));
        }
    });
    runs
}

/// Sorts runs, and joins those that touch.
fn joined(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable();
    runs.dedup_by(|next, run| {
        let touches = next.0 == run.0 && next.1 <= run.2;
        if touches {
            run.2 = run.2.max(next.2);
        }
        touches
    });
    runs
}

/// One run, and whose it is.
type Owned = (u64, u64, NodeId);

/// Runs that may lie on one another, each in the smallest block of a power of two, at a multiple of its
/// size, that holds all of it. So it has both sides of the middle of its block, and the runs of a
/// block that meet another one are found at the ends of a list: adding, removing and looking cost
/// the logarithm of how many there are, however they lie.
#[derive(Default)]
struct Ranges {
    /// By the size of the block as a power of two, then by its place.
    blocks: BTreeMap<u32, BTreeMap<u64, Block>>,
}

#[derive(Default)]
struct Block {
    by_start: BTreeSet<Owned>,
    /// The same, each with its end before its start.
    by_end: BTreeSet<Owned>,
}

impl Ranges {
    fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    fn insert(&mut self, run: Owned) {
        let (start, end, owner) = run;
        let (size, at) = block_of(start, end);
        let block = self.blocks.entry(size).or_default().entry(at).or_default();
        block.by_start.insert(run);
        block.by_end.insert((end, start, owner));
    }

    fn remove(&mut self, run: Owned) {
        let (start, end, owner) = run;
        let (size, at) = block_of(start, end);
        let Some(blocks) = self.blocks.get_mut(&size) else { return };
        let Some(block) = blocks.get_mut(&at) else { return };
        block.by_start.remove(&run);
        block.by_end.remove(&(end, start, owner));
        if block.by_start.is_empty() {
            blocks.remove(&at);
        }
        if blocks.is_empty() {
            self.blocks.remove(&size);
        }
    }

    /// Finds a run that has a sector with this one in common.
    fn meeting(&self, start: u64, end: u64) -> Option<Owned> {
        self.blocks.iter().find_map(|(size, blocks)| {
            let places = place(start, *size)..=place(end - 1, *size);
            // All but the first and the last lie within the run, and so does what is in them.
            blocks
                .range(places)
                .find_map(|(at, block)| block.meeting(middle(*at, *size), start, end))
        })
    }
}

impl Block {
    /// Finds a run of the block that meets another one, given the first sector past the block's middle.
    fn meeting(&self, middle: u64, start: u64, end: u64) -> Option<Owned> {
        let first = self.by_start.first().copied()?;
        if end <= middle {
            return (first.0 < end).then_some(first);
        }
        if start >= middle {
            let &(last, from, owner) = self.by_end.last()?;
            return (last > start).then_some((from, last, owner));
        }
        Some(first)
    }
}

/// Returns the block that a run is in: its size as a power of two, and its place.
fn block_of(start: u64, end: u64) -> (u32, u64) {
    let size = u64::BITS - (start ^ (end - 1)).leading_zeros();
    (size, place(start, size))
}

fn place(sector: u64, size: u32) -> u64 {
    sector.checked_shr(size).unwrap_or(0)
}

/// Returns the first sector past the middle of a block; of one sector, that sector.
fn middle(at: u64, size: u32) -> u64 {
    match size.checked_sub(1) {
        None => at,
        Some(half) => (2 * at + 1) << half,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use proptest::prelude::*;

    fn run() -> impl Strategy<Value = (u64, u64)> {
        let near = (0..100u64, 1..40u64);
        let far = (any::<u64>(), 1..=u64::MAX);
        prop_oneof![3 => near, 1 => far].prop_map(|(start, len)| {
            let start = start.min(u64::MAX - 1);
            (start, start.saturating_add(len))
        })
    }

    proptest! {
        #[test]
        fn what_meets_a_run_is_found_as_in_a_plain_list(
            steps in prop::collection::vec((run(), 0..3u8), 0..60)
        ) {
            let (graph, mut ranges, mut model) = (Graph::default(), Ranges::default(), Vec::new());
            for ((start, end), step) in steps {
                match step {
                    0 => if !model.is_empty() {
                        ranges.remove(model.swap_remove(start as usize % model.len()));
                    },
                    _ => {
                        let owned = (start, end, graph.node());
                        ranges.insert(owned);
                        model.push(owned);
                    }
                }
                for (from, to) in [(start, end), (start, start + 1), (end - 1, end)] {
                    let meets = |run: &Owned| run.0 < to && from < run.1;
                    match ranges.meeting(from, to) {
                        Some(found) => prop_assert!(meets(&found) && model.contains(&found)),
                        None => prop_assert!(!model.iter().any(meets)),
                    }
                }
                prop_assert_eq!(ranges.is_empty(), model.is_empty());
            }
        }
    }

    /// With a look at each of those before, this would take an hour.
    #[test]
    fn a_run_costs_no_more_where_many_others_lie() {
        let (graph, mut ranges) = (Graph::default(), Ranges::default());
        let runs: Vec<Owned> =
            (0..200_000).map(|nr| (nr % 64, 64 + nr % 1000, graph.node())).collect();
        for run in &runs {
            assert_eq!(ranges.meeting(run.0, run.1).is_some(), run != &runs[0]);
            ranges.insert(*run);
        }
        runs.iter().for_each(|run| ranges.remove(*run));
        assert!(ranges.is_empty());
    }

    #[test]
    fn runs_that_touch_are_one() {
        let dev = |minor| DevNumber { major: 7, minor };
        let runs = vec![(dev(0), 8, 16), (dev(1), 16, 20), (dev(0), 0, 8), (dev(0), 17, 20)];
        assert_eq!(joined(runs), [(dev(0), 0, 16), (dev(0), 17, 20), (dev(1), 16, 20)]);
    }
}
