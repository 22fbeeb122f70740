//! `dmsim raid create`: makes a set of images.

use std::path::{Path, PathBuf};

use daemon::Fault;
use daemon::fault::USAGE;
use sim_core::{Access, SECTOR_SIZE, Sectors};
use targets::lines::raid::{Family, MAX_LEGS, Params, Synchronize};
use targets::raid::layout::Format;

use super::leg::journal::{self, Journal};
use super::leg::label::Label;
use super::leg::ring::Stretch;
use super::leg::{META, MISSING, Names, image, refuse_full, refuse_twice};
use super::level::{LEVELS, kind, level};
use super::state::{Line, layout, table};
use super::steps::Done;
use crate::commands::{resume, suspend};
use crate::device_mapper::DeviceMapper;
use crate::devices::find;
use crate::mirror::swap::put;
use crate::parts::{New, Usage};
use crate::size::print_size;
use crate::turn::turn;
use crate::watch::{Watch, go_on};
use crate::words::new_name;

/// How much is on a leg before the next one has its turn, where nothing else is asked for: 64 KiB.
const CHUNK: Sectors = Sectors(128);

/// What a raid1 has to be a multiple of, so that its end suits any sector size.
const BLOCK: Sectors = Sectors(8);

/// What a chunk may be, in sectors. With parity less: the kernel has four stripes of chunks in memory at
/// least, and no more than 32768 of 4 KiB a leg.
const LEAST_CHUNK: u64 = 8;
const LARGEST_CHUNK: u64 = 1 << 22;
const LARGEST_WITH_PARITY: u64 = 1 << 16;

/// Which set to make, and how.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// One of [`LEVELS`], its number alone, or the kernel's name of a type.
    pub level: String,
    /// The legs: files, attached images or mapped devices.
    pub images: Vec<PathBuf>,
    /// What the device is to be called.
    pub name: String,
    /// Size of the images that are made where there is no such file, in bytes.
    pub size: Option<u64>,
    /// How much is on a leg before the next one has its turn, in bytes; nothing for the usual.
    pub chunk: Option<u64>,
    /// What a bit of the bitmap stands for, in bytes; nothing for the kernel's default.
    pub region_size: Option<u64>,
    /// How many copies a raid10 keeps; nothing for 2.
    pub copies: Option<usize>,
    /// Where it keeps them; nothing for near.
    pub format: Option<Format>,
    /// The image of its journal; nothing where it has none.
    pub journal: Option<PathBuf>,
    /// The legs are the same already, or nobody minds: there is no first resync.
    pub no_sync: bool,
    /// Overwrites what the images hold.
    pub force: bool,
}

/// What is to be done.
pub(super) struct Plan {
    pub(super) name: String,
    legs: Vec<(New, Option<u64>)>,
    /// How much data each leg has.
    device: Sectors,
    len: Sectors,
    line: Line,
    journal: Option<Journal>,
    no_sync: bool,
    label: Label,
    /// What is odd about the images.
    pub(super) odd: Vec<String>,
}

/// Makes a set of images; returns the file that shows it. Its first resync goes on in the background.
///
/// # Errors
/// Where it cannot be made, or `watch` interrupts it: all is as it was, or the fault says what is
/// not.
pub fn create(
    dm: &mut dyn DeviceMapper,
    ask: &Create,
    watch: &dyn Watch,
) -> Result<PathBuf, Fault> {
    let _turn = turn(dm, &ask.name, watch)?;
    let plan = plan(dm, ask)?;
    plan.odd.iter().for_each(|odd| watch.warn(odd));
    carry_out(dm, &plan, watch)?;
    Ok(dm.mount().join(&plan.name))
}

