//! Lines of target types that the swarm was never told of.

use sim_core::{TargetSpec, parse_table, split_words};
use testkit::{SimDisk, World};

use super::{Line, Maker, Space};

/// The length of the disks `a`, `b` and `c` of an example.
const DISK: u64 = 1024;

/// The words of devices in an example.
const DEVICES: [&str; 3] = ["a", "b", "c"];

/// What is tried where a type gives no example: most types take such words.
const GUESSES: [&str; 10] = [
    "0 512 NAME a 16",
    "0 512 NAME a",
    "0 512 NAME a b",
    "0 512 NAME a 16 b 16",
    "0 512 NAME a 0 8",
    "0 512 NAME 8 a 16",
    "0 512 NAME 2 a 0 b 0",
    "0 512 NAME 1 8 a 16",
    "0 512 NAME",
    "0 512 NAME a b 8",
];

/// Makes a line out of the type's example, or of the first guess that it takes.
pub(super) fn example(maker: &mut Maker<'_>, name: &str) -> Option<Line> {
    let target_type = maker.registry.find(name)?;
    let given = target_type.example().to_owned();
    let messages = target_type.messages().iter().map(|text| (*text).to_owned()).collect();
    let guesses = GUESSES.iter().map(|guess| guess.replace("NAME", name));
    let table = if given.is_empty() {
        guesses.into_iter().find(|table| loads(maker, table))?
    } else {
        given
    };
    let lines: Vec<TargetSpec> =
        parse_table(&table).ok()?.into_iter().map(|(_, spec)| spec).collect();
    let [line] = &lines[..] else { return None };
    let words = split_words(&line.params);
    let mut spaces: Vec<(String, Space)> = Vec::new();
    for word in words.iter().filter(|word| DEVICES.contains(&word.as_str())) {
        if spaces.iter().all(|(known, _)| known != word) {
            let space = maker.whole(DISK);
            spaces.push((word.clone(), space));
        }
    }
    let text = |word: &String| match spaces.iter().find(|(known, _)| known == word) {
        Some((_, space)) => space.below.number().to_string(),
        None => word.replace('\\', "\\\\").replace(' ', "\\ "),
    };
    let words: Vec<String> = words.iter().map(text).collect();
    // Shorter ones too: an example has room for what its author thought of.
    let len = line.len.0 / maker.one(&[1, 1, 2, 4]);
    let all: Vec<Space> = spaces.iter().map(|(_, space)| space.clone()).collect();
    let wipes = all.iter().map(|space| space.wipe(space.len)).collect();
    let line = Line::over_all(&all, len, format!("{name} {}", words.join(" ")));
    Some(Line { alone: true, wipes, messages, ..line })
}

/// Tells whether a table loads over disks of zeros.
fn loads(maker: &Maker<'_>, table: &str) -> bool {
    let world = World::new(0, maker.registry.clone());
    let _disks: Vec<std::sync::Arc<SimDisk>> =
        DEVICES.iter().map(|_| world.add_disk(sim_core::Sectors(DISK))).collect();
    world.try_set_up(0, table).is_ok()
}
