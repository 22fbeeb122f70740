//! What led to a failure: the bios, the I/O of each disk and the power cuts of a case, told in the
//! order in which they happened.
//!
//! A case that fails runs once more with a story being told; it is the same run, as its seed makes
//! every choice. Nothing is told, and nothing formatted, in a run that nobody asked the story of.

mod print;

use std::cell::RefCell;
use std::fmt;

use sim_core::{Bio, BlkResult, Op};

use crate::disk::journal::Entry;
use crate::io::letter;
use crate::{Damage, Io, SECTOR};

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A new part of the story: a device is set up, the power fails.
    Heading,
    /// What is wrong: an I/O that was made to fail, a bio that did.
    Trouble,
    /// A bio of the device under test begins or ends.
    Bio,
    /// An I/O of a disk that changes something.
    Io,
    /// A read of a disk.
    Read,
    /// A flush of the device under test or of a disk.
    Flush,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    kind: Kind,
    text: String,
    /// The sectors of the device under test whose data it is about.
    sectors: Vec<u64>,
}

/// What was told so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    lines: Vec<Line>,
    /// For each line of the record of the life that is told, how many lines there were before it.
    record: Vec<usize>,
    /// The sector that was found to be wrong.
    blamed: Option<u64>,
}

thread_local! {
    static STORY: RefCell<Option<Story>> = const { RefCell::new(None) };
}

/// Runs something with its story being told.
pub(crate) fn of<T>(run: impl FnOnce() -> T) -> (T, Story) {
    STORY.with(|story| *story.borrow_mut() = Some(Story::default()));
    let result = run();
    (result, STORY.with(|story| story.borrow_mut().take()).unwrap_or_default())
}

/// Tells whether anybody wants to know.
pub(crate) fn is_told() -> bool {
    STORY.with(|story| story.borrow().is_some())
}

fn with(tell: impl FnOnce(&mut Story)) {
    STORY.with(|story| story.borrow_mut().as_mut().map(tell));
}

fn line(kind: Kind, sectors: Vec<u64>, text: fmt::Arguments<'_>) {
    with(|story| story.lines.push(Line { kind, text: text.to_string(), sectors }));
}

/// Begins a new part.
pub(crate) fn heading(text: fmt::Arguments<'_>) {
    line(Kind::Heading, Vec::new(), format_args!("== {text}"));
}

/// Says which sector of the device under test was found to be wrong.
pub(crate) fn blame(sector: u64) {
    with(|story| story.blamed = Some(sector));
}

/// Tells of a bio of the device under test.
pub(crate) fn bio(id: u64, step: &crate::BioStep) {
    if is_told() {
        let kind = if step.op == Op::Flush { Kind::Flush } else { Kind::Bio };
        let sectors = (step.sector..step.sector + step.len).collect();
        line(kind, sectors, format_args!("bio {id}: {step}"));
    }
}

/// Tells how it ended; nothing where it was given up.
pub(crate) fn bio_end(id: u64, step: &crate::BioStep, result: Option<&BlkResult>) {
    if is_told() {
        let sectors = (step.sector..step.sector + step.len).collect();
        let is_flush = step.op == Op::Flush;
        match result {
            Some(Ok(())) => {
                let kind = if is_flush { Kind::Flush } else { Kind::Bio };
                line(kind, sectors, format_args!("bio {id} ends"));
            }
            Some(Err(error)) => {
                line(Kind::Trouble, sectors, format_args!("bio {id} FAILS: {error}"));
            }
            None => line(Kind::Bio, sectors, format_args!("bio {id} is given up")),
        }
    }
}

