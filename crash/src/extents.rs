//! Where there is anything that a discard can take away.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use sim_core::SECTOR_SIZE;

use crate::log::{Entry, What};

/// Runs of sectors that were written, or that the base has data of; all others are zeros before a discard and after it.
/// mkfs discards whole disks: no memory goes to what was never there.
pub(crate) struct Extents(Vec<Range<u64>>);

impl Extents {
    /// Finds them.
    ///
    /// # Errors
    /// What the system says of the base.
    pub(crate) fn new(entries: &[Entry], base: Option<&File>) -> io::Result<Extents> {
        let writes = entries.iter().filter(|entry| matches!(entry.what, What::Write { .. }));
        let mut runs: Vec<Range<u64>> = writes.map(range).collect();
        // Where nothing is discarded, nobody asks.
        if let Some(base) = base.filter(|_| entries.iter().any(|entry| entry.what == What::Discard))
        {
            data(base, &mut runs)?;
        }
        runs.sort_unstable_by_key(|run| run.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for run in runs {
            match merged.last_mut() {
                Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
                _ => merged.push(run),
            }
        }
        Ok(Extents(merged))
    }

    /// Lists those that an entry reaches, as far as it does.
    pub(crate) fn of(&self, entry: &Entry) -> impl Iterator<Item = Range<u64>> {
        let Range { start, end } = range(entry);
        let first = self.0.partition_point(|run| run.end <= start);
        let reached = self.0[first..].iter().take_while(move |run| run.start < end);
        reached.map(move |run| run.start.max(start)..run.end.min(end))
    }

    /// How many sectors an entry changes.
    pub(crate) fn count(&self, entry: &Entry) -> u64 {
        match entry.what {
            What::Write { .. } => entry.len.0,
            What::Discard => self.of(entry).map(|run| run.end - run.start).sum(),
            What::Flush | What::Mark(_) | What::Nothing => 0,
        }
    }
}

fn range(entry: &Entry) -> Range<u64> {
    entry.sector..entry.sector + entry.len.0
}

/// Adds where a file has data: all of it where its file system does not say.
fn data(file: &File, runs: &mut Vec<Range<u64>>) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut at = 0;
    while at < len {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => at,
        };
        let end = seek(file, SeekFrom::Hole(start)).unwrap_or(len).max(start + 1);
        runs.push(start / SECTOR_SIZE..end.min(len).div_ceil(SECTOR_SIZE));
        at = end;
    }
    Ok(())
}
