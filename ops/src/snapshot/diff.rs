//! `dmsim diff`: what a snapshot has otherwise than its origin.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use daemon::{About, Fault, mangle};
use serde::Serialize;
use sim_core::{Access, DevNumber, Sectors};
use targets::lines::snapshot::Status;
use targets::snapshot::ChunkSize;

use super::state::{Line, SNAPSHOT, state};
use super::store::{Start, StoreFile};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, find};
use crate::files::{fresh, path_of};
use crate::size::in_bytes;
use crate::watch::{Watch, go_on};
use crate::words::device_name;

/// How much is compared at a time, in bytes, where a chunk is not longer.
const PIECE: u64 = 1 << 20;

/// What a snapshot has otherwise; lengths are in sectors, but for sizes as JSON, which are in bytes.
#[derive(Debug, Serialize)]
pub struct Differences {
    /// The snapshot.
    pub name: String,
    /// The origin's number.
    pub origin: DevNumber,
    /// The store's number.
    pub cow: DevNumber,
    /// The snapshot's size.
    #[serde(rename = "size_bytes", serialize_with = "in_bytes")]
    pub size: u64,
    /// How much is copied at once.
    #[serde(rename = "chunk_size_bytes", serialize_with = "in_bytes")]
    pub chunk_size: u64,
    /// So many chunks are in the snapshot.
    pub chunks: u64,
    /// Chunks that have an exception; nothing where there is no list of them.
    pub exceptions: Option<u64>,
    /// Chunks that differ.
    pub changed_chunks: u64,
    /// How much is in these.
    #[serde(rename = "changed_bytes", serialize_with = "in_bytes")]
    pub changed: u64,
    /// Where they lie, in order.
    pub runs: Vec<Run>,
}

/// Chunks that differ, one after the other; in sectors.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Where the first begins.
    pub start: u64,
    /// How long they are.
    pub len: u64,
    /// The first one's number.
    pub chunk: u64,
}

/// Compares a snapshot with its origin. Nothing is held up meanwhile.
///
/// # Errors
/// Where it is no snapshot, is suspended or invalid, or cannot be read; or `watch` interrupts it.
pub fn diff(
    dm: &mut dyn DeviceMapper,
    name: &str,
    watch: &dyn Watch,
) -> Result<Differences, Fault> {
    let name = &*device_name(dm.mount(), name);
    let device = find(dm, name)?;
    let device = device.ok_or_else(|| Fault::new(name, "no such device"))?;
    let Some(line) = device.snapshot() else {
        return Err(Fault::new(name, "is no snapshot"));
    };
    device.refuse_suspended()?;
    if state(dm, name, SNAPSHOT)? == Some(Status::Invalid) {
        return Err(Fault::new(name, "is invalid, as its store was full or failed"));
    }
    compare(dm, &device, &line, watch)
}

/// Compares what may differ.
fn compare(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    line: &Line,
    watch: &dyn Watch,
) -> Result<Differences, Fault> {
    let size = device.size();
    let chunk = line.chunk.unwrap_or(ChunkSize::DEFAULT);
    let chunks = chunk.count_in(size);
    let (candidates, exceptions) = if line.is_transient() {
        (vec![(0, chunks)], None)
    } else {
        let runs = exceptions(&path_of(dm, line.cow)?)?;
        // Of an origin that was longer once.
        let shown = runs.into_iter().filter(|(old, _)| *old < chunks);
        let shown: Vec<_> = shown.map(|(old, len)| (old, len.min(chunks - old))).collect();
        let count = shown.iter().map(|(_, len)| len).sum();
        (shown, Some(count))
    };
    let pair = Pair {
        snapshot: fresh(&dm.mount().join(device.name()), Access::ReadOnly)?,
        origin: fresh(&path_of(dm, line.origin)?, Access::ReadOnly)?,
        chunk,
        size,
    };
    let runs = pair.compare(device.name(), &candidates, watch)?;
    let sectors = |run: &(u64, u64)| {
        let (start, end) = (chunk.start(run.0).0, chunk.start(run.0 + run.1).0.min(size.0));
        Run { start, len: end - start, chunk: run.0 }
    };
    let shown: Vec<Run> = runs.iter().map(sectors).collect();
    Ok(Differences {
        name: mangle::decode(device.name()),
        origin: line.origin,
        cow: line.cow,
        size: size.0,
        chunk_size: chunk.sectors().0,
        chunks,
        exceptions,
        changed_chunks: runs.iter().map(|(_, len)| len).sum(),
        changed: shown.iter().map(|run| run.len).sum(),
        runs: shown,
    })
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
    fn compare(
        &self,
        name: &str,
        candidates: &[(u64, u64)],
        watch: &dyn Watch,
    ) -> Result<Vec<(u64, u64)>, Fault> {
        let total: u64 = candidates.iter().map(|(_, len)| len).sum();
        let (mut progress, mut done) = (watch.begin("compared"), 0);
        let mut differ: Vec<(u64, u64)> = Vec::new();
        let at_once = (PIECE / self.chunk.sectors().bytes()).max(1);
        for (first, len) in candidates {
            for from in (*first..first + len).step_by(at_once as usize) {
                let count = at_once.min(first + len - from);
                go_on(name, watch)?;
                for at in self.compare_run(from, count).about(name)? {
                    match differ.last_mut() {
                        Some((first, len)) if *first + *len == at => *len += 1,
                        Some(_) | None => differ.push((at, 1)),
                    }
                }
                done += count;
                let sectors = self.chunk.sectors().0;
                progress.show(done * sectors, total * sectors);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

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
        let mut bytes = vec![7; (sectors * sim_core::SECTOR_SIZE) as usize];
        let origin = file(&bytes);
        changed.iter().for_each(|at| bytes[*at] = 8);
        let chunk = ChunkSize::new(Sectors(chunk), &[]).expect("a chunk size");
        let pair = Pair { snapshot: file(&bytes), origin, chunk, size: Sectors(sectors) };
        let go_on = AtomicBool::new(false);
        pair.compare("snap", candidates, &go_on).expect("files")
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
