//! `ls --tree`: which device lies on which, drawn with lines.

use std::collections::{BTreeMap, BTreeSet};

use sim_core::DevNumber;

/// One device of the tree.
pub(super) struct Node {
    /// The name to show; empty for a device that is not mapped.
    pub(super) name: String,
    /// What stands behind the name, as ` <dm-0> (253:0)`.
    pub(super) device: String,
    /// What stands behind that, as ` [ACTIVE]`.
    pub(super) state: String,
    /// The devices below, in the order of the table's.
    pub(super) below: Vec<DevNumber>,
}

/// The devices and the order in which they came.
#[derive(Default)]
pub(super) struct Tree {
    nodes: BTreeMap<DevNumber, Node>,
    order: Vec<DevNumber>,
}

/// How a tree is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) lines: Lines,
    pub(super) compact: bool,
    /// From the lowest devices up.
    pub(super) inverted: bool,
    /// Lines longer than the terminal are drawn in full.
    pub(super) full: bool,
    /// Devices are shown that have no name.
    pub(super) nameless: bool,
}

/// What the lines are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lines {
    #[default]
    Ascii,
    Utf,
    Vt100,
}

/// The pieces of the lines.
struct Pieces {
    /// Before one of several, before the last of several, past a level with more to come.
    fork: &'static str,
    last: &'static str,
    past: &'static str,
    /// On the same line: before an only one, before the first of several.
    only: &'static str,
    first: &'static str,
}

/// Where a line is cut: the width of a terminal that does not tell its own.
const WIDTH: usize = 80;

impl Lines {
    fn pieces(self) -> Pieces {
        match self {
            Lines::Ascii => {
                Pieces { fork: "|-", last: "`-", past: "| ", only: "---", first: "-+-" }
            }
            Lines::Utf => Pieces {
                fork: "├─", last: "└─", past: "│ ", only: "───", first: "─┬─"
            },
            Lines::Vt100 => Pieces {
                fork: "\x1b(0tq\x1b(B",
                last: "\x1b(0mq\x1b(B",
                past: "\x1b(0x\x1b(B ",
                only: "\x1b(0qqq\x1b(B",
                first: "\x1b(0qwq\x1b(B",
            },
        }
    }
}

impl Tree {
    /// Adds a device; the devices below it are to be added before.
    pub(super) fn add(&mut self, dev: DevNumber, node: Node) {
        if self.nodes.insert(dev, node).is_none() {
            self.order.push(dev);
        }
    }

    pub(super) fn contains(&self, dev: DevNumber) -> bool {
        self.nodes.contains_key(&dev)
    }

    /// Draws the tree.
    pub(super) fn draw(&self, style: Style) -> String {
        let edges = self.edges(style.inverted);
        let pointed: BTreeSet<DevNumber> = edges.values().flatten().copied().collect();
        let mut drawing = Drawing { tree: self, edges, style, out: String::new() };
        for root in self.order.iter().filter(|dev| !pointed.contains(dev)) {
            drawing.root(*root);
        }
        drawing.out
    }

    /// Which devices are drawn under which.
    fn edges(&self, inverted: bool) -> BTreeMap<DevNumber, Vec<DevNumber>> {
        let mut edges: BTreeMap<DevNumber, Vec<DevNumber>> = BTreeMap::new();
        for dev in &self.order {
            for below in &self.nodes[dev].below {
                let (from, to) = if inverted { (below, dev) } else { (dev, below) };
                edges.entry(*from).or_default().push(*to);
            }
        }
        edges
    }
}

struct Drawing<'a> {
    tree: &'a Tree,
    edges: BTreeMap<DevNumber, Vec<DevNumber>>,
    style: Style,
    out: String,
}

