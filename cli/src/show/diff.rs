//! What `diff` has found, as a picture and as text.

use std::fmt::Write as _;
use std::io::IsTerminal;

use ops::size::print_size;
use ops::snapshot::{Differences, Run};
use sim_core::SECTOR_SIZE;

use super::locale_has_utf8;
use super::picture::{self, Signs};
use crate::args::snapshot::Diff;
use crate::output::columns;

/// How long a picture is where there is no terminal to fill.
const WIDTH: u16 = 72;

/// Writes what differs, with a picture where one is asked for, or somebody looks.
pub(crate) fn diff(differs: &Differences, options: &Diff) -> String {
    let terminal = std::io::stdout().is_terminal();
    let shows = terminal || options.picture || options.width.is_some();
    let width = options
        .width
        .unwrap_or_else(|| if terminal { columns().unwrap_or(WIDTH).max(1) } else { WIDTH });
    let signs = if locale_has_utf8() { picture::BLOCKS } else { picture::ASCII };
    let picture = if shows { picture(differs, width, signs) + "\n\n" } else { String::new() };
    picture + &text(differs)
}

fn picture(differs: &Differences, width: u16, signs: Signs) -> String {
    // The last chunk of a device may be shorter than others.
    let chunks = |run: &Run| (run.chunk, run.len.div_ceil(differs.chunk_size));
    let runs: Vec<_> = differs.runs.iter().map(chunks).collect();
    picture::draw(&runs, differs.chunks, width.into(), signs)
}

fn text(differs: &Differences) -> String {
    let bytes = |sectors: u64| print_size(sectors * SECTOR_SIZE);
    let Differences { name, origin, chunks, changed_chunks, .. } = differs;
    let percent = match differs.size {
        0 => 0.0,
        size => differs.changed as f64 * 100.0 / size as f64,
    };
    let mut text = format!(
        "{name} differs from its origin ({origin}) in {changed_chunks} of {chunks} chunks of \
         {}: {} of {}, {percent:.2} %\n",
        bytes(differs.chunk_size),
        if differs.changed == 0 { "0 bytes".to_owned() } else { bytes(differs.changed) },
        bytes(differs.size),
    );
    if let Some(exceptions) = differs.exceptions {
        let same = exceptions - changed_chunks;
        writeln!(text, "{exceptions} chunks have exceptions, {same} of them as in the origin")
            .expect("a string takes what is written");
    }
    if !differs.runs.is_empty() {
        text += &format!("\n{:<24}{:<32}{}\n", "sectors", "bytes", "chunk");
    }
    for Run { start, len, chunk } in &differs.runs {
        let sectors = format!("{start}+{len}");
        let bytes = format!("{}+{}", start * SECTOR_SIZE, len * SECTOR_SIZE);
        text += &format!("{sectors:<24}{bytes:<32}{chunk}\n");
    }
    text
}
