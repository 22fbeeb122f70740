//! Tells a state that fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ::crash::log::{Entry, What};
use ::crash::{Kept, Recording, State};
use serde::Serialize;
use sim_core::SECTOR_SIZE;

/// How many lines are shown of what a command says.
const MAX_LINES: usize = 20;

/// How many characters are shown of a line.
const MAX_WIDTH: usize = 200;

/// A state that fails, as it is told.
#[derive(Debug, Serialize)]
pub(super) struct Story {
    pub(super) state: String,
    cut: usize,
    after_mark: Option<String>,
    before_mark: Option<String>,
    lost: Vec<Lost>,
    /// How many writes are there that could be lost.
    present: usize,
    exit: String,
    output: String,
    /// How many lost writes there were when it was found.
    shrunk_from: Option<usize>,
    pub(super) log: Option<String>,
}

/// A write of which something is lost.
#[derive(Debug, Serialize)]
struct Lost {
    entry: usize,
    start: u64,
    len: u64,
    discard: bool,
    kept: String,
    what: Vec<String>,
}

impl Story {
    /// `shown` is a file that has all writes before the cut, for `debugfs` to look at.
    pub(super) fn new(
        recording: &Recording,
        state: &State,
        (exit, output): (String, String),
        shrunk_from: Option<usize>,
        shown: &Path,
    ) -> Story {
        let (after, before) = recording.marks_round(state.cut);
        let entries = recording.entries();
        let blocks = ext_block_size(shown);
        let ranges: Vec<_> = state.losses.iter().map(|loss| &entries[loss.entry]).collect();
        let owners = blocks.map(|block| owners(shown, block, &ranges)).unwrap_or_default();
        let lost = state.losses.iter().map(|loss| {
            let Entry { sector, len, what } = &entries[loss.entry];
            let of = |size: u64| blocks_of(&entries[loss.entry], size);
            let mut told: Vec<String> = blocks
                .into_iter()
                .flat_map(of)
                .filter_map(|block| owners.get(&block).cloned())
                .collect();
            told.dedup();
            Lost {
                entry: loss.entry,
                start: *sector,
                len: len.0,
                discard: matches!(what, What::Discard),
                kept: kept(loss.kept, recording.units(loss.entry)),
                what: told,
            }
        });
        Story {
            state: state.to_string(),
            cut: state.cut,
            after_mark: after.map(str::to_owned),
            before_mark: before.map(str::to_owned),
            lost: lost.collect(),
            present: recording.volatile(state.cut).len() - state.losses.len(),
            exit,
            output,
            shrunk_from,
            log: None,
        }
    }

    /// Tells it to a person. `again` is the command line that repeats it.
    pub(super) fn text(&self, entries: usize, again: &str) -> String {
        let Story { cut, present, exit, .. } = self;
        let mut out = format!("a power cut after entry {cut} of {entries}");
        match (&self.after_mark, &self.before_mark) {
            (Some(after), Some(before)) => {
                let _ = write!(out, ", between the marks `{after}` and `{before}`");
            }
            (Some(after), None) => {
                let _ = write!(out, ", after the last mark, `{after}`");
            }
            (None, Some(before)) => {
                let _ = write!(out, ", before the first mark, `{before}`");
            }
            (None, None) => {}
        }
        let _ = writeln!(out, ", fails the check: {exit}");
        if let Some(from) = self.shrunk_from.filter(|from| *from > self.lost.len()) {
            let _ = writeln!(out, "  shrunk from {from} lost writes to {}", self.lost.len());
        }
        for lost in &self.lost {
            let Lost { entry, start, kept, .. } = lost;
            let size = size(lost.len);
            let what = if lost.discard { "discard" } else { "write" };
            let _ = writeln!(out, "  {kept}: entry {entry}, a {what} of {size} at sector {start}");
            for what in &lost.what {
                let _ = writeln!(out, "      {what}");
            }
        }
        let _ = match (self.lost.is_empty(), present) {
            (true, _) => writeln!(out, "  nothing is lost: it fails what was written in whole"),
            (false, 0) => writeln!(out, "  nothing else that could be lost was written"),
            (false, 1) => writeln!(out, "  there: 1 other write that could be lost"),
            (false, _) => writeln!(out, "  there: {present} other writes that could be lost"),
        };
        let lines: Vec<&str> = self.output.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in lines.iter().take(MAX_LINES) {
            let (line, more) = match line.char_indices().nth(MAX_WIDTH) {
                Some((end, _)) => (&line[..end], "..."),
                None => (*line, ""),
            };
            let _ = writeln!(out, "  | {line}{more}");
        }
        if let Some(more) = lines.len().checked_sub(MAX_LINES).filter(|more| *more > 0) {
            let _ = writeln!(out, "  | and {more} more lines");
        }
        let _ = writeln!(out, "again:  {again}");
        if let Some(log) = &self.log {
            let _ = writeln!(out, "kept:   {log}");
        }
        out
    }
}

