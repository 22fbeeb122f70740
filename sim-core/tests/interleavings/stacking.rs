//! Tables that open devices at the same time.

use std::sync::Arc;

use shuttle::thread;

use crate::graph::{Graph, Refused};
use crate::{join, try_interleavings};

#[test]
fn tables_that_are_built_at_once_make_no_loop() {
    try_interleavings(|| {
        let graph = Arc::new(Graph::default());
        let nodes = [(); 3].map(|()| graph.node());
        let tables = [(0, 1), (1, 2), (2, 0)].map(|(above, below)| {
            let graph = graph.clone();
            thread::spawn(move || graph.reserve(nodes[above], nodes[below]))
        });
        let edges = join(tables);
        let refused = edges.iter().filter_map(|edge| edge.as_ref().err());
        assert_eq!(refused.collect::<Vec<_>>(), [&Refused::Loop], "the last of them closes it");
        let mut heights = nodes.map(|node| graph.height(node));
        heights.sort();
        assert_eq!(heights, [1, 2, 3]);
        drop(edges);
        assert_eq!(graph.len(), 0);
    });
}

#[test]
fn nothing_is_left_of_edges_that_come_and_go_at_once() {
    try_interleavings(|| {
        let graph = Arc::new(Graph::default());
        let [a, b] = [(); 2].map(|()| graph.node());
        let tables = [(a, b), (a, b), (b, a)].map(|(above, below)| {
            let graph = graph.clone();
            thread::spawn(move || drop(graph.reserve(above, below)))
        });
        join(tables);
        assert_eq!((graph.len(), graph.opened(a), graph.opened(b)), (0, 0, 0));
    });
}
