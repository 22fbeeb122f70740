//! The text of tables: read alone, and loaded.

use std::sync::OnceLock;

use sim_core::control::{Answer, Command, Report, Slot};
use sim_core::{KeyText, Sectors, TargetSpec, parse_table, split_words};

use crate::disks::{World, id};

/// Reads text as a table, and the words of each line. Nothing may panic; what was read prints a
/// text that reads the same.
pub fn table_parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let count = text.lines().count();
    let lines = match parse_table(text) {
        Ok(lines) => lines,
        Err(bad) => return assert!((1..=count).contains(&bad.line), "{bad} of {count} lines"),
    };
    let mut last = 0;
    for (number, spec) in lines {
        assert!((last + 1..=count).contains(&number), "line {number} after {last} of {count}");
        last = number;
        check_line(&spec);
    }
}

fn check_line(spec: &TargetSpec) {
    let printed = spec.to_string();
    let again = parse_table(&printed).expect("a line that was printed reads as a line");
    // Blanks before a comment are part of the line, those at its end are not.
    let params = spec.params.trim_end().into();
    assert_eq!(again, [(1, TargetSpec { params, ..spec.clone() })], "{printed:?}");
    let words = split_words(&spec.params);
    let mut protected = String::new();
    for word in &words {
        assert!(!word.is_empty(), "an empty word of {:?}", spec.params);
        for c in word.chars() {
            protected.extend(['\\', c]);
        }
        protected.push(' ');
    }
    assert_eq!(split_words(&protected), words, "the words of {:?}, protected", spec.params);
}

/// Loads whatever text it is given as a table. Nothing may panic; a table that is taken prints a
/// text from which the same table is made again.
pub fn table_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(lines) = parse_table(text) else { return };
    let lines: Vec<TargetSpec> = lines.into_iter().map(|(_, spec)| spec).collect();
    // Stripes by the thousand take memory, and show nothing that ten do not.
    if lines.len() > 64 || text.len() > 4096 {
        return;
    }
    let world = world();
    world.create("fuzzed");
    if let Some(printed) = load(world, lines) {
        let again = load(world, printed.clone());
        assert_eq!(again.as_ref(), Some(&printed), "a table's text makes the same table");
    }
    world.remove("fuzzed");
}

/// Loads and resumes a table, and returns its lines as the targets print them.
fn load(world: &World, targets: Vec<TargetSpec>) -> Option<Vec<TargetSpec>> {
    world.load("fuzzed", targets).ok()?;
    world.resume("fuzzed").ok()?;
    let (report, slot, device_names) = (Report::Table, Slot::Live, false);
    match world.execute(Command::TableStatus {
        id: id("fuzzed"),
        report,
        slot,
        device_names,
        keys: KeyText::Zeros,
    }) {
        Ok(Answer::Table(_, lines)) => Some(lines),
        other => panic!("a table was loaded, and is not reported: {other:?}"),
    }
}

/// One control plane for all runs: making one costs more than a run.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| World::new(targets::registry(), 2, Sectors(4096), 512))
}