/// Checks what is asked for. Nothing is changed yet.
pub(super) fn plan(dm: &mut dyn DeviceMapper, ask: &Create) -> Result<Plan, Fault> {
    let name = new_name("raid create", &ask.name)?;
    if Path::new(&ask.name).is_file() {
        let why =
            "is a file, and was taken for the name of the set, which comes last: name the set too";
        return Err(usage(&ask.name, why));
    }
    let mut line = line(ask)?;
    refuse_there(dm, &name)?;
    for leg in 0..ask.images.len() {
        Names::of(&name, leg).refuse_taken(dm)?;
    }
    let mut legs = Vec::new();
    let mut sizes = Vec::new();
    for typed in &ask.images {
        let about = typed.display();
        let (new, size) = image(dm, &name, typed, Usage::ALONE)?;
        let (size, made) = match (size, ask.size) {
            (Some((size, _)), _) => {
                if !ask.force {
                    refuse_full(&new.path, &about.to_string())?;
                }
                (size, None)
            }
            (None, Some(bytes)) => (Sectors(bytes / SECTOR_SIZE), Some(bytes)),
            (None, None) => {
                return Err(Fault::new(about, "no such file: --size SIZE makes it"));
            }
        };
        sizes.push(size);
        legs.push((new, made));
    }
    let journal = match &ask.journal {
        Some(typed) => Some(Journal::new(dm, &name, typed, ask.force)?),
        None => None,
    };
    let news = legs.iter().map(|(new, _)| new);
    let news: Vec<&New> = news.chain(journal.iter().map(|journal| &journal.image().new)).collect();
    let typed: Vec<PathBuf> = ask.images.iter().chain(&ask.journal).cloned().collect();
    refuse_twice(&news, &typed)?;
    let least = sizes.iter().min().copied().unwrap_or_default();
    let step = match line.kind.family() {
        Family::Raid10 => Sectors(line.chunk.0 * line.copies() as u64),
        Family::Raid1 => BLOCK,
        _ => line.chunk,
    };
    let device = Sectors(least.0.saturating_sub(META.0) / step.0 * step.0);
    if device.is_zero() {
        let needed = print_size((META + step).bytes());
        let place = sizes.iter().position(|size| *size == least).unwrap_or_default();
        let why = format!("is too small: a leg of this set needs {needed} at least");
        return Err(Fault::new(ask.images[place].display(), why));
    }
    let len = layout(&line, device).map(|layout| layout.len());
    let len = len.ok_or_else(|| usage("--copies", "no set can be laid out so"))?;
    line.legs = (0..ask.images.len()).map(|leg| Names::of(&name, leg).words()).collect();
    line.params.journal_dev = journal.is_some().then(|| journal::word(&name));
    // What the target will say of the parameters, before anything is done.
    Line::from_text(&line.to_string(), len).map_err(|error| Fault::new("raid create", error))?;
    // What was made just now is zeros on all legs.
    let is_new = legs.iter().all(|(_, made)| made.is_some());
    let no_sync = can_be_left(line.kind.family()) && (ask.no_sync || is_new);
    let not_made = ask.size.and_then(|asked| of_another_size(asked, &ask.images, &legs, &sizes));
    let odd = not_made.into_iter().chain(uneven(&ask.images, &sizes)).collect();
    let label = Label::new()?;
    Ok(Plan { name, legs, device, len, line, journal, no_sync, label, odd })
}

/// Says which images are there already, and are not as large as the new ones are to be.
fn of_another_size(
    asked: u64,
    images: &[PathBuf],
    legs: &[(New, Option<u64>)],
    sizes: &[Sectors],
) -> Option<String> {
    let all = images.iter().zip(legs).zip(sizes);
    let other = all.filter(|((_, (_, made)), size)| made.is_none() && size.bytes() != asked);
    let other: Vec<String> = other
        .map(|((image, _), size)| format!("{} ({})", image.display(), print_size(size.bytes())))
        .collect();
    (!other.is_empty()).then(|| {
        format!(
            "{}: there already, and not made {} long: --size is the length of new images alone",
            other.join(", "),
            print_size(asked)
        )
    })
}

/// Says which images are much larger than the smallest, whose size all legs have.
fn uneven(images: &[PathBuf], sizes: &[Sectors]) -> Option<String> {
    let (smallest, least) = sizes.iter().enumerate().min_by_key(|(_, size)| **size)?;
    let is_large = |size: &Sectors| size.0 - least.0 > least.0 / 8;
    let large = images.iter().zip(sizes).filter(|(_, size)| is_large(size));
    let large: Vec<String> = large.map(|(image, _)| image.display().to_string()).collect();
    let (large, smallest) = (large.join(", "), images[smallest].display());
    let least = print_size(least.bytes());
    (!large.is_empty()).then(|| {
        format!("{large}: no more of it is used than the {least} that {smallest} has, the smallest image")
    })
}

/// Refuses the name of a device that is there.
pub(super) fn refuse_there(dm: &mut dyn DeviceMapper, name: &str) -> Result<(), Fault> {
    match find(dm, name)? {
        Some(_) => {
            let why = "a device of this name is there already: `dmsim ls` shows all that there are";
            Err(Fault::new(name, why))
        }
        None => Ok(()),
    }
}

fn usage(option: &str, why: &str) -> Fault {
    Fault::new(option, why).with_status(USAGE)
}

/// Tells whether the first resync may be left out, as the kernel has it: a raid0 has none, and the Q
/// of a raid6 has to be right.
fn can_be_left(family: Family) -> bool {
    !matches!(family, Family::Raid0 | Family::Raid6)
}

fn unknown_level(word: &str) -> Fault {
    let levels = LEVELS.join(", ");
    let why = format!(
        "unknown level: expected {levels} (or the number alone), or a type of the kernel's as \
         raid6_nr, before the images"
    );
    usage(word, &why)
}

