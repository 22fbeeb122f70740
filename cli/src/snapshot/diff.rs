//! `dmsim diff`: what a snapshot has otherwise than its origin.

use std::fmt::Write as _;
use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use sim_core::{Access, SECTOR_SIZE, Sectors};
use targets::snapshot::ChunkSize;

use super::Machine;
use super::options::Diff;
use super::store::{Start, StoreFile};
use super::{Device, Line, SNAPSHOT, State, picture, state};
use crate::client::Client;
use crate::fault::{About, Fault};
use crate::instance::Instance;
use crate::machine::{Bar, fresh, path_of};
use crate::output::print;
use crate::size::print_size;
use crate::tree::locale_has_utf8;

/// How much is compared at a time, in bytes, where a chunk is not longer.
const PIECE: u64 = 1 << 20;

/// How long a picture is where there is no terminal to fill.
const WIDTH: u16 = 72;

/// What a snapshot has otherwise; lengths are in sectors.
#[derive(Debug, Serialize)]
struct Differences {
    name: String,
    origin: String,
    cow: String,
    size: u64,
    chunk_size: u64,
    chunks: u64,
    /// Chunks that have an exception; nothing where there is no list of them.
    exceptions: Option<u64>,
    changed_chunks: u64,
    changed: u64,
    runs: Vec<Run>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Run {
    start: u64,
    len: u64,
    chunk: u64,
}

/// `dmsim diff`.
pub(crate) fn diff(instance: &Instance, options: &Diff) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let name = &options.name;
    let device = super::find(&mut client, name)?;
    let device = device.ok_or_else(|| Fault::new(name, "no such device"))?;
    let Some(line) = device.snapshot() else {
        return Err(Fault::new(name, "is no snapshot"));
    };
    device.refuse_suspended()?;
    if state(&mut client, name, SNAPSHOT)? == Some(State::Invalid) {
        return Err(Fault::new(name, "is invalid, as its store was full or failed"));
    }
    let (differences, runs) = compare(&mut client, &device, &line)?;
    if options.json {
        let text = serde_json::to_string_pretty(&differences).about("json")?;
        return print(&format!("{text}\n"));
    }
    let mut text = String::new();
    let terminal = std::io::stdout().is_terminal();
    if terminal || options.picture || options.width.is_some() {
        let width = options.width.unwrap_or_else(|| if terminal { columns() } else { WIDTH });
        let signs = if locale_has_utf8() { picture::BLOCKS } else { picture::ASCII };
        text += &picture::draw(&runs, differences.chunks, width.into(), signs);
        text += "\n\n";
    }
    text += &differences.text();
    print(&text)
}

fn columns() -> u16 {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
    size.map_or(WIDTH, |size| size.ws_col.max(1))
}

/// Compares what may differ; returns what does, also as runs of chunks.
fn compare(
    machine: &mut dyn Machine,
    device: &Device,
    line: &Line,
) -> Result<(Differences, Vec<(u64, u64)>), Fault> {
    let size = device.size();
    let chunk = ChunkSize::new(line.chunk, &[]).about(device.name())?;
    let chunks = chunk.count_in(size);
    let (candidates, exceptions) = if line.is_transient() {
        (vec![(0, chunks)], None)
    } else {
        let runs = exceptions(&path_of(machine, line.cow)?)?;
        // Of an origin that was longer once.
        let shown = runs.into_iter().filter(|(old, _)| *old < chunks);
        let shown: Vec<_> = shown.map(|(old, len)| (old, len.min(chunks - old))).collect();
        let count = shown.iter().map(|(_, len)| len).sum();
        (shown, Some(count))
    };
    let pair = Pair {
        snapshot: fresh(&machine.mount().join(device.name()), Access::ReadOnly)?,
        origin: fresh(&path_of(machine, line.origin)?, Access::ReadOnly)?,
        chunk,
        size,
    };
    let runs = pair.compare(&candidates).about(device.name())?;
    let sectors = |run: &(u64, u64)| {
        let (start, end) = (chunk.start(run.0).0, chunk.start(run.0 + run.1).0.min(size.0));
        Run { start, len: end - start, chunk: run.0 }
    };
    let shown: Vec<Run> = runs.iter().map(sectors).collect();
    let differences = Differences {
        name: device.name().to_owned(),
        origin: line.origin.to_string(),
        cow: line.cow.to_string(),
        size: size.0,
        chunk_size: chunk.sectors().0,
        chunks,
        exceptions,
        changed_chunks: runs.iter().map(|(_, len)| len).sum(),
        changed: shown.iter().map(|run| run.len).sum(),
        runs: shown,
    };
    Ok((differences, runs))
}

/// Reads which chunks have exceptions, as runs in order.
fn exceptions(path: &Path) -> Result<Vec<(u64, u64)>, Fault> {
    let store = StoreFile::open(path).about(path.display())?;
    match store.start().about(path.display())? {
        Start::Store(_, layout) => store.changed(layout).about(path.display()),
        Start::Zeros => Ok(Vec::new()),
    }
}

