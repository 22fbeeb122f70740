//! A stack as SVG: a picture of its own, without a script, a style sheet or a font from elsewhere.

use std::fmt::Write;

use super::layout::{HEIGHT, WIDTH, layout};
use super::{Edge, Graph, Labels, Look};

/// The most characters of a line: as many as a box has room for, in a font whose characters are 0.6 of
/// their height.
const MOST: usize = 33;
const FONT: i64 = 12;

/// Draws a graph. What does not fit its box is cut short, and shown whole by a pointer over it.
pub(crate) fn svg(graph: &Graph) -> String {
    let picture = layout(graph);
    let (width, height) = (picture.width, picture.height);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"{FONT}\">\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" \
         markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#57606a\"/></marker></defs>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (edge, points) in &picture.arrows {
        let look = match edge {
            Edge::Maps => "stroke=\"#57606a\"",
            Edge::Fails => "stroke=\"#cf222e\" stroke-dasharray=\"5 4\"",
        };
        let path = path(points);
        line(
            &mut text,
            format_args!("<path d=\"{path}\" fill=\"none\" {look} marker-end=\"url(#tip)\"/>"),
        );
    }
    for (dev, corner) in &picture.boxes {
        draw(&graph.boxes[dev], *corner, &mut text);
    }
    text + "</svg>\n"
}

fn draw(labels: &Labels, (x, y): (i64, i64), text: &mut String) {
    let (fill, look) = match labels.look {
        Look::Device => ("#ddf4ff", "stroke=\"#0969da\""),
        Look::Suspended => ("#ddf4ff", "stroke=\"#0969da\" stroke-dasharray=\"5 4\""),
        Look::Image => ("#f6f8fa", "stroke=\"#57606a\""),
        Look::Broken => ("#ffebe9", "stroke=\"#cf222e\""),
    };
    let round = if labels.file.is_some() { 0 } else { 8 };
    let whole: Vec<String> = labels.lines().into_iter().map(escaped).collect();
    line(text, format_args!("<g><title>{}</title>", whole.join("\n")));
    line(
        text,
        format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"{round}\" \
             fill=\"{fill}\" {look}/>"
        ),
    );
    let rows = [(&*labels.name, " font-weight=\"bold\"", 17), (&*labels.what, "", 34)];
    for (row, weight, down) in rows {
        let row = escaped(&short(row, End::Last));
        line(text, format_args!("<text x=\"{}\" y=\"{}\"{weight}>{row}</text>", x + 6, y + down));
    }
    if let Some(file) = &labels.file {
        let row = escaped(&short(file, End::First));
        line(text, format_args!("<text x=\"{}\" y=\"{}\">{row}</text>", x + 6, y + 51));
    }
    line(text, format_args!("</g>"));
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a string takes what is written");
}

/// Goes straight down through a layer, and in a curve between two.
fn path(points: &[(i64, i64)]) -> String {
    let mut path = String::new();
    for (at, (x, y)) in points.iter().enumerate() {
        let step = match at {
            0 => format!("M{x} {y}"),
            _ if at % 2 == 1 => {
                let (from, before) = points[at - 1];
                let middle = (before + y) / 2;
                format!(" C{from} {middle} {x} {middle} {x} {y}")
            }
            _ => format!(" L{x} {y}"),
        };
        path.push_str(&step);
    }
    path
}

/// Which end of a text that is too long is left out: the last of a name, the first of a path.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

fn short(text: &str, left_out: End) -> String {
    let count = text.chars().count();
    match left_out {
        _ if count <= MOST => text.to_owned(),
        End::Last => text.chars().take(MOST - 1).chain(['…']).collect(),
        End::First => ['…'].into_iter().chain(text.chars().skip(count - MOST + 1)).collect(),
    }
}

/// Writes a text such that it is one in XML, too.
pub(in crate::show) fn escaped(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
