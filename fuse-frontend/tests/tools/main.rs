//! What programs leave on a device's file that take it for a regular file: the rows of the tables
//! in `docs/src/tools.md`, each run on a real mount, and on the block node of a loop device.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../common/mod.rs"]
mod common;
mod file_systems;
mod node;
mod outcome;
mod rows;
mod shell;

use std::fmt::Write;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::mounted::mount;
use common::pattern;
use file_systems::FILE_SYSTEMS;
use fuse_frontend::Options;
use node::Node;
use rows::{ROWS, Row};
use shell::Shell;

/// How large the device is.
const DEVICE: usize = 4 << 20;

const KEY: &str = "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100";

/// What the rows are run on.
fn tables() -> [(&'static str, String); 5] {
    let sectors = DEVICE / 512;
    [
        ("linear", format!("0 {sectors} linear disk 0")),
        ("linear, blocks of 4096 bytes", format!("0 {sectors} linear disk4k 0")),
        ("crypt", format!("0 {sectors} crypt aes-xts-plain64 {KEY} 0 disk 0")),
        ("snapshot", format!("0 {sectors} snapshot disk disk4k N 8")),
        ("mirror", format!("0 {sectors} mirror core 1 1024 2 disk 0 disk4k 0")),
    ]
}

/// Where a program copies to.
struct Place {
    path: PathBuf,
    /// The same bytes, also where the program has put another file there.
    file: File,
}

#[test]
fn programs_leave_what_they_copy_and_nothing_else() {
    let shell = Shell::new();
    for cache in [false, true] {
        // To the kernel's pages, what lies below is one that waits or one that does not.
        let kinds = |kind: &str| !cache || ["linear", "snapshot"].contains(&kind);
        for (kind, table) in tables().into_iter().filter(|(kind, _)| kinds(kind)) {
            let Some(mounted) = mount(&Options { cache, ..Options::default() }) else { return };
            mounted.world.create("d", &table);
            let mut place = Place { path: mounted.path("d"), file: mounted.open("d") };
            let mut check = |row: &Row| shell.check(row, row.on(kind), &mut place).err();
            let wrong: Vec<_> = ROWS.iter().filter_map(&mut check).collect();
            let on = format!("{kind}, with a cache: {cache}");
            assert!(wrong.is_empty(), "{on}:\n{}", wrong.join("\n"));
        }
    }
}

#[test]
fn on_a_block_node_they_do_what_the_table_says() {
    let shell = Shell::new();
    let Some(node) = Node::new(DEVICE as u64) else { return };
    let check = |row: &Row| shell.check(row, row.node, &mut node.place()).err();
    let wrong: Vec<_> = ROWS.iter().filter_map(check).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Set to write the tables, where the rows are others.
const WRITE: &str = "DMSIM_WRITE_DOCS";

#[test]
fn the_tables_of_tools_say_what_the_rows_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/tools.md");
    let text = fs::read_to_string(&path).unwrap();
    let mut due = text.clone();
    let mut rows = String::from("| command | the file | a block node |\n|---|---|---|\n");
    for row in ROWS {
        let node = match row.node {
            node if node == row.file => "the same".to_owned(),
            node => node.to_string(),
        };
        let mut file = row.file.to_string();
        if let (kinds @ [_, ..], leaves) = row.but {
            write!(file, "; on {}: {leaves}", kinds.join(", ")).unwrap();
        }
        writeln!(rows, "| {} | {file} | {node} |", quoted(row.script)).unwrap();
    }
    replace(&mut due, "rows", &rows);
    let mut rows = String::from("| command |\n|---|\n");
    for (_, script) in FILE_SYSTEMS {
        writeln!(rows, "| {} |", quoted(script)).unwrap();
    }
    replace(&mut due, "file systems", &rows);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, due).unwrap();
        return;
    }
    assert!(text == due, "with {WRITE}=1 this test writes the tables of the rows:\n{due}");
}

fn quoted(script: &str) -> String {
    format!("`{}`", script.replace('|', "\\|"))
}

/// Puts rows between the marks of this name.
fn replace(text: &mut String, name: &str, rows: &str) {
    let begin = format!("<!-- {name} -->\n");
    let from = text.find(&begin).unwrap() + begin.len();
    let len = text[from..].find("<!-- end -->\n").unwrap();
    text.replace_range(from..from + len, rows);
}

impl Place {
    fn fill(&self) -> Vec<u8> {
        let before = pattern(DEVICE);
        self.file.write_all_at(&before, 0).unwrap();
        before
    }

    fn content(&self) -> Vec<u8> {
        // With a cache too: a close has waited for pages of gaps to go.
        let mut after = vec![0; DEVICE];
        self.file.read_exact_at(&mut after, 0).unwrap();
        after
    }
}
