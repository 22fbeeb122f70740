//! `tree`, drawn.

use std::fmt::Write;

use daemon::Failing;
use ops::size::print_size;
use ops::{Node, NodeKind};
use recognise::shown_line;
use sim_core::SECTOR_SIZE;

use super::locale_has_utf8;

/// How branches are drawn.
#[derive(Clone, Copy)]
pub(crate) struct Branches {
    fork: &'static str,
    last: &'static str,
    line: &'static str,
}

impl Branches {
    /// Lines where the locale has them, ASCII elsewhere.
    pub(crate) fn of_locale() -> Branches {
        if locale_has_utf8() {
            Branches { fork: "├─ ", last: "└─ ", line: "│  " }
        } else {
            Branches { fork: "|- ", last: "`- ", line: "|  " }
        }
    }
}

impl Branches {
    /// Returns what is drawn before a branch, and before what hangs on it.
    pub(super) fn at(self, is_last: bool) -> (&'static str, &'static str) {
        if is_last { (self.last, "   ") } else { (self.fork, self.line) }
    }
}

/// Draws a stack.
pub(crate) fn tree(roots: &[Node], branches: Branches) -> String {
    let mut text = String::new();
    for root in roots {
        draw_node(root, "", "", branches, &mut text);
    }
    text
}

fn draw_node(node: &Node, first: &str, rest: &str, branches: Branches, text: &mut String) {
    let size = print_size(node.size * SECTOR_SIZE);
    let what = match &node.kind {
        NodeKind::Targets { targets, suspended, tables } => {
            let types =
                if targets.is_empty() { "no live table".into() } else { targets.join(", ") };
            let suspended = if *suspended { ", suspended" } else { "" };
            let waits = if tables.inactive { ", inactive table loaded" } else { "" };
            format!("{types}{suspended}{waits}")
        }
        NodeKind::File { file, read_only, fault, lost } => {
            let fault = fault.as_ref().map(|why| format!(", fails: {why}")).unwrap_or_default();
            let lost = lost.map(|lost| format!(", {}", lost.text())).unwrap_or_default();
            format!("{file}{}{fault}{lost}", if *read_only { ", read-only" } else { "" })
        }
    };
    let failing = node.fails.map(|fails| format!(", {}", Failing::text(fails)));
    let mut failing = failing.unwrap_or_default();
    if node.faults.is_some() {
        failing += ", has faults, on purpose";
    }
    let (name, what) = (shown_line(&node.name), shown_line(&what));
    writeln!(text, "{first}{name} ({}) {size}: {what}{failing}", node.dev)
        .expect("a string takes what is written");
    for (index, below) in node.below.iter().enumerate() {
        let (fork, line) = branches.at(index + 1 == node.below.len());
        draw_node(below, &format!("{rest}{fork}"), &format!("{rest}{line}"), branches, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::describe::Tables;
    use sim_core::{DevNumber, Fails};

    fn leaf(name: &str) -> Node {
        let file = format!("/{name}.img");
        let kind = NodeKind::File { file, read_only: false, fault: None, lost: None };
        let fails = (name == "b").then_some(Fails::Writes);
        let dev = DevNumber { major: 7, minor: 0 };
        Node { name: name.into(), dev, size: 2048, kind, fails, faults: None, below: Vec::new() }
    }

    #[test]
    fn a_stack_is_drawn_from_the_top_down() {
        let kind = |types: &[&str]| NodeKind::Targets {
            targets: types.iter().map(|name| (*name).to_owned()).collect(),
            suspended: false,
            tables: Tables { live: true, inactive: false },
        };
        let node = |name: &str, types: &[&str], below| Node {
            name: name.into(),
            dev: DevNumber::mapped(0),
            size: 4096,
            kind: kind(types),
            fails: None,
            faults: None,
            below,
        };
        let top = node(
            "top",
            &["linear", "zero"],
            vec![node("str", &["striped"], vec![leaf("a"), leaf("b")]), leaf("c")],
        );
        let ascii = Branches { fork: "|- ", last: "`- ", line: "|  " };
        let expected = "\
top (253:0) 2 MiB: linear, zero
|- str (253:0) 2 MiB: striped
|  |- a (7:0) 1 MiB: /a.img
|  `- b (7:0) 1 MiB: /b.img, writes fail, on purpose
`- c (7:0) 1 MiB: /c.img
";
        assert_eq!(tree(&[top], ascii), expected);
    }
}
