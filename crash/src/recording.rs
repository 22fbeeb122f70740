//! A recording: the log of what was written to a device, and what was on it before.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use sim_core::{Rng, SECTOR_SIZE, Sectors};

use crate::extents::Extents;
use crate::log::{self, Entry, Log, LogError, What};
use crate::state::State;

const SECTOR: usize = SECTOR_SIZE as usize;

/// How much of a log is read at once, in bytes.
const CHUNK: u64 = 1 << 20;

/// The most entries that a log may have: they are counted in 32 bits.
const MAX_ENTRIES: usize = u32::MAX as usize - 1;

/// The most sectors that a log may write, each counted as often as it is written: 128 GiB of them, which take 6 GiB of
/// memory.
const MAX_VERSIONS: u64 = 1 << 28;

/// A recording of the writes of a device. It keeps 24 bytes for each sector that was written, and no data.
#[derive(Debug)]
pub struct Recording {
    log: File,
    base: Option<File>,
    size: Sectors,
    unit: u32,
    atomic: Sectors,
    entries: Vec<Entry>,
    /// The entries that flush.
    flushes: Vec<usize>,
    /// The entries that are marks.
    marks: Vec<usize>,
    /// What each sector that was written has held, by sector, then in the order of the log: first what was there
    /// before.
    versions: Vec<Version>,
    /// Where the versions of each sector begin, and where the last end.
    groups: Vec<usize>,
}

/// What the disk promises whose power is cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promises {
    /// What it writes as one or not at all, in bytes: a sector of 512, or what a disk promises. The log's own unit where
    /// it is nothing.
    pub atomic: Option<u32>,
    /// Whether it carries flushes out.
    pub flushes: Flushes,
}

/// Whether a disk carries out flushes, and writes with FUA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flushes {
    /// It does.
    #[default]
    Kept,
    /// It says so, and does nothing: nothing is ever durable.
    Lost,
}

/// One content of one sector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    sector: u64,
    /// 0 for what was there before; else the entry's number and one.
    turn: u32,
    /// Of the content: what is alike is one state.
    pub(crate) hash: u64,
}

impl Version {
    /// The entry that wrote it; none for what was there before.
    pub(crate) fn entry(self) -> Option<usize> {
        (self.turn as usize).checked_sub(1)
    }
}

/// Where the content of a run of sectors lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Base,
    Zeros,
    /// In the log, from this byte on.
    Log(u64),
}

impl Recording {
    /// Takes a log, and what the device held when it began: zeros where there is no `base`.
    ///
    /// # Errors
    /// [`LogError`] of the log, and where it has too many entries or `atomic` is no multiple of 512.
    pub fn new(log: File, base: Option<File>, disk: Promises) -> Result<Recording, LogError> {
        let Promises { atomic, flushes } = disk;
        let Log { mut entries, unit, .. } = log::read(&log)?;
        if flushes == Flushes::Lost {
            entries.iter_mut().for_each(|entry| entry.what = entry.what.unflushed());
        }
        if entries.len() > MAX_ENTRIES {
            return Err(io::Error::other("the log has more entries than can be counted").into());
        }
        let atomic = u64::from(atomic.unwrap_or(unit));
        if atomic == 0 || !atomic.is_multiple_of(SECTOR_SIZE) {
            return Err(io::Error::other("an atomic unit is a multiple of 512 bytes").into());
        }
        let end = entries.iter().map(|entry| entry.sector + entry.len.0).max().unwrap_or(0);
        let base_len =
            base.as_ref().map_or(Ok(0), |base| Ok::<_, io::Error>(base.metadata()?.len()))?;
        let size = Sectors(base_len / SECTOR_SIZE);
        let those = |what: fn(&Entry) -> bool| -> Vec<usize> {
            let found = entries.iter().enumerate().filter(|(_, entry)| what(entry));
            found.map(|(at, _)| at).collect()
        };
        let mut recording = Recording {
            size: if base.is_some() { size } else { Sectors(end) },
            flushes: those(Entry::flushes),
            marks: those(|entry| matches!(entry.what, What::Mark(_))),
            atomic: Sectors(atomic / SECTOR_SIZE),
            versions: Vec::new(),
            groups: Vec::new(),
            log,
            base,
            unit,
            entries,
        };
        if end > recording.size.0 {
            let why = "the log has a write past the end of the base: it is of another device";
            return Err(io::Error::other(why).into());
        }
        recording.index()?;
        Ok(recording)
    }

    /// The device's size.
    pub fn size(&self) -> Sectors {
        self.size
    }

    /// The device's logical block size, in bytes.
    pub fn unit(&self) -> u32 {
        self.unit
    }

    /// What the disk writes as one or not at all.
    pub fn atomic(&self) -> Sectors {
        self.atomic
    }

