//! `dmsim mirror --add`: makes a mirror of a device in use, or gives one a leg more.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use daemon::fault::USAGE;
use daemon::{About, Fault, keep_out_of_core_dumps};
use sim_core::control::{Report, Slot};
use sim_core::{Access, KeyText, SECTOR_SIZE, Sector, Sectors, TargetSpec};
use targets::lines::mirror::{Features, InitialSync, Log, MAX_LEGS};
use targets::lines::{self, DeviceWord, Place};

use super::leg::{check_fits, encrypts};
use super::state::{Line, MADE_BY_US, line_of, log_dev};
use super::state::{MIRROR, behind};
use super::swap::{Before, put, remove_below, reset_log};
use crate::commands::{create, load, one, resume, suspend, suspend_held, unlike_any_other};
use crate::crash::refuse_recorded;
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, find, named, refuse_name_below, refuse_suspended_below, report};
use crate::files::{first_byte, is_same_file, open_image, path_of};
use crate::parts::{New, Usage, number_of, unused};
use crate::watch::{Watch, go_on};
use crate::words::{MAPPER, device_name};

/// How much a region is where nothing else is asked for: 512 KiB.
const REGION: Sectors = Sectors(1024);

/// Where the bits of a log begin, in bytes.
const BITS: u64 = 1024;

/// A mirror that we make is used on while one leg has the data.
const FEATURES: Features = Features { handle_errors: true, keep_log: true };

/// What is to be done.
pub(super) struct Plan {
    name: String,
    size: Sectors,
    access: Access,
    start: Start,
    /// The table's line.
    line: Line,
    log: Option<NewLog>,
    rate: Option<u64>,
}

/// What the mirror is made from.
enum Start {
    /// A table of one linear line, whose area is the first leg.
    Linear,
    /// Any other table, which moves to a device of this name.
    Below(String),
    /// A mirror; the file of its log, where it has one on a device.
    Mirror(Option<PathBuf>),
}

/// An image for a log.
struct NewLog {
    path: PathBuf,
    made: bool,
}

/// Which leg to add, and how.
#[derive(Clone, Debug, Default)]
pub struct Add {
    /// The mapped device, by its name or the path of its file.
    pub name: String,
    /// The leg: a file, an attached image or a mapped device, as large as the device at least.
    pub image: PathBuf,
    /// The image of the log of regions; nothing, or `core`, for one in memory.
    pub log: Option<PathBuf>,
    /// How much the log tells apart, in bytes; nothing for the usual.
    pub region_size: Option<u64>,
    /// The most that is copied a second, in bytes; zero for as much as can be.
    pub resync_rate: Option<u64>,
}

/// Makes a mirror of a device in use, or gives one a leg more.
///
/// # Errors
/// Where it cannot be done, or `watch` interrupts it: all is as it was, or the fault says what is
/// not.
pub fn add(dm: &mut dyn DeviceMapper, ask: &Add, watch: &dyn Watch) -> Result<(), Fault> {
    // A table that moves may have keys in it.
    keep_out_of_core_dumps();
    let plan = plan(dm, ask)?;
    carry_out(dm, &plan, watch)
}

/// Checks what is asked for. Nothing is changed yet, but for the log's image where it has to be
/// made, which is the last thing.
pub(super) fn plan(dm: &mut dyn DeviceMapper, ask: &Add) -> Result<Plan, Fault> {
    let (device, image) = (device(dm, &ask.name)?, &ask.image);
    let about = image.display().to_string();
    let line = line_of(&device);
    refuse_own(dm, &device, line.as_ref(), &about)?;
    let new = unused(dm, device.name(), image, Usage::ALONE)?;
    check_fits(dm, &device, &new, &about)?;
    refuse_in_the_clear(dm, &device, &new, &about)?;
    let leg = Place { device: new.word.clone(), start: Sector::ZERO };
    let (start, mut line, log) = match line {
        Some(line) => {
            refuse_other(&device, &line, ask)?;
            let log = log_dev(&line).map(|log| path_of(dm, log)).transpose()?;
            (Start::Mirror(log), line, None)
        }
        None => {
            let (start, first) = first_leg(dm, &device)?;
            let region = region(device.size(), ask)?;
            let log = new_log(dm, &device, region, &new, ask)?;
            let word = log.as_ref().map(|(log, _)| log.word.clone());
            let log_line = Log { disk: word, region, sync: InitialSync::AsLogged };
            let line = Line { log: log_line, legs: vec![first], features: FEATURES };
            (start, line, log.map(|(log, made)| NewLog { path: log.path, made }))
        }
    };
    line.log.sync = InitialSync::AsLogged;
    line.legs.push(leg);
    Ok(Plan {
        name: device.name().to_owned(),
        size: device.size(),
        access: device.access(),
        start,
        line,
        log,
        rate: ask.resync_rate,
    })
}

