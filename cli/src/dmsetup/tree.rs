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
    /// How many characters a line may have, where it may not be of any length: see [`room`].
    pub(super) room: Option<usize>,
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

/// The longest line where there is no terminal, or it does not tell its width.
const WIDTH: usize = 80;

/// Stands for what was cut off.
const CUT: &str = "...";

/// Returns how many characters a line may have, given the columns of the terminal. Of a longer one, one
/// character less is shown, and three dots. As dmsetup has it, which never asks for the width where
/// the terminal is to draw the lines.
pub(super) fn room(lines: Lines, columns: Option<u16>) -> usize {
    match (lines, columns.map(usize::from)) {
        (Lines::Ascii | Lines::Utf, Some(columns)) if columns > CUT.len() => columns - CUT.len(),
        (Lines::Ascii | Lines::Utf, _) | (Lines::Vt100, _) => WIDTH,
    }
}

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
                fork: "\x1b(0\x0ftq\x1b(B",
                last: "\x1b(0\x0fmq\x1b(B",
                past: "\x1b(0\x0fx\x1b(B ",
                only: "\x1b(0\x0fqqq\x1b(B",
                first: "\x1b(0\x0fqwq\x1b(B",
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
        let (line, out) = (String::new(), String::new());
        let mut drawing = Drawing { tree: self, edges, style, line, out };
        for root in self.order.iter().filter(|dev| !pointed.contains(dev)) {
            drawing.root(*root);
        }
        drawing.put_line();
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
    /// The line that is begun.
    line: String,
    out: String,
}

impl Drawing<'_> {
    fn root(&mut self, dev: DevNumber) {
        if self.style.compact {
            let before = width(&self.line);
            if self.is_shown(dev) {
                self.begin(dev, "");
            }
            let indent = " ".repeat(width(&self.line).saturating_sub(before));
            return self.beside(dev, &indent);
        }
        if self.is_shown(dev) {
            self.line = self.label(dev);
            self.end_line();
        }
        self.below(dev, " ");
    }

    /// Draws what lies under `dev`, each on a line of its own.
    fn below(&mut self, dev: DevNumber, indent: &str) {
        let below = self.shown_below(dev);
        let pieces = self.style.lines.pieces();
        for (at, child) in below.iter().enumerate() {
            let is_last = at + 1 == below.len();
            let piece = if is_last { pieces.last } else { pieces.fork };
            self.line = format!("{indent}{piece}{}", self.label(*child));
            self.end_line();
            let past = if is_last { "  " } else { pieces.past };
            self.below(*child, &format!("{indent}{past} "));
        }
    }

    /// Draws what lies under `dev` in compact style: the first of it on the line begun.
    fn beside(&mut self, dev: DevNumber, indent: &str) {
        let below = self.shown_below(dev);
        let pieces = self.style.lines.pieces();
        for (at, child) in below.iter().enumerate() {
            let is_last = at + 1 == below.len();
            let piece = match (at, is_last) {
                (0, true) => pieces.only.to_owned(),
                (0, false) => pieces.first.to_owned(),
                (_, true) => format!("{indent} {}", pieces.last),
                (_, false) => format!("{indent} {}", pieces.fork),
            };
            self.begin(*child, &piece);
            let past = if is_last { "  " } else { pieces.past };
            // What stands on the line of its parent counts its connector twice: dmsetup draws it so.
            let twice = if at == 0 { "   " } else { "" };
            let label = " ".repeat(width(&self.label(*child)));
            self.beside(*child, &format!("{indent} {past}{twice}{label}"));
        }
    }

    /// Draws a device in compact style. Its line ends with one that has nothing below: where all
    /// that is below is not shown, it goes on with what comes next, as dmsetup has it.
    fn begin(&mut self, dev: DevNumber, piece: &str) {
        self.line += piece;
        self.line += &self.label(dev);
        if !self.edges.contains_key(&dev) {
            self.end_line();
        }
    }

    fn shown_below(&self, dev: DevNumber) -> Vec<DevNumber> {
        let below = self.edges.get(&dev).into_iter().flatten();
        below.copied().filter(|dev| self.is_shown(*dev)).collect()
    }

    fn is_shown(&self, dev: DevNumber) -> bool {
        let node = self.tree.nodes.get(&dev);
        node.is_some_and(|node| self.style.nameless || !node.name.is_empty())
    }

    fn label(&self, dev: DevNumber) -> String {
        let node = &self.tree.nodes[&dev];
        format!("{}{}{}", node.name, node.device, node.state)
    }

    fn end_line(&mut self) {
        self.put_line();
        self.out.push('\n');
    }

    fn put_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if let Some(room) = self.style.room
            && width(&line) > room
        {
            let cut = line.char_indices().nth(room.saturating_sub(1)).map_or(0, |(at, _)| at);
            line.truncate(cut);
            line.push_str(CUT);
        }
        self.out.push_str(&line);
    }
}

fn width(label: &str) -> usize {
    label.chars().count()
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
    fn a_line_longer_than_the_terminal_is_cut_by_characters() {
        let draw = |name: String, style: Style| {
            let (device, state, below) = (String::new(), String::new(), Vec::new());
            let mut tree = Tree::default();
            tree.add(DevNumber::mapped(0), Node { name, device, state, below });
            tree.draw(style)
        };
        for (sign, lines) in [("n", Lines::Ascii), ("ü", Lines::Utf), ("ü", Lines::Ascii)] {
            let style = Style { lines, room: Some(room(lines, None)), ..plain() };
            assert_eq!(draw(sign.repeat(80), style), sign.repeat(80) + "\n");
            assert_eq!(draw(sign.repeat(81), style), sign.repeat(79) + "...\n");
            assert_eq!(
                draw(sign.repeat(81), Style { room: None, ..style }),
                sign.repeat(81) + "\n"
            );
        }
    }

    /// As a terminal of so many columns showed it.
    #[test]
    fn a_terminal_tells_where_a_line_is_cut_but_for_one_that_draws_lines() {
        for lines in [Lines::Ascii, Lines::Utf] {
            let rooms = [0, 1, 3, 4, 5, 20, 60, 200].map(|columns| room(lines, Some(columns)));
            assert_eq!(rooms, [80, 80, 80, 1, 2, 17, 57, 197]);
            assert_eq!(room(lines, None), 80);
        }
        assert_eq!([None, Some(20), Some(200)].map(|columns| room(Lines::Vt100, columns)), [80; 3]);
    }
}