impl Drawing<'_> {
    fn root(&mut self, dev: DevNumber) {
        let mut line = String::new();
        if self.is_shown(dev) {
            line = self.label(dev);
            if !self.style.compact {
                self.end_line(&mut line);
            }
        }
        let indent = if self.style.compact { " ".repeat(width(&line)) } else { " ".to_owned() };
        self.below(dev, &indent, &mut line);
        if !line.is_empty() {
            self.end_line(&mut line);
        }
    }

    /// Draws what lies under `dev`: in compact style, the first of it on the line begun.
    fn below(&mut self, dev: DevNumber, indent: &str, line: &mut String) {
        let mut below = self.edges.get(&dev).cloned().unwrap_or_default();
        below.retain(|dev| self.is_shown(*dev));
        let pieces = self.style.lines.pieces();
        let count = below.len();
        for (at, child) in below.into_iter().enumerate() {
            let is_last = at + 1 == count;
            let label = self.label(child);
            if !self.style.compact {
                let piece = if is_last { pieces.last } else { pieces.fork };
                let mut text = format!("{indent}{piece}{label}");
                self.end_line(&mut text);
                let past = if is_last { "  " } else { pieces.past };
                self.below(child, &format!("{indent}{past} "), line);
                continue;
            }
            let piece = match (at, count) {
                (0, 1) => pieces.only,
                (0, _) => pieces.first,
                _ => {
                    self.end_line(line);
                    line.push_str(indent);
                    line.push(' ');
                    if is_last { pieces.last } else { pieces.fork }
                }
            };
            line.push_str(piece);
            line.push_str(&label);
            let past = if is_last { "  " } else { pieces.past };
            // An only child counts its connector twice: dmsetup draws it so.
            let connector = if count == 1 { " ".repeat(6) } else { format!(" {past}") };
            let indent = format!("{indent}{connector}{}", " ".repeat(width(&label)));
            self.below(child, &indent, line);
        }
    }

    fn is_shown(&self, dev: DevNumber) -> bool {
        let node = self.tree.nodes.get(&dev);
        node.is_some_and(|node| self.style.nameless || !node.name.is_empty())
    }

    fn label(&self, dev: DevNumber) -> String {
        let node = &self.tree.nodes[&dev];
        format!("{}{}{}", node.name, node.device, node.state)
    }

    fn end_line(&mut self, line: &mut String) {
        let long = !self.style.full && line.len() > WIDTH && self.style.lines == Lines::Ascii;
        if long {
            line.truncate(boundary(line, WIDTH - 3));
            line.push_str("...");
        }
        self.out.push_str(line);
        self.out.push('\n');
        line.clear();
    }
}

fn width(label: &str) -> usize {
    label.chars().count()
}

/// The last place at or before `at` where a text may be cut.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// d on c and b, c on a, b on loop1 and a, a on loop0.
    fn tree() -> Tree {
        let dev = |major, minor| DevNumber { major, minor };
        let mut tree = Tree::default();
        let mut add = |number: DevNumber, name: &str, below: &[DevNumber]| {
            let node = Node {
                name: name.into(),
                device: format!(" ({number})"),
                state: String::new(),
                below: below.to_vec(),
            };
            tree.add(number, node);
        };
        add(dev(7, 0), "", &[]);
        add(dev(253, 0), "a", &[dev(7, 0)]);
        add(dev(7, 1), "", &[]);
        add(dev(253, 1), "b", &[dev(7, 1), dev(253, 0)]);
        add(dev(253, 2), "c", &[dev(253, 0)]);
        add(dev(253, 3), "d", &[dev(253, 2), dev(253, 1)]);
        tree
    }

    fn draw(style: Style) -> String {
        tree().draw(style)
    }

    fn plain() -> Style {
        Style { nameless: true, ..Style::default() }
    }

    #[test]
    fn a_device_stands_over_those_below_it() {
        let expected = "\
d (253:3)
 |-c (253:2)
 |  `-a (253:0)
 |     `- (7:0)
 `-b (253:1)
    |- (7:1)
    `-a (253:0)
       `- (7:0)
";
        assert_eq!(draw(plain()), expected);
    }

    #[test]
    fn an_inverted_tree_begins_with_the_lowest() {
        let expected = "\
\u{20}(7:0)
 `-a (253:0)
    |-b (253:1)
    |  `-d (253:3)
    `-c (253:2)
       `-d (253:3)
 (7:1)
 `-b (253:1)
    `-d (253:3)
";
        assert_eq!(draw(Style { inverted: true, ..plain() }), expected);
    }

    #[test]
    fn a_compact_tree_begins_a_branch_on_its_line() {
        let expected = "\
d (253:3)-+-c (253:2)---a (253:0)--- (7:0)
          `-b (253:1)-+- (7:1)
                      `-a (253:0)--- (7:0)
";
        assert_eq!(draw(Style { compact: true, ..plain() }), expected);
    }

    #[test]
    fn nameless_devices_may_be_left_out() {
        let expected =
            "d\u{20}(253:3)\n ├─c (253:2)\n │  └─a (253:0)\n └─b (253:1)\n    └─a (253:0)\n";
        let style = Style { lines: Lines::Utf, nameless: false, ..Style::default() };
        assert_eq!(draw(style), expected);
    }

    #[test]
    fn a_long_line_is_cut_unless_asked_for() {
        let mut tree = Tree::default();
        let node = |name: String| Node {
            name,
            device: String::new(),
            state: String::new(),
            below: Vec::new(),
        };
        tree.add(DevNumber::mapped(0), node("n".repeat(90)));
        assert_eq!(tree.draw(plain()), format!("{}...\n", "n".repeat(77)));
        assert_eq!(tree.draw(Style { full: true, ..plain() }), format!("{}\n", "n".repeat(90)));
    }
}