    /// The entries of the log.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The marks of the log: the entry and the text of each.
    pub fn marks(&self) -> impl Iterator<Item = (usize, &str)> {
        self.marks.iter().map(|at| (*at, self.mark(*at)))
    }

    /// How many marks had been reached at a cut.
    pub fn marks_before(&self, cut: usize) -> usize {
        self.marks.partition_point(|at| *at < cut)
    }

    /// The marks round a cut: the last that had been reached, and the first that had not.
    pub fn marks_round(&self, cut: usize) -> (Option<&str>, Option<&str>) {
        let reached = self.marks_before(cut);
        let text = |number: usize| self.marks.get(number).map(|at| self.mark(*at));
        (reached.checked_sub(1).and_then(text), text(reached))
    }

    fn mark(&self, entry: usize) -> &str {
        match &self.entries[entry].what {
            What::Mark(text) => text,
            What::Write { .. } | What::Discard | What::Flush | What::Nothing => "",
        }
    }

    /// Returns from which entry on writes are volatile at a cut: what is before it was flushed.
    pub fn flushed(&self, cut: usize) -> usize {
        let flushes = self.flushes.partition_point(|at| *at < cut);
        flushes.checked_sub(1).map_or(0, |last| self.flushes[last])
    }

    /// Tells whether an entry is durable at a cut, from which entry on writes are volatile. A write with FUA that is
    /// the last before the cut had not ended.
    pub(crate) fn is_durable(&self, entry: usize, cut: usize, flushed: usize) -> bool {
        entry < flushed || (self.entries[entry].is_fua() && entry + 1 < cut)
    }

    /// Lists the writes that a power cut at `cut` may lose, in whole or in part.
    pub fn volatile(&self, cut: usize) -> Vec<usize> {
        let flushed = self.flushed(cut);
        let may_go = |entry: &usize| {
            self.entries[*entry].changes() && !self.is_durable(*entry, cut, flushed)
        };
        (flushed..cut).filter(may_go).collect()
    }

    /// How many atomic units a write has.
    pub fn units(&self, entry: usize) -> u64 {
        self.entries[entry].len.0.div_ceil(self.atomic.0)
    }

    /// Checks that a state is one of this recording.
    ///
    /// # Errors
    /// What of it is not.
    pub fn check(&self, state: &State) -> Result<(), String> {
        if state.cut > self.entries.len() {
            return Err(format!("the log has {} entries", self.entries.len()));
        }
        let volatile = self.volatile(state.cut);
        for loss in &state.losses {
            if volatile.binary_search(&loss.entry).is_err() {
                let at = loss.entry;
                return Err(format!("entry {at} is no write that can be lost at {}", state.cut));
            }
        }
        Ok(())
    }

    /// Returns the versions of each sector that an entry changes, as the places of groups, in order.
    pub(crate) fn groups_of(&self, entry: usize) -> Range<usize> {
        let Entry { sector, len, .. } = self.entries[entry];
        self.group_at(sector)..self.group_at(sector + len.0)
    }

    /// How many sectors were written at all.
    pub(crate) fn group_count(&self) -> usize {
        self.groups.len() - 1
    }

    pub(crate) fn group(&self, group: usize) -> &[Version] {
        &self.versions[self.groups[group]..self.groups[group + 1]]
    }

    /// The version of a group that an entry wrote.
    pub(crate) fn version_of(&self, group: usize, entry: usize) -> Version {
        let versions = self.group(group);
        let turn = entry as u32 + 1;
        let at = versions.binary_search_by_key(&turn, |version| version.turn);
        versions[at.expect("an entry writes the sectors that it has")]
    }

    /// The first group at or after a sector.
    fn group_at(&self, sector: u64) -> usize {
        self.groups[..self.group_count()]
            .partition_point(|start| self.versions[*start].sector < sector)
    }

    /// The sector of a group.
    pub(crate) fn sector_of(&self, group: usize) -> u64 {
        self.group(group)[0].sector
    }