struct Pair {
    snapshot: File,
    origin: File,
    chunk: ChunkSize,
    size: Sectors,
}

impl Pair {
    /// Returns the chunks of these runs that differ, as runs.
    fn compare(&self, candidates: &[(u64, u64)]) -> std::io::Result<Vec<(u64, u64)>> {
        let total: u64 = candidates.iter().map(|(_, len)| len).sum();
        let (mut bar, mut done) = (Bar::new("compared"), 0);
        let mut differ: Vec<(u64, u64)> = Vec::new();
        let at_once = (PIECE / self.chunk.sectors().bytes()).max(1);
        for (first, len) in candidates {
            for from in (*first..first + len).step_by(at_once as usize) {
                let count = at_once.min(first + len - from);
                for at in self.compare_run(from, count)? {
                    match differ.last_mut() {
                        Some((first, len)) if *first + *len == at => *len += 1,
                        Some(_) | None => differ.push((at, 1)),
                    }
                }
                done += count;
                let sectors = self.chunk.sectors().0;
                bar.show(done * sectors, total * sectors);
            }
        }
        Ok(differ)
    }

    /// Compares some chunks, in pieces where one is long.
    fn compare_run(&self, first: u64, count: u64) -> std::io::Result<Vec<u64>> {
        let chunk = self.chunk.sectors().bytes();
        let (begin, end) = (first * chunk, ((first + count) * chunk).min(self.size.bytes()));
        let mut differ = Vec::new();
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for at in (begin..end).step_by(PIECE as usize) {
            let len = PIECE.min(end - at) as usize;
            one.resize(len, 0);
            other.resize(len, 0);
            self.snapshot.read_exact_at(&mut one, at)?;
            self.origin.read_exact_at(&mut other, at)?;
            let step = chunk.min(PIECE);
            let pairs = one.chunks(step as usize).zip(other.chunks(step as usize));
            for (nr, (one, other)) in (0..).zip(pairs) {
                let nr = (at + nr * step) / chunk;
                if one != other && differ.last() != Some(&nr) {
                    differ.push(nr);
                }
            }
        }
        Ok(differ)
    }
}

impl Differences {
    fn text(&self) -> String {
        let bytes = |sectors: u64| print_size(sectors * SECTOR_SIZE);
        let Differences { name, origin, chunks, changed_chunks, .. } = self;
        let percent = match self.size {
            0 => 0.0,
            size => self.changed as f64 * 100.0 / size as f64,
        };
        let mut text = format!(
            "{name} differs from its origin ({origin}) in {changed_chunks} of {chunks} chunks of \
             {}: {} of {}, {percent:.2} %\n",
            bytes(self.chunk_size),
            if self.changed == 0 { "0 bytes".to_owned() } else { bytes(self.changed) },
            bytes(self.size),
        );
        if let Some(exceptions) = self.exceptions {
            let same = exceptions - changed_chunks;
            writeln!(text, "{exceptions} chunks have exceptions, {same} of them as in the origin")
                .expect("a string takes what is written");
        }
        if !self.runs.is_empty() {
            text += &format!("\n{:<24}{:<32}{}\n", "sectors", "bytes", "chunk");
        }
        for Run { start, len, chunk } in &self.runs {
            let sectors = format!("{start}+{len}");
            let bytes = format!("{}+{}", start * SECTOR_SIZE, len * SECTOR_SIZE);
            text += &format!("{sectors:<24}{bytes:<32}{chunk}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(bytes, 0).expect("room for it");
        file
    }

    fn check(
        chunk: u64,
        sectors: u64,
        changed: &[usize],
        candidates: &[(u64, u64)],
    ) -> Vec<(u64, u64)> {
        let mut bytes = vec![7; (sectors * SECTOR_SIZE) as usize];
        let origin = file(&bytes);
        changed.iter().for_each(|at| bytes[*at] = 8);
        let chunk = ChunkSize::new(Sectors(chunk), &[]).expect("a chunk size");
        let pair = Pair { snapshot: file(&bytes), origin, chunk, size: Sectors(sectors) };
        pair.compare(candidates).expect("files")
    }

    #[test]
    fn chunks_that_differ_are_found_and_others_do_not_count() {
        assert_eq!(check(8, 81, &[0, 4096, 81 * 512 - 1], &[(0, 11)]), [(0, 2), (10, 1)]);
        assert_eq!(check(8, 81, &[0, 4096], &[(1, 3)]), [(1, 1)]);
        assert_eq!(check(8, 81, &[], &[(0, 11)]), []);
    }

    #[test]
    fn a_chunk_longer_than_a_piece_counts_once() {
        let piece = PIECE as usize;
        assert_eq!(check(8192, 16384, &[0, piece, 4 * piece + 1], &[(0, 2)]), [(0, 2)]);
        assert_eq!(check(8192, 12000, &[5 * piece], &[(0, 2)]), [(1, 1)]);
    }
}
