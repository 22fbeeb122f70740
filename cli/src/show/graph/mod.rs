//! `graph`: a stack as a picture, for graphviz or as SVG.

mod dot;
mod layout;
mod svg;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ops::size::print_size;
use ops::{Node, NodeKind};
use recognise::shown_line;
use sim_core::{DevNumber, SECTOR_SIZE};

pub(crate) use dot::dot;
pub(super) use svg::escaped;
pub(crate) use svg::svg;

/// What is drawn: each device and image once, and who maps onto what.
#[derive(Default)]
pub(crate) struct Graph {
    boxes: BTreeMap<DevNumber, Labels>,
    /// From the device above to the one below.
    edges: BTreeMap<(DevNumber, DevNumber), Edge>,
    /// How far above the bottom each box is: images at zero, a device one above the highest that it maps onto.
    levels: BTreeMap<DevNumber, usize>,
}

/// What a box says.
struct Labels {
    name: String,
    /// Number, size and target types.
    what: String,
    /// The file of an image.
    file: Option<String>,
    look: Look,
}

/// How a box is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Device,
    Suspended,
    Image,
    /// An image that fails, or whose file is gone.
    Broken,
}

/// How an arrow is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Maps,
    /// What is sent that way fails on purpose.
    Fails,
}

impl Graph {
    /// Takes a stack apart.
    pub(crate) fn new(roots: &[Node]) -> Graph {
        let mut graph = Graph::default();
        for root in roots {
            graph.add(root);
        }
        graph
    }

    /// Adds a device or an image, with all that is below it; returns how far above the bottom it is.
    fn add(&mut self, node: &Node) -> usize {
        // A device under two others comes twice, with all that is below it.
        if let Some(level) = self.levels.get(&node.dev) {
            return *level;
        }
        let labels = Labels::new(node);
        let mut level = usize::from(labels.file.is_none());
        self.boxes.insert(node.dev, labels);
        for below in &node.below {
            let edge = if below.fails.is_some() { Edge::Fails } else { Edge::Maps };
            self.edges.insert((node.dev, below.dev), edge);
            level = level.max(self.add(below) + 1);
        }
        self.levels.insert(node.dev, level);
        level
    }
}

impl Labels {
    fn new(node: &Node) -> Labels {
        let size = print_size(node.size * SECTOR_SIZE);
        let (file, look, types) = match &node.kind {
            NodeKind::Targets { targets, suspended, .. } => {
                let look = if *suspended { Look::Suspended } else { Look::Device };
                let types = match targets.is_empty() {
                    true => ", no live table".to_owned(),
                    false => format!(", {}", targets.join(" ")),
                };
                (None, look, types)
            }
            NodeKind::File { file, fault, lost, .. } => {
                let is_well = fault.is_none() && lost.is_none();
                let look = if is_well { Look::Image } else { Look::Broken };
                (Some(shown_line(file).into_owned()), look, String::new())
            }
        };
        let suspended = if look == Look::Suspended { ", suspended" } else { "" };
        let what = format!("{} {size}{types}{suspended}", node.dev);
        let name = shown_line(&node.name).into_owned();
        Labels { name, what: shown_line(&what).into_owned(), file, look }
    }

    /// All lines of the box, none cut short.
    fn lines(&self) -> Vec<&str> {
        [&*self.name, &*self.what].into_iter().chain(self.file.as_deref()).collect()
    }
}