/// Finds the device that is to be a mirror, and refuses what cannot be one.
fn device(dm: &mut dyn DeviceMapper, word: &str) -> Result<Device, Fault> {
    let name = device_name(dm.mount(), word);
    let device = find(dm, &name)?;
    let Some(device) = device else {
        let image = number_of(dm, word)?.is_some() || Path::new(word).is_file();
        let hint = "is an image, and mirrors are made of mapped devices: `dmsim create NAME --table \
                    '0 SECTORS linear IMAGE 0'` puts one over it, to be used instead";
        return Err(Fault::new(word, if image { hint } else { "no such device" }));
    };
    device.refuse_suspended()?;
    device.refuse_unready()?;
    if device.status.read_only {
        return Err(Fault::new(name, "is read-only: what a new leg lacks could not be written"));
    }
    let snapshots = ["snapshot", "snapshot-origin", "snapshot-merge"];
    if let Some(line) = device.live.iter().find(|line| snapshots.contains(&&*line.target_type)) {
        let why = format!(
            "has a table of `{}`, which cannot move: make a mirror of the devices below it",
            line.target_type
        );
        return Err(Fault::new(name, why));
    }
    refuse_recorded(dm, &device)?;
    refuse_suspended_below(dm, &device)?;
    Ok(device)
}

/// Refuses what holds the device's data already.
fn refuse_own(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    line: Option<&Line>,
    about: &str,
) -> Result<(), Fault> {
    let Some(dev) = number_of(dm, about)? else { return Ok(()) };
    let name = device.name();
    if let Some(line) = line {
        if line.legs.len() >= MAX_LEGS as usize {
            return Err(Fault::new(name, format!("has {MAX_LEGS} legs, which is the most")));
        }
        if line.legs.iter().any(|leg| leg.device.number() == Some(dev)) {
            return Err(Fault::new(about, format!("is a leg of `{name}` already")));
        }
        if log_dev(line) == Some(dev) {
            return Err(Fault::new(about, format!("is the log of `{name}`")));
        }
    }
    Ok(())
}

/// Refuses to write the data of an encrypted device to an image.
fn refuse_in_the_clear(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    new: &New,
    about: &str,
) -> Result<(), Fault> {
    let hidden = encrypts(dm, device.status.dev)?;
    let hides = match new.dev {
        Some(dev) => encrypts(dm, dev)?,
        None => false,
    };
    if hidden && !hides {
        let name = device.name();
        let why = format!(
            "would hold the data of `{name}` in the clear, which is encrypted: add a leg that \
             encrypts, or make the device below `crypt` a mirror"
        );
        return Err(Fault::new(about, why));
    }
    Ok(())
}

/// Refuses to change more of a mirror than its legs.
fn refuse_other(device: &Device, line: &Line, ask: &Add) -> Result<(), Fault> {
    if ask.log.is_some() {
        return Err(Fault::new(device.name(), "is a mirror, and has its log: leave --log out"));
    }
    match ask.region_size {
        Some(size) if size != line.log.region.bytes() => {
            let why = format!(
                "has regions of {} sectors, which stay: leave --region-size out",
                line.log.region
            );
            Err(Fault::new(device.name(), why))
        }
        Some(_) | None => Ok(()),
    }
}

/// Says what the first leg of a device's mirror will be.
fn first_leg(
    dm: &mut dyn DeviceMapper,
    device: &Device,
) -> Result<(Start, Place<DeviceWord>), Fault> {
    if let Some(line) = device.only("linear")
        && let Ok(line) = lines::linear::Line::from_text(&line.params, line.len)
    {
        return Ok((Start::Linear, line.place));
    }
    let name = device.name();
    let below = format!("{name}-leg0");
    refuse_name_below(dm, name, &below)?;
    let device = DeviceWord(format!("{MAPPER}{below}"));
    Ok((Start::Below(below), Place { device, start: Sector::ZERO }))
}

fn region(size: Sectors, ask: &Add) -> Result<Sectors, Fault> {
    let usage = |why: String| Err(Fault::new("--region-size", why).with_status(USAGE));
    let Some(bytes) = ask.region_size else {
        if size.0 < 2 {
            return Err(Fault::new(&ask.name, "is too small for a mirror: 2 sectors at least"));
        }
        return Ok(REGION.min(Sectors(1 << size.0.ilog2())));
    };
    let sectors = bytes / SECTOR_SIZE;
    if !bytes.is_multiple_of(SECTOR_SIZE) || !sectors.is_power_of_two() || sectors < 2 {
        return usage(format!("expected a power of two, of 1K at least, found {bytes} bytes"));
    }
    if sectors > size.0 || sectors > u64::from(u32::MAX) {
        return usage(format!(
            "expected no more than the device's {size} sectors, found {sectors}"
        ));
    }
    Ok(Sectors(sectors))
}