fn kept(kept: Kept, units: u64) -> String {
    match kept {
        Kept::Nothing => "lost".to_owned(),
        Kept::Head(there) => format!("torn, with the first {there} of {units} units"),
        Kept::Tail(gone) => format!("torn, without the first {gone} of {units} units"),
        Kept::Some(_) => {
            let there = (0..units).filter(|unit| kept.has(*unit)).count();
            format!("torn, with {there} of {units} units")
        }
    }
}

fn size(sectors: u64) -> String {
    let bytes = sectors * SECTOR_SIZE;
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1024) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

/// The most blocks that `debugfs` is asked for.
const MAX_BLOCKS: usize = 256;

/// What `debugfs` knows of blocks: the file, or that it is metadata. Nothing where there is no `debugfs`.
fn owners(image: &Path, block_size: u64, entries: &[&Entry]) -> BTreeMap<u64, String> {
    let blocks: Vec<u64> =
        entries.iter().flat_map(|entry| blocks_of(entry, block_size)).take(MAX_BLOCKS).collect();
    if blocks.is_empty() {
        return BTreeMap::new();
    }
    let list = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    // "Block\tInode number" and a line for each, of a block that no file has `<block not found>`.
    let inodes: Vec<(u64, Option<u64>)> = debugfs(image, &format!("icheck {}", list(&blocks)))
        .lines()
        .filter_map(|line| {
            let (block, inode) = line.split_once('\t')?;
            Some((block.trim().parse().ok()?, inode.trim().parse().ok()))
        })
        .collect();
    let mut numbers: Vec<u64> = inodes.iter().filter_map(|(_, inode)| *inode).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let names: BTreeMap<u64, String> = match numbers.is_empty() {
        true => BTreeMap::new(),
        false => debugfs(image, &format!("ncheck {}", list(&numbers)))
            .lines()
            .filter_map(|line| {
                let (inode, name) = line.split_once('\t')?;
                Some((inode.trim().parse().ok()?, name.trim().to_owned()))
            })
            .collect(),
    };
    let tell = |(block, inode): (u64, Option<u64>)| {
        let what = match inode {
            Some(8) => "the journal of the file system".to_owned(),
            Some(inode) => match names.get(&inode) {
                Some(name) => name.clone(),
                None => format!("inode {inode}"),
            },
            None => "metadata of the file system, or nothing of it".to_owned(),
        };
        (block, what)
    };
    inodes.into_iter().map(tell).collect()
}

fn blocks_of(entry: &Entry, block_size: u64) -> std::ops::Range<u64> {
    let end = (entry.sector + entry.len.0) * SECTOR_SIZE;
    entry.sector * SECTOR_SIZE / block_size..end.div_ceil(block_size)
}

fn debugfs(image: &Path, request: &str) -> String {
    let mut command = Command::new("debugfs");
    command.args(["-R", request]).arg(image).env("LC_ALL", "C").stdin(Stdio::null());
    // Administrators' programs are not in an ordinary user's path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let output = command.stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// The block size of an ext2, ext3 or ext4 file system that fills the disk: `s_magic` and `s_log_block_size` of its
/// superblock, 1024 bytes in.
fn ext_block_size(image: &Path) -> Option<u64> {
    let mut superblock = [0; 1024];
    let file = std::fs::File::open(image).ok()?;
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut superblock, 1024).ok()?;
    let log = u32::from_le_bytes(superblock[24..28].try_into().ok()?);
    (superblock[56..58] == [0x53, 0xef] && log <= 6).then(|| 1024 << log)
}