    /// Reads the log once, for the sums of its sectors.
    fn index(&mut self) -> io::Result<()> {
        let extents = Extents::new(&self.entries, self.base.as_ref())?;
        let mut counts = self.entries.iter().map(|entry| extents.count(entry));
        let count = counts.try_fold(0_u64, u64::checked_add).filter(|count| *count <= MAX_VERSIONS);
        if count.is_none() {
            let why = format!("the log writes more than {MAX_VERSIONS} sectors");
            return Err(io::Error::other(why));
        }
        let mut versions = Vec::new();
        let zeros = hash(&[0; SECTOR]);
        let mut buffer = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let turn = at as u32 + 1;
            match entry.what {
                What::Discard => {
                    let zeros = |sector| Version { sector, turn, hash: zeros };
                    versions.extend(extents.of(entry).flatten().map(zeros));
                }
                What::Write { data, .. } => {
                    let (mut sector, mut from) = (entry.sector, data);
                    let end = data + entry.len.bytes();
                    while from < end {
                        buffer.resize((end - from).min(CHUNK) as usize, 0);
                        self.log.read_exact_at(&mut buffer, from)?;
                        for bytes in buffer.chunks_exact(SECTOR) {
                            versions.push(Version { sector, turn, hash: hash(bytes) });
                            sector += 1;
                        }
                        from += buffer.len() as u64;
                    }
                }
                What::Flush | What::Mark(_) | What::Nothing => {}
            }
        }
        versions.sort_unstable_by_key(|version| (version.sector, version.turn));
        let mut with_base = Vec::with_capacity(versions.len() + versions.len() / 2);
        let mut last = None;
        let mut before = [0; SECTOR];
        for version in versions {
            if last.replace(version.sector) != Some(version.sector) {
                self.groups.push(with_base.len());
                self.read_from(Source::Base, version.sector, &mut before)?;
                with_base.push(Version { turn: 0, hash: hash(&before), ..version });
            }
            with_base.push(version);
        }
        self.groups.push(with_base.len());
        self.versions = with_base;
        Ok(())
    }

    /// Reads what a state has from a sector on.
    ///
    /// # Errors
    /// What the system says of the log or the base, and for what lies past the device's end.
    pub fn read(&self, state: &State, sector: u64, into: &mut [u8]) -> io::Result<()> {
        let sectors = (into.len() / SECTOR) as u64;
        if sector.checked_add(sectors).is_none_or(|end| end > self.size.0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "past the end of the device"));
        }
        let flushed = self.flushed(state.cut);
        let (mut group, mut at, end) = (self.group_at(sector), sector, sector + sectors);
        while at < end {
            let (mut run, source) = match group < self.group_count() {
                true if self.sector_of(group) == at => {
                    let source = self.source(state, flushed, group);
                    group += 1;
                    (1, source)
                }
                true => (self.sector_of(group).min(end) - at, Source::Base),
                false => (end - at, Source::Base),
            };
            // What follows in one piece is read as one.
            while at + run < end
                && group < self.group_count()
                && self.sector_of(group) == at + run
                && follows(source, run, self.source(state, flushed, group))
            {
                run += 1;
                group += 1;
            }
            let bytes = &mut into[(at - sector) as usize * SECTOR..][..run as usize * SECTOR];
            self.read_from(source, at, bytes)?;
            at += run;
        }
        Ok(())
    }

    fn source(&self, state: &State, flushed: usize, group: usize) -> Source {
        let version = self.winner(state, flushed, group);
        let Some(entry) = version.entry() else { return Source::Base };
        match &self.entries[entry] {
            Entry { what: What::Write { data, .. }, sector, .. } => {
                Source::Log(data + (version.sector - sector) * SECTOR_SIZE)
            }
            _ => Source::Zeros,
        }
    }

    /// Returns the version of a sector that a state has: the last that is there.
    pub(crate) fn winner(&self, state: &State, flushed: usize, group: usize) -> Version {
        let versions = self.group(group);
        let is_there = |version: &&Version| {
            let Some(entry) = version.entry() else { return true };
            entry < state.cut
                && (self.is_durable(entry, state.cut, flushed)
                    || state
                        .kept(entry)
                        .is_none_or(|kept| kept.has(self.unit_of(entry, version.sector))))
        };
        *versions.iter().rev().find(is_there).expect("what was there before is always there")
    }

    /// Which atomic unit of a write a sector belongs to.
    pub(crate) fn unit_of(&self, entry: usize, sector: u64) -> u64 {
        (sector - self.entries[entry].sector) / self.atomic.0
    }

    fn read_from(&self, source: Source, sector: u64, into: &mut [u8]) -> io::Result<()> {
        match (source, &self.base) {
            (Source::Log(from), _) => self.log.read_exact_at(into, from),
            (Source::Base, Some(base)) => base.read_exact_at(into, sector * SECTOR_SIZE),
            (Source::Base, None) | (Source::Zeros, _) => {
                into.fill(0);
                Ok(())
            }
        }
    }
}

/// Tells whether a source goes on from where another one ends after a run of sectors.
fn follows(first: Source, run: u64, next: Source) -> bool {
    match (first, next) {
        (Source::Log(first), Source::Log(next)) => next == first + run * SECTOR_SIZE,
        (Source::Base, Source::Base) | (Source::Zeros, Source::Zeros) => true,
        _ => false,
    }
}

/// A sum of a sector: equal ones are taken for equal contents.
fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(1, |sum, word| {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        Rng::mix(sum ^ word).wrapping_add(sum.rotate_left(23))
    })
}
