//! `dmsim raid create`: makes a set of images.

use std::path::PathBuf;

use daemon::Fault;
use daemon::fault::USAGE;
use sim_core::{Access, SECTOR_SIZE, Sectors};
use targets::lines::raid::{Family, Kind, MAX_LEGS, Params, Synchronize};
use targets::raid::layout::Format;

use super::leg::{META, MISSING, Names, image, refuse_full, refuse_twice};
use super::state::{Line, layout, table};
use super::steps::Done;
use crate::commands::{resume, suspend};
use crate::device_mapper::DeviceMapper;
use crate::devices::find;
use crate::mirror::swap::put;
use crate::parts::New;
use crate::size::print_size;
use crate::watch::{Watch, go_on};
use crate::words::new_name;

/// How much is on a leg before the next one has its turn, where nothing else is asked for: 64 KiB.
const CHUNK: Sectors = Sectors(128);

/// What a raid1 has to be a multiple of, so that its end suits any sector size.
const BLOCK: Sectors = Sectors(8);

/// The levels that there are.
pub const LEVELS: [&str; 3] = ["raid0", "raid1", "raid10"];

/// Which set to make, and how.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// One of [`LEVELS`].
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
    no_sync: bool,
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
    let plan = plan(dm, ask)?;
    carry_out(dm, &plan, watch)?;
    Ok(dm.mount().join(&plan.name))
}

/// Checks what is asked for. Nothing is changed yet.
pub(super) fn plan(dm: &mut dyn DeviceMapper, ask: &Create) -> Result<Plan, Fault> {
    let name = new_name("raid create", &ask.name)?;
    let mut line = line(ask)?;
    refuse_there(dm, &name)?;
    for leg in 0..ask.images.len() {
        Names::of(&name, leg).refuse_taken(dm)?;
    }
    let mut legs = Vec::new();
    let mut sizes = Vec::new();
    for typed in &ask.images {
        let about = typed.display();
        let (new, size) = image(dm, &name, typed)?;
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
    let news: Vec<&New> = legs.iter().map(|(new, _)| new).collect();
    refuse_twice(&news, &ask.images)?;
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
    // What the target will say of the parameters, before anything is done.
    Line::from_text(&line.to_string(), len).map_err(|error| Fault::new("raid create", error))?;
    // What was made just now is zeros on all legs.
    let is_new = legs.iter().all(|(_, made)| made.is_some());
    let no_sync = line.kind.family() != Family::Raid0 && (ask.no_sync || is_new);
    Ok(Plan { name, legs, device, len, line, no_sync })
}

/// Refuses the name of a device that is there.
pub(super) fn refuse_there(dm: &mut dyn DeviceMapper, name: &str) -> Result<(), Fault> {
    match find(dm, name)? {
        Some(_) => Err(Fault::new(name, "a device of this name is there already")),
        None => Ok(()),
    }
}

fn usage(option: &str, why: &str) -> Fault {
    Fault::new(option, why).with_status(USAGE)
}

fn kind(level: &str) -> Result<Kind, Fault> {
    let expected = LEVELS.join(", ");
    let later = ["raid4", "raid5", "raid6"].iter().any(|known| level.starts_with(known));
    match Kind::named(level).filter(|_| LEVELS.contains(&level)) {
        Some(kind) => Ok(kind),
        None if later => {
            Err(usage(level, &format!("is not supported yet: expected one of {expected}")))
        }
        None => Err(usage(level, &format!("unknown level: expected one of {expected}"))),
    }
}

/// Makes the line, still without devices.
fn line(ask: &Create) -> Result<Line, Fault> {
    let kind = kind(&ask.level)?;
    let family = kind.family();
    let only = |option: &str, is_there: bool, fits: bool| match is_there && !fits {
        true => Err(usage(option, &format!("means nothing for a {}", ask.level))),
        false => Ok(()),
    };
    only("--chunk", ask.chunk.is_some(), family != Family::Raid1)?;
    only("--region-size", ask.region_size.is_some(), family != Family::Raid0)?;
    only("--no-sync", ask.no_sync, family != Family::Raid0)?;
    only("--copies", ask.copies.is_some(), family == Family::Raid10)?;
    only("--format", ask.format.is_some(), family == Family::Raid10)?;
    let legs = ask.images.len();
    let copies = (family == Family::Raid10).then(|| ask.copies.unwrap_or(2));
    let least = copies.unwrap_or(2).max(2);
    if copies.is_some_and(|copies| copies < 2) {
        return Err(usage("--copies", "expected 2 at least"));
    }
    if legs < least || legs > MAX_LEGS {
        let why = format!("expected {least} to {MAX_LEGS} images, found {legs}");
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
    if family != Family::Raid1 && !(8..=1 << 22).contains(&chunk.0) || !power(chunk) {
        return Err(usage("--chunk", "expected a power of two, 4K to 2G"));
    }
    let region_size = match ask.region_size {
        Some(bytes) => Some(sectors("--region-size", bytes)?),
        None => None,
    };
    let params = Params {
        region_size,
        raid10_copies: copies,
        raid10_format: copies.map(|_| ask.format.unwrap_or(Format::Near)),
        ..Params::default()
    };
    Ok(Line { kind, chunk, params, legs: vec![MISSING; legs] })
}

fn power(chunk: Sectors) -> bool {
    chunk.is_zero() || chunk.0.is_power_of_two()
}

/// Makes the set, or leaves everything as it was.
pub(super) fn carry_out(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let mut done = Done::default();
    let Err(fault) = forward(dm, plan, &mut done, watch) else { return Ok(()) };
    let undone = done.undo(dm);
    Err(fault.undone(undone, "no set was made, and all is as it was"))
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
        done.leg(dm, &Names::of(name, leg), &new.word, plan.device)?;
    }
    go_on(name, watch)?;
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
