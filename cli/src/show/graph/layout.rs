//! Where boxes and arrows go: layer over layer, images at the bottom.

use std::collections::BTreeMap;

use sim_core::DevNumber;

use super::{Edge, Graph};

/// The size of a box, in pixels.
pub(super) const WIDTH: i64 = 252;
pub(super) const HEIGHT: i64 = 60;
/// Room between boxes side by side, and between layers.
const GAP: i64 = 28;
const RISE: i64 = 72;
/// The room of an arrow that passes a layer.
const WAY: i64 = 16;
pub(super) const MARGIN: i64 = 16;

/// How often the order of layers is made better.
const SWEEPS: usize = 8;

/// What is in a layer: a box, or an arrow that passes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Box(DevNumber),
    Way(DevNumber, DevNumber),
}

/// A picture.
pub(super) struct Layout {
    pub(super) width: i64,
    pub(super) height: i64,
    /// The upper left corner of each box.
    pub(super) boxes: Vec<(DevNumber, (i64, i64))>,
    /// The points that each arrow goes through, from above.
    pub(super) arrows: Vec<(Edge, Vec<(i64, i64)>)>,
}

pub(super) fn layout(graph: &Graph) -> Layout {
    let levels = &graph.levels;
    let top = levels.values().copied().max().unwrap_or(0);
    let mut layers: Vec<Vec<Item>> = vec![Vec::new(); top + 1];
    for (dev, level) in levels {
        layers[*level].push(Item::Box(*dev));
    }
    for (above, below) in graph.edges.keys() {
        for layer in &mut layers[levels[below] + 1..levels[above]] {
            layer.push(Item::Way(*above, *below));
        }
    }
    // What hangs together one layer further.
    let mut links: Vec<(Item, Item)> = Vec::new();
    for (above, below) in graph.edges.keys() {
        let long = levels[above] - levels[below] > 1;
        let way = Item::Way(*above, *below);
        match long {
            true => links.extend([(Item::Box(*above), way), (way, Item::Box(*below))]),
            false => links.push((Item::Box(*above), Item::Box(*below))),
        }
    }
    order(&mut layers, &links);
    place(graph, &layers)
}

/// Orders each layer by where the middle of what it is linked to is, from the bottom up and back.
fn order(layers: &mut [Vec<Item>], links: &[(Item, Item)]) {
    let count = layers.len();
    for sweep in 0..SWEEPS {
        for step in 1..count {
            let up = sweep % 2 == 0;
            let (at, by) = if up { (step, step - 1) } else { (count - 1 - step, count - step) };
            let places: BTreeMap<Item, usize> =
                layers[by].iter().enumerate().map(|(place, item)| (*item, place)).collect();
            let middle = |item: Item, now: usize| {
                let linked = links.iter().filter_map(|(above, below)| match item {
                    // A way is linked to itself in the next layer.
                    Item::Way(..) if places.contains_key(&item) => Some(&item),
                    _ if *above == item && up => Some(below),
                    _ if *below == item && !up => Some(above),
                    _ => None,
                });
                let found: Vec<usize> =
                    linked.filter_map(|other| places.get(other).copied()).collect();
                match found.len() {
                    0 => (now * 1000, now),
                    len => (found.iter().sum::<usize>() * 1000 / len, now),
                }
            };
            let mut keyed: Vec<((usize, usize), Item)> = layers[at]
                .iter()
                .enumerate()
                .map(|(now, item)| (middle(*item, now), *item))
                .collect();
            keyed.sort();
            layers[at] = keyed.into_iter().map(|(_, item)| item).collect();
        }
    }
}

fn place(graph: &Graph, layers: &[Vec<Item>]) -> Layout {
    let levels = &graph.levels;
    let room = |item: &Item| match item {
        Item::Box(_) => WIDTH,
        Item::Way(..) => WAY,
    };
    let span = |layer: &Vec<Item>| {
        layer.iter().map(room).sum::<i64>() + GAP * (layer.len() as i64 - 1).max(0)
    };
    let widest = layers.iter().map(span).max().unwrap_or(0);
    let top = layers.len() as i64 - 1;
    let y_of = |level: usize| MARGIN + (top - level as i64) * (HEIGHT + RISE);
    let mut boxes = Vec::new();
    let mut corners: BTreeMap<DevNumber, (i64, i64)> = BTreeMap::new();
    let mut ways: BTreeMap<(DevNumber, DevNumber), Vec<(i64, i64)>> = BTreeMap::new();
    for (level, layer) in layers.iter().enumerate().rev() {
        let (mut x, y) = (MARGIN + (widest - span(layer)) / 2, y_of(level));
        for item in layer {
            match item {
                Item::Box(dev) => {
                    boxes.push((*dev, (x, y)));
                    corners.insert(*dev, (x, y));
                }
                Item::Way(above, below) => {
                    let points = ways.entry((*above, *below)).or_default();
                    points.extend([(x + WAY / 2, y), (x + WAY / 2, y + HEIGHT)]);
                }
            }
            x += room(item) + GAP;
        }
    }
    let arrows = graph.edges.iter().map(|((above, below), edge)| {
        let port = |dev: DevNumber, of: &dyn Fn(&(DevNumber, DevNumber)) -> Option<DevNumber>| {
            // Arrows of one box leave it side by side, in the order of their other ends.
            let mut others: Vec<(i64, DevNumber)> =
                graph.edges.keys().filter_map(of).map(|dev| (corners[&dev].0, dev)).collect();
            others.sort_unstable();
            let (count, other) = (others.len() as i64, if dev == *above { below } else { above });
            let at = others.iter().position(|(_, dev)| dev == other).unwrap_or(0) as i64;
            corners[&dev].0 + WIDTH * (at + 1) / (count + 1)
        };
        let from = port(*above, &|(from, to)| (from == above).then_some(*to));
        let to = port(*below, &|(from, to)| (to == below).then_some(*from));
        let mut points = vec![(from, y_of(levels[above]) + HEIGHT)];
        points.extend(ways.remove(&(*above, *below)).unwrap_or_default());
        points.push((to, y_of(levels[below])));
        (*edge, points)
    });
    let arrows = arrows.collect();
    let height = 2 * MARGIN + (top + 1) * HEIGHT + top * RISE;
    Layout { width: widest + 2 * MARGIN, height, boxes, arrows }
}
