use std::sync::Arc;

use proptest::prelude::*;

use crate::MAX_DEPTH;
use crate::graph::{Edge, Graph, NodeId, Refused};

fn nodes(graph: &Graph, count: usize) -> Vec<NodeId> {
    (0..count).map(|_| graph.node()).collect()
}

#[test]
fn a_device_maps_neither_onto_itself_nor_onto_what_maps_onto_it() {
    let graph = Arc::new(Graph::default());
    let [a, b, c] = nodes(&graph, 3)[..] else { unreachable!("three") };
    assert_eq!(graph.reserve(a, a).unwrap_err(), Refused::Loop);
    let _ab = graph.reserve(a, b).unwrap();
    let _bc = graph.reserve(b, c).unwrap();
    assert_eq!(graph.reserve(c, a).unwrap_err(), Refused::Loop);
    assert!(graph.reserve(a, c).is_ok());
}

#[test]
fn a_stack_is_no_deeper_than_the_limit_wherever_it_grows() {
    let graph = Arc::new(Graph::default());
    let stack = nodes(&graph, MAX_DEPTH as usize + 1);
    let inner = &stack[1..];
    let mut edges: Vec<Edge> =
        inner.windows(2).map(|pair| graph.reserve(pair[0], pair[1]).unwrap()).collect();
    let deep = Refused::TooDeep(MAX_DEPTH + 1);
    assert_eq!(graph.reserve(stack[0], stack[1]).unwrap_err(), deep, "at the top");
    assert_eq!(graph.reserve(stack[MAX_DEPTH as usize], stack[0]).unwrap_err(), deep);
    // With one layer less in the middle there is room on top.
    edges.remove(30);
    assert!(graph.reserve(stack[0], stack[1]).is_ok());
}

#[test]
fn nothing_is_left_of_edges_that_went() {
    let graph = Arc::new(Graph::default());
    let [a, b] = nodes(&graph, 2)[..] else { unreachable!("two") };
    let (one, other) = (graph.reserve(a, b).unwrap(), graph.reserve(a, b).unwrap());
    assert_eq!(graph.opened(b), 2);
    drop(one);
    assert_eq!((graph.opened(b), graph.len()), (1, 2));
    drop(other);
    assert_eq!((graph.opened(b), graph.len()), (0, 0));
}

/// The same by looking at every way.
#[derive(Default)]
struct Model(Vec<(usize, usize)>);

impl Model {
    fn height(&self, node: usize) -> u32 {
        let below = self.0.iter().filter(|edge| edge.0 == node);
        1 + below.map(|edge| self.height(edge.1)).max().unwrap_or(0)
    }
    fn reaches(&self, top: usize, bottom: usize) -> bool {
        let mut below = self.0.iter().filter(|edge| edge.0 == top);
        top == bottom || below.any(|edge| self.reaches(edge.1, bottom))
    }
}

proptest! {
    #[test]
    fn heights_and_loops_are_those_of_a_walk_over_all_edges(
        steps in prop::collection::vec((0..8usize, 0..8usize, any::<prop::sample::Index>(), 0..4u8), 1..60)
    ) {
        let graph = Arc::new(Graph::default());
        let (ids, mut model, mut edges) = (nodes(&graph, 8), Model::default(), Vec::new());
        for (above, below, which, action) in steps {
            if action == 0 && !edges.is_empty() {
                let at = which.index(edges.len());
                edges.remove(at);
                model.0.remove(at);
            } else {
                let made = graph.reserve(ids[above], ids[below]);
                prop_assert_eq!(made.is_err(), model.reaches(below, above));
                if let Ok(edge) = made {
                    edges.push(edge);
                    model.0.push((above, below));
                }
            }
            for (node, id) in ids.iter().enumerate() {
                prop_assert_eq!(graph.height(*id), model.height(node));
                let opened = model.0.iter().filter(|edge| edge.1 == node).count();
                prop_assert_eq!(graph.opened(*id) as usize, opened);
            }
        }
        drop(edges);
        prop_assert_eq!(graph.len(), 0);
    }
}