/// Finds the image for a log, or makes it; tells whether it did.
fn new_log(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    region: Sectors,
    leg: &New,
    ask: &Add,
) -> Result<Option<(New, bool)>, Fault> {
    let Some(typed) = ask.log.as_deref().filter(|log| *log != Path::new("core")) else {
        return Ok(None);
    };
    let about = typed.display();
    let log = unused(dm, device.name(), typed, Usage::ALONE)?;
    if log.word == leg.word || is_same_file(&log.path, &leg.path) {
        return Err(Fault::new(about, "is the new leg already"));
    }
    match open_image(&log.path) {
        Ok(file) => {
            let found = first_byte(&file).about(&about)?;
            if let Some(at) = found {
                let why = format!(
                    "is not empty, and is left alone: expected zeros, found something at byte {at}"
                );
                return Err(Fault::new(about, why));
            }
            Ok(Some((log, false)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let bits = device.size().0.div_ceil(region.0).div_ceil(64) * 8;
            let len = (BITS + bits).next_multiple_of(4096);
            let mut made = std::fs::File::options();
            let made = made.write(true).create_new(true).mode(0o600).open(&log.path);
            made.and_then(|file| file.set_len(len)).about(&about)?;
            Ok(Some((log, true)))
        }
        Err(error) => Err(Fault::new(about, error)),
    }
}

/// What was done so far, or was about to be: where an answer is lost, nobody knows.
#[derive(Default)]
struct Done {
    before: Option<Before>,
    below: bool,
    suspended: bool,
}

impl Plan {
    fn table(&self) -> Vec<TargetSpec> {
        one(self.size, MIRROR, &self.line.to_string())
    }
}

/// Adds the leg, or leaves everything as it was.
pub(super) fn carry_out(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let mut done = Done::default();
    let Err(fault) = forward(dm, plan, &mut done, watch) else { return Ok(()) };
    let name = &plan.name;
    let undone = back(dm, plan, &done);
    Err(fault.undone(undone, format_args!("no leg was added, and `{name}` is as it was")))
}

fn forward(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    done: &mut Done,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let name = &plan.name;
    let table = report(dm, named(name), Report::Table, Slot::Live, KeyText::Plain)?;
    let (status, table) = table.ok_or_else(|| Fault::new(name, "no such device"))?;
    let below = match &plan.start {
        Start::Below(below) => {
            done.below = true;
            create(dm, below, Some(format!("{MADE_BY_US}{}", unlike_any_other(status.dev))))?;
            load(dm, below, plan.access, table.clone())?;
            Some(below.clone())
        }
        Start::Linear | Start::Mirror(_) => None,
    };
    let (name, access) = (name.clone(), plan.access);
    let before = done.before.insert(Before { name, access, table, below, log: None });
    go_on(&plan.name, watch)?;
    done.suspended = true;
    suspend_held(dm, &plan.name)?;
    match &plan.start {
        Start::Linear => {}
        Start::Below(below) => resume(dm, below)?,
        Start::Mirror(log) => {
            // What the legs have is known to this table alone; the next one copies from the first.
            if !behind(dm, &plan.name)?.is_none() {
                let why = format!("is not in sync: `dmsim wait --sync {}` first", plan.name);
                return Err(Fault::new(&plan.name, why));
            }
            if let Some(log) = log {
                before.log = Some((log.clone(), reset_log(log)?));
            }
        }
    }
    go_on(&plan.name, watch)?;
    put(dm, &plan.name, plan.access, &plan.table(), plan.rate)
}

/// Undoes what was done.
fn back(dm: &mut dyn DeviceMapper, plan: &Plan, done: &Done) -> Result<(), Fault> {
    let mut result = Ok(());
    match &done.before {
        Some(before) if done.suspended => {
            if let Start::Below(below) = &plan.start {
                // Two tables on the same devices are never in use at once.
                result = result.and(suspend(dm, below));
            }
            result = result.and(before.bring_back(dm, &plan.table()));
        }
        Some(_) | None => {}
    }
    if let (true, Start::Below(below)) = (done.below, &plan.start) {
        result = result.and(remove_below(dm, below));
    }
    if let Some(log) = plan.log.as_ref().filter(|log| log.made) {
        result = result.and(std::fs::remove_file(&log.path).about(log.path.display()));
    }
    result
}