/// Makes the line, still without devices.
fn line(ask: &Create) -> Result<Line, Fault> {
    let (kind, format) = kind(&ask.level).ok_or_else(|| unknown_level(&ask.level))?;
    let family = kind.family();
    let level = level(kind);
    let only = |option: &str, is_there: bool, fits: bool| match is_there && !fits {
        true => Err(usage(option, &format!("means nothing for a {level}: leave it out"))),
        false => Ok(()),
    };
    if format.is_some() && ask.format.is_some() {
        let why = format!("{} says it already: leave one of the two out", ask.level);
        return Err(usage("--format", &why));
    }
    if family == Family::Raid6 && ask.no_sync {
        let why = "a raid6 is used by all its parity, which has to be right: leave it out";
        return Err(usage("--no-sync", why));
    }
    only("--chunk", ask.chunk.is_some(), family != Family::Raid1)?;
    only("--region-size", ask.region_size.is_some(), family != Family::Raid0)?;
    only("--no-sync", ask.no_sync, family != Family::Raid0)?;
    only("--journal", ask.journal.is_some(), family.parities() > 0)?;
    only("--copies", ask.copies.is_some(), family == Family::Raid10)?;
    only("--format", ask.format.is_some(), family == Family::Raid10)?;
    let legs = ask.images.len();
    let copies = (family == Family::Raid10).then(|| ask.copies.unwrap_or(2));
    let least = copies.unwrap_or(2).max(family.least_legs() as usize);
    if copies.is_some_and(|copies| copies < 2) {
        return Err(usage("--copies", "expected 2 at least"));
    }
    if copies.is_some_and(|copies| copies > MAX_LEGS) {
        return Err(usage(
            "--copies",
            &format!("expected {MAX_LEGS} at most: each is on a leg of its own"),
        ));
    }
    if legs < least || legs > MAX_LEGS {
        let why = format!("a {level} takes {least} to {MAX_LEGS} images, found {legs}");
        return Err(usage("raid create", &why));
    }
    let sectors = |option: &str, bytes: u64| match bytes.is_multiple_of(SECTOR_SIZE) {
        true => Ok(Sectors(bytes / SECTOR_SIZE)),
        false => Err(usage(option, "expected whole sectors of 512 bytes")),
    };
    let chunk = match ask.chunk {
        _ if family == Family::Raid1 => Sectors::ZERO,
        Some(bytes) => sectors("--chunk", bytes)?,
        None => CHUNK,
    };
    let largest = if family.parities() > 0 { LARGEST_WITH_PARITY } else { LARGEST_CHUNK };
    let fits = (LEAST_CHUNK..=largest).contains(&chunk.0) && chunk.0.is_power_of_two();
    if family != Family::Raid1 && !fits {
        let largest = if family.parities() > 0 { "32M" } else { "2G" };
        return Err(usage("--chunk", &format!("expected a power of two, 4K to {largest}")));
    }
    let region_size = match ask.region_size {
        // Tables have it as a number of 32 bits.
        Some(bytes) if bytes >> 40 > 0 => {
            return Err(usage("--region-size", "expected less than 1 TiB"));
        }
        Some(bytes) => Some(sectors("--region-size", bytes)?),
        None => None,
    };
    let params = Params {
        region_size,
        raid10_copies: copies,
        raid10_format: copies.map(|_| format.or(ask.format).unwrap_or(Format::Near)),
        ..Params::default()
    };
    Ok(Line { kind, chunk, params, legs: vec![MISSING; legs] })
}

/// Makes the set, or leaves everything as it was.
pub(super) fn carry_out(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let end = |_: &mut dyn DeviceMapper| "no set was made, and all is as it was".to_owned();
    Done::or_undo(dm, end, |dm, done| forward(dm, plan, done, watch))
}

fn forward(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    done: &mut Done,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let Plan { name, .. } = plan;
    for (leg, (new, made)) in plan.legs.iter().enumerate() {
        go_on(name, watch)?;
        match made {
            Some(bytes) => done.file(&new.path, *bytes)?,
            None => done.clear_heads(&new.path)?,
        }
        done.label(&new.path, Some(plan.label))?;
        done.leg(
            dm,
            &Names::of(name, leg),
            &new.word,
            &Stretch::whole(plan.device),
            Access::ReadWrite,
        )?;
    }
    go_on(name, watch)?;
    if let Some(journal) = &plan.journal {
        journal.carry_out(dm, name, Some(plan.label), done)?;
    }
    let mut first = plan.line.clone();
    if plan.no_sync {
        first.params.synchronize = Synchronize::Nothing;
    }
    done.device(dm, name, table(&first, plan.len))?;
    match () {
        // A table with `nosync` would call off any later resync that a crash has cut off.
        () if plan.no_sync => {
            suspend(dm, name)?;
            put(dm, name, Access::ReadWrite, &table(&plan.line, plan.len), None)
        }
        // A raid0 has its superblocks written at a suspend alone.
        () if plan.line.kind.family() == Family::Raid0 => {
            suspend(dm, name)?;
            resume(dm, name)
        }
        () => Ok(()),
    }
}
