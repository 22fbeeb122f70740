//! A stack for graphviz.

use std::fmt::Write;

use super::{Edge, Graph, Look};

/// Writes a graph in the language of `dot`.
pub(crate) fn dot(graph: &Graph) -> String {
    let mut text = "digraph dmsim {\n  node [fontname=monospace];\n".to_owned();
    let mut line = |words: std::fmt::Arguments<'_>| {
        writeln!(text, "  {words}").expect("a string takes what is written");
    };
    for (dev, labels) in &graph.boxes {
        let shape = match labels.look {
            Look::Device => "shape=box",
            Look::Suspended => "shape=box, style=dashed",
            Look::Image => "shape=cylinder",
            Look::Broken => "shape=cylinder, color=red",
        };
        let label: Vec<String> = labels.lines().into_iter().map(escaped).collect();
        line(format_args!("\"{dev}\" [{shape}, label=\"{}\"];", label.join("\\n")));
    }
    for ((above, below), edge) in &graph.edges {
        let how = match edge {
            Edge::Maps => "",
            Edge::Fails => " [style=dashed, color=red]",
        };
        line(format_args!("\"{above}\" -> \"{below}\"{how};"));
    }
    text + "}\n"
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
