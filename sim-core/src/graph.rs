//! Which mapped device maps onto which: no device onto itself, and none too deep.
//!
//! An edge is reserved when a table opens a device, and stays for as long as the table has it open:
//! while the table is built, inactive, on its way between the two slots, live, and until the last
//! bio has let go of it. Loops and depth are decided at that one place, under one lock, so there is
//! never a moment at which a bio could run in a circle or deeper than [`MAX_DEPTH`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::sync::primitives::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::primitives::{Mutex, MutexGuard, PoisonError};

/// The most mapped devices on top of one another: a bio recurses through them. The kernel has no
/// such limit for bio-based tables.
pub const MAX_DEPTH: u32 = 64;

/// A mapped device, told from all that there were before: a minor number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u64);

/// Why a device cannot map onto another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It would map onto itself.
    Loop,
    /// So many devices would lie on top of one another.
    TooDeep(u32),
}

/// The edges between the mapped devices of an instance.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// Devices with an edge; all others have a height of 1.
    nodes: Mutex<BTreeMap<NodeId, Node>>,
    ids: AtomicU64,
}

#[derive(Debug)]
struct Node {
    /// How often each device below is open.
    below: BTreeMap<NodeId, u32>,
    above: BTreeSet<NodeId>,
    /// How often tables have this device open.
    opened: u32,
    /// The devices on top of one another in the tallest stack that ends with this one.
    height: u32,
}

impl Default for Node {
    fn default() -> Node {
        Node { below: BTreeMap::new(), above: BTreeSet::new(), opened: 0, height: 1 }
    }
}

/// A device that another one has open; given back when dropped.
#[derive(Debug)]
pub(crate) struct Edge {
    graph: Arc<Graph>,
    above: NodeId,
    below: NodeId,
}

impl Graph {
    /// Returns an id that no device has had.
    pub(crate) fn node(&self) -> NodeId {
        NodeId(self.ids.fetch_add(1, Relaxed))
    }

    /// Notes that a table of `above` opens `below`.
    pub(crate) fn reserve(
        self: &Arc<Graph>,
        above: NodeId,
        below: NodeId,
    ) -> Result<Edge, Refused> {
        let mut nodes = self.nodes();
        if above == below || nodes.reaches(below, above) {
            return Err(Refused::Loop);
        }
        nodes.connect(above, below);
        let height = nodes.height(below) + 1;
        let depth = nodes.raise(above, height);
        if depth > MAX_DEPTH {
            nodes.disconnect(above, below);
            return Err(Refused::TooDeep(depth));
        }
        Ok(Edge { graph: self.clone(), above, below })
    }

    /// Returns how often tables have a device open.
    pub(crate) fn opened(&self, node: NodeId) -> u32 {
        self.nodes().get(&node).map_or(0, |node| node.opened)
    }

    /// Sorts devices so that each comes after those below it, and `last`, with what is above
    /// them, at the end.
    pub(crate) fn bottom_up<T>(
        &self,
        devices: &mut [T],
        id: impl Fn(&T) -> NodeId,
        last: &[NodeId],
    ) {
        let nodes = self.nodes();
        let (mut late, mut next) = (BTreeSet::new(), last.to_vec());
        while let Some(node) = next.pop() {
            if late.insert(node) {
                next.extend(nodes.get(&node).into_iter().flat_map(|node| &node.above));
            }
        }
        devices.sort_by_key(|device| {
            let node = id(device);
            (late.contains(&node), nodes.height(node))
        });
    }

    /// Returns how many devices lie on top of one another in the tallest stack that ends with this
    /// one.
    #[cfg(test)]
    pub(crate) fn height(&self, node: NodeId) -> u32 {
        self.nodes().height(node)
    }

    /// Returns how many devices have an edge.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes().len()
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.graph.nodes().disconnect(self.above, self.below);
    }
}

type Nodes = BTreeMap<NodeId, Node>;

/// What is done to the nodes with the lock held.
trait Edges {
    fn height(&self, node: NodeId) -> u32;
    fn reaches(&self, top: NodeId, bottom: NodeId) -> bool;
    fn connect(&mut self, above: NodeId, below: NodeId);
    fn disconnect(&mut self, above: NodeId, below: NodeId);
    fn raise(&mut self, node: NodeId, height: u32) -> u32;
    fn lower(&mut self, node: NodeId);
    fn check_height(&self, height: u32);
}

