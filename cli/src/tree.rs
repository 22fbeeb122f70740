//! `dmsim tree`: what lies on what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use backing::Attached;
use serde::Serialize;
use sim_core::control::{Answer, Command, Id, Report, Slot};
use sim_core::{DevNumber, KeyText, SECTOR_SIZE};

use crate::client::{Client, unexpected};
use crate::describe::{Description, Failing};
use crate::fault::Fault;
use crate::protocol::{Outcome, Request};
use crate::size::print_size;

/// A device, and what it maps onto.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Node {
    name: String,
    dev: String,
    /// In sectors.
    size: u64,
    #[serde(flatten)]
    kind: Kind,
    /// It is made to fail for the device above.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing: Option<&'static str>,
    /// What the live table has open, in its order.
    below: Vec<Node>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Types of the live table's targets, each once.
    Targets { targets: Vec<String>, suspended: bool, tables: &'static str },
    /// The file behind an image.
    File { file: String, read_only: bool },
}

/// Asks the daemon for everything, and lays it out from the tops down. A device under two others
/// comes twice.
pub(crate) fn stack(client: &mut Client) -> Result<Vec<Node>, Fault> {
    let images = match client.ask(&Request::Images)? {
        Outcome::Images(images) => images,
        other => return Err(unexpected(other)),
    };
    let devices = match client.ask(&Request::Describe(None))? {
        Outcome::Described(devices) => devices,
        other => return Err(unexpected(other)),
    };
    let mut parts = Parts { images, mapped: BTreeMap::new() };
    for device in devices {
        let dev = DevNumber { major: device.major, minor: device.minor };
        let deps = Command::TableDeps { id: Id::Dev(dev), slot: Slot::Live };
        let table = Command::TableStatus {
            id: Id::Dev(dev),
            report: Report::Table,
            slot: Slot::Live,
            device_names: false,
            keys: KeyText::Zeros,
        };
        // One that is removed meanwhile is left out.
        if let (Ok(Answer::Deps(below)), Ok(Answer::Table(_, lines))) =
            (client.control(deps)?, client.control(table)?)
        {
            let mut targets: Vec<String> = Vec::new();
            for line in lines {
                if !targets.contains(&line.target_type) {
                    targets.push(line.target_type);
                }
            }
            parts.mapped.insert(dev, Mapped { device, targets, below });
        }
    }
    Ok(parts.roots())
}

struct Parts {
    images: Vec<Attached>,
    mapped: BTreeMap<DevNumber, Mapped>,
}

struct Mapped {
    device: Description,
    targets: Vec<String>,
    below: Vec<DevNumber>,
}

impl Parts {
    /// Mapped devices that no other maps onto, then images that none maps onto.
    fn roots(&self) -> Vec<Node> {
        let used: BTreeSet<DevNumber> =
            self.mapped.values().flat_map(|mapped| mapped.below.iter().copied()).collect();
        let tops = self.mapped.keys().chain(self.images.iter().map(|image| &image.number));
        tops.filter(|dev| !used.contains(dev)).map(|dev| self.node(*dev)).collect()
    }

    fn node(&self, dev: DevNumber) -> Node {
        if let Some(Mapped { device, targets, below }) = self.mapped.get(&dev) {
            let tables = match (device.tables.live, device.tables.inactive) {
                (true, true) => "live and inactive",
                (true, false) => "live",
                (false, true) => "inactive",
                (false, false) => "none",
            };
            return Node {
                name: device.name.clone(),
                dev: dev.to_string(),
                size: device.size,
                kind: Kind::Targets {
                    targets: targets.clone(),
                    suspended: device.suspended,
                    tables,
                },
                failing: None,
                below: below.iter().map(|dev| self.node_below(device, *dev)).collect(),
            };
        }
        let image = self.images.iter().find(|image| image.number == dev);
        Node {
            name: image.map_or("?".to_owned(), |i| i.name.clone().unwrap_or(i.kernel_name.clone())),
            dev: dev.to_string(),
            size: image.map_or(0, |image| image.size.0),
            kind: Kind::File {
                file: image.map_or(String::new(), |image| image.path.display().to_string()),
                read_only: image.is_some_and(|image| image.access.is_read_only()),
            },
            failing: None,
            below: Vec::new(),
        }
    }

    fn node_below(&self, above: &Description, dev: DevNumber) -> Node {
        Node { failing: Failing::text(&above.failing, dev), ..self.node(dev) }
    }
}

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

/// Tells whether the locale has more than ASCII.
pub(crate) fn locale_has_utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Draws a stack.
pub(crate) fn draw(roots: &[Node], branches: Branches) -> String {
    let mut text = String::new();
    for root in roots {
        draw_node(root, "", "", branches, &mut text);
    }
    text
}

fn draw_node(node: &Node, first: &str, rest: &str, branches: Branches, text: &mut String) {
    let size = print_size(node.size * SECTOR_SIZE);
    let what = match &node.kind {
        Kind::Targets { targets, suspended, tables } => {
            let types =
                if targets.is_empty() { "no live table".into() } else { targets.join(", ") };
            let suspended = if *suspended { ", suspended" } else { "" };
            let waits = if tables.contains("inactive") { ", inactive table loaded" } else { "" };
            format!("{types}{suspended}{waits}")
        }
        Kind::File { file, read_only } => {
            format!("{file}{}", if *read_only { ", read-only" } else { "" })
        }
    };
    let failing = node.failing.map(|how| format!(", {how}")).unwrap_or_default();
    writeln!(text, "{first}{} ({}) {size}: {what}{failing}", node.name, node.dev)
        .expect("a string takes what is written");
    for (index, below) in node.below.iter().enumerate() {
        let is_last = index + 1 == node.below.len();
        let fork = if is_last { branches.last } else { branches.fork };
        let line = if is_last { "   " } else { branches.line };
        draw_node(below, &format!("{rest}{fork}"), &format!("{rest}{line}"), branches, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(name: &str) -> Node {
        let kind = Kind::File { file: format!("/{name}.img"), read_only: false };
        let failing = (name == "b").then_some("writes fail, on purpose");
        Node { name: name.into(), dev: "7:0".into(), size: 2048, kind, failing, below: Vec::new() }
    }

    #[test]
    fn a_stack_is_drawn_from_the_top_down() {
        let kind = |types: &[&str]| Kind::Targets {
            targets: types.iter().map(|name| (*name).to_owned()).collect(),
            suspended: false,
            tables: "live",
        };
        let node = |name: &str, types: &[&str], below| Node {
            name: name.into(),
            dev: "253:0".into(),
            size: 4096,
            kind: kind(types),
            failing: None,
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
        assert_eq!(draw(&[top], ascii), expected);
    }
}
