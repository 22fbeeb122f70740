//! `crash states` and `crash write`.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

use ::crash::log::Counts;
use ::crash::{Plan, Recording, States};
use daemon::{About, Fault};
use serde::Serialize;
use sim_core::SECTOR_SIZE;

use super::{open, plan};
use crate::args::crash;
use crate::output::print;
use crate::show::print_json;

#[derive(Serialize)]
struct Told {
    entry_count: usize,
    write_count: usize,
    flush_count: usize,
    mark_count: usize,
    size_bytes: u64,
    atomic_bytes: u64,
    windows: Vec<Moment>,
    states: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Moment {
    cut: usize,
    mark_count: usize,
    after_mark: Option<String>,
    before_mark: Option<String>,
    volatile_writes: usize,
}

pub(super) fn states(options: &crash::States) -> Result<ExitCode, Fault> {
    let recording = open(&options.log)?;
    let plan = plan(&recording, &options.which)?;
    if options.list && !options.json {
        let mut out = std::io::stdout().lock();
        for state in States::new(recording, &plan) {
            match writeln!(out, "{state}") {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                other => other.about("standard output")?,
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let list = || States::new(recording.clone(), &plan).map(|state| state.to_string()).collect();
    let told = told(&recording, &plan, options.list.then(list));
    match options.json {
        true => print_json(&told),
        false => print(&text(&told)),
    }
}

fn told(recording: &Recording, plan: &Plan, states: Option<Vec<String>>) -> Told {
    let entries = recording.entries();
    let counts = Counts::of(entries);
    let windows = recording.windows();
    let windows = windows.iter().filter(|window| plan.has(window)).map(|window| {
        let (after, before) = recording.marks_round(window.cut);
        Moment {
            cut: window.cut,
            mark_count: window.marks,
            after_mark: after.map(str::to_owned),
            before_mark: before.map(str::to_owned),
            volatile_writes: recording.volatile(window.cut).len(),
        }
    });
    let windows = windows.collect();
    Told {
        entry_count: entries.len(),
        write_count: counts.writes,
        flush_count: counts.flushes,
        mark_count: counts.marks,
        size_bytes: recording.size().bytes(),
        atomic_bytes: recording.atomic().bytes(),
        windows,
        states,
    }
}

fn text(told: &Told) -> String {
    let Told { entry_count, write_count, flush_count, mark_count, .. } = told;
    let entries = if *entry_count == 1 { "entry" } else { "entries" };
    let counts = Counts { writes: *write_count, flushes: *flush_count, marks: *mark_count };
    let mut out = format!("{entry_count} {entries}: {counts}\n");
    for moment in &told.windows {
        let Moment { cut, volatile_writes, .. } = moment;
        let writes = if *volatile_writes == 1 { "write" } else { "writes" };
        out += &format!("after {cut}: {volatile_writes} {writes} can be lost");
        match (&moment.after_mark, &moment.before_mark) {
            (Some(after), Some(before)) => out += &format!(", between `{after}` and `{before}`"),
            (Some(after), None) => out += &format!(", after `{after}`"),
            (None, Some(before)) => out += &format!(", before `{before}`"),
            (None, None) => {}
        }
        out.push('\n');
    }
    out
}

/// How much is written at once, in sectors.
const PIECE: u64 = 2048;

pub(super) fn write(options: &crash::Write) -> Result<ExitCode, Fault> {
    let recording = open(&options.log)?;
    recording.check(&options.state).about(&options.state)?;
    let name = || options.file.display();
    let file = File::create_new(&options.file).about(name())?;
    let size = recording.size();
    file.set_len(size.bytes()).about(name())?;
    let mut sector = 0;
    let mut buffer = Vec::new();
    while sector < size.0 {
        let len = PIECE.min(size.0 - sector);
        buffer.resize((len * SECTOR_SIZE) as usize, 0);
        recording.read(&options.state, sector, &mut buffer).about(options.log.log.display())?;
        // Zeros stay a hole.
        for (at, block) in (0..).zip(buffer.chunks(4096)) {
            if block.iter().any(|byte| *byte != 0) {
                file.write_all_at(block, sector * SECTOR_SIZE + at * 4096).about(name())?;
            }
        }
        sector += len;
    }
    file.sync_all().about(name())?;
    print(&format!("{}\n", name()))
}