/// Tells of an I/O of a disk, when it has happened.
pub(crate) fn io(disk: u32, bio: &Bio<'_>, damage: Option<&Damage>, result: &BlkResult) {
    if !is_told() {
        return;
    }
    let io = Io::of(disk, bio);
    let found = if bio.op() == Op::Write { owners(bio.data()) } else { Vec::new() };
    let sectors = found.iter().map(|(_, sector)| *sector).collect();
    let held = held(&found);
    let kind = match (damage, result, bio.op()) {
        (Some(_), ..) | (None, Err(_), _) => Kind::Trouble,
        (None, Ok(()), Op::Flush) => Kind::Flush,
        (None, Ok(()), Op::Read) => Kind::Read,
        (None, Ok(()), _) => Kind::Io,
    };
    let damage = damage.map(|damage| format!("  MADE TO FAIL: {damage:?}")).unwrap_or_default();
    let error = result.as_ref().err().map(|error| format!("  fails: {error}")).unwrap_or_default();
    line(kind, sectors, format_args!("    {io}{held}{damage}{error}"));
}

/// Notes that a line was added to the record of a life; `first` begins another record.
pub(crate) fn recorded(first: bool) {
    with(|story| {
        if first {
            story.record.clear();
        }
        story.record.push(story.lines.len());
    });
}

/// Forgets all that was told: another run begins.
pub(crate) fn forget() {
    with(|story| *story = Story::default());
}

/// A point to go back to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Point(Option<Story>);

/// Returns the point in the story that is reached.
pub(crate) fn point() -> Point {
    STORY.with(|story| Point(story.borrow().clone()))
}

/// Goes back: what was told since then did not happen.
pub(crate) fn back_to(Point(told): Point) {
    if told.is_some() {
        STORY.with(|story| *story.borrow_mut() = told);
    }
}

/// Lets the power fail after so many lines of the record: what came later did not happen. Each of
/// the writes that were volatile then comes with how many sectors the power cut has left of it.
pub(crate) fn power_cut(crash: &crate::Crash, writes: &[(&Entry, Vec<usize>)]) {
    with(|story| {
        if let Some(told) = story.record.get(crash.at) {
            story.lines.truncate(*told);
        }
    });
    heading(format_args!("POWER CUT: {crash}"));
    for (entry, left) in writes {
        let Entry::Write(write) = entry else { continue };
        let len = write.data.len() / SECTOR;
        let found = owners(&write.data);
        let fate = match left.len() {
            0 => "is lost".to_owned(),
            all if all == len => "stays, though it was not durable".to_owned(),
            _ => format!("is torn: of its sectors {} stay", runs(left)),
        };
        let disk = letter(write.disk);
        let sectors = found.iter().map(|(_, sector)| *sector).collect();
        let (sector, held) = (write.sector, held(&found));
        line(Kind::Io, sectors, format_args!("    W {disk} {sector}+{len}{held} {fate}"));
    }
}

/// Writes numbers as `0-3, 7`.
fn runs(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            Some(_) | None => runs.push((*number, *number)),
        }
    }
    let text = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Finds data of bios of the device under test in what goes to a disk: bio and sector of each.
fn owners(data: &[u8]) -> Vec<(u64, u64)> {
    let word = |sector: &[u8], at: usize| {
        u64::from_le_bytes(sector[at * 8..at * 8 + 8].try_into().expect("eight bytes"))
    };
    let owner = |sector: &[u8]| {
        let first = word(sector, 0);
        let is_pattern = first >> 40 > 0
            && first & 0xff == 0
            && (1..SECTOR / 8).all(|at| word(sector, at) == first + at as u64);
        is_pattern.then_some((first >> 40, first >> 8 & 0xffff_ffff))
    };
    data.chunks_exact(SECTOR).filter_map(owner).collect()
}

/// Says whose data is in an I/O: `  (bio 7: 4+8)`.
fn held(found: &[(u64, u64)]) -> String {
    let mut runs: Vec<(u64, u64, u64)> = Vec::new();
    for (id, sector) in found {
        match runs.last_mut() {
            Some((last, first, len)) if last == id && *first + *len == *sector => *len += 1,
            Some(_) | None => runs.push((*id, *sector, 1)),
        }
    }
    if runs.is_empty() {
        return String::new();
    }
    let text = |(id, first, len): &(u64, u64, u64)| format!("bio {id}: {first}+{len}");
    format!("  ({})", runs.iter().map(text).collect::<Vec<_>>().join(", "))
}