impl Edges for Nodes {
    fn height(&self, node: NodeId) -> u32 {
        self.get(&node).map_or(1, |node| node.height)
    }

    /// Tells whether `bottom` lies below `top`. Looks down from the one and up from the other by
    /// turns, so it costs what the smaller side costs: a new device has nothing above it.
    fn reaches(&self, top: NodeId, bottom: NodeId) -> bool {
        let (mut down, mut up) = (Search::from(top), Search::from(bottom));
        loop {
            let Some(node) = down.next() else { return false };
            if node == bottom {
                return true;
            }
            // What lies above `bottom` is taller, so nothing smaller leads to it.
            let below = self.get(&node).into_iter().flat_map(|node| node.below.keys());
            down.add(below.filter(|below| self.height(**below) >= self.height(bottom)));
            let Some(node) = up.next() else { return false };
            if node == top {
                return true;
            }
            up.add(self.get(&node).into_iter().flat_map(|node| &node.above));
        }
    }

    fn connect(&mut self, above: NodeId, below: NodeId) {
        *self.entry(above).or_default().below.entry(below).or_default() += 1;
        let node = self.entry(below).or_default();
        node.above.insert(above);
        node.opened += 1;
    }

    fn disconnect(&mut self, above: NodeId, below: NodeId) {
        let node = self.get_mut(&below).expect("an edge has two ends");
        node.opened -= 1;
        let node = self.get_mut(&above).expect("an edge has two ends");
        let count = node.below.get_mut(&below).expect("an edge is counted");
        *count -= 1;
        if *count > 0 {
            return;
        }
        node.below.remove(&below);
        self.get_mut(&below).expect("found before").above.remove(&above);
        self.lower(above);
        for node in [above, below] {
            if self.get(&node).is_some_and(|n| n.below.is_empty() && n.above.is_empty()) {
                self.remove(&node);
            }
        }
    }

    /// Makes a device at least so tall, and with it what lies above. Returns the height of the
    /// tallest of these.
    fn raise(&mut self, node: NodeId, height: u32) -> u32 {
        let (mut tallest, mut next) = (self.height(node), vec![(node, height)]);
        while let Some((node, height)) = next.pop() {
            self.check_height(height);
            let Some(node) = self.get_mut(&node).filter(|node| node.height < height) else {
                continue;
            };
            node.height = height;
            tallest = tallest.max(height);
            next.extend(node.above.iter().map(|above| (*above, height + 1)));
        }
        tallest
    }

    /// Makes a device that lost one below only as tall as it has to be, and with it what lies
    /// above.
    fn lower(&mut self, node: NodeId) {
        let mut next = vec![node];
        while let Some(id) = next.pop() {
            let Some(node) = self.get(&id) else { continue };
            let heights = || node.below.keys().map(|below| self.height(*below));
            // Most often another one of the same height is left, and found at once.
            if heights().any(|below| below + 1 == node.height) {
                continue;
            }
            let height = 1 + heights().max().unwrap_or(0);
            self.check_height(height);
            let node = self.get_mut(&id).expect("found above");
            if node.height != height {
                node.height = height;
                next.extend(&node.above);
            }
        }
    }

    /// Ends what would go round a loop for ever: without one, no stack is taller than there are
    /// devices.
    fn check_height(&self, height: u32) {
        assert!(height as usize <= self.len(), "a device lies above itself");
    }
}

/// A search over devices, each of which is looked at once.
struct Search {
    seen: BTreeSet<NodeId>,
    next: Vec<NodeId>,
}

impl Search {
    fn from(node: NodeId) -> Search {
        Search { seen: BTreeSet::from([node]), next: vec![node] }
    }

    fn next(&mut self) -> Option<NodeId> {
        self.next.pop()
    }

    fn add<'a>(&mut self, nodes: impl Iterator<Item = &'a NodeId>) {
        for node in nodes {
            if self.seen.insert(*node) {
                self.next.push(*node);
            }
        }
    }
}
