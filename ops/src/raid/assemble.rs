//! `dmsim raid assemble`: puts a set together again from what its images say.

use std::path::PathBuf;

use daemon::{About, Fault};
use sim_core::{Access, Sectors};
use targets::lines::raid::{Family, Kind, MAX_LEGS, Params, Synchronize};
use targets::raid::bitmap::{HEADER, Header, OFFSET};
use targets::raid::layout::{Layout, Raid10};
use targets::raid::superblock::{DONE, Extension, Superblock};

use super::bios;
use super::create::refuse_there;
use super::leg::label::Label;
use super::leg::marked::marked_in;
use super::leg::{Image, MISSING, Names, heads, image_there, refuse_small, refuse_twice};
use super::level::{level, level_of};
use super::md;
use super::state::{Line, has_all, layout, table};
use super::steps::Done;
use super::wait::until_synced;
use crate::commands::suspend;
use crate::device_mapper::DeviceMapper;
use crate::files::fresh;
use crate::mirror::swap::put;
use crate::parts::New;
use crate::size::print_size;
use crate::watch::{Watch, go_on};
use crate::words::new_name;

/// Which set to put together.
#[derive(Clone, Debug, Default)]
pub struct Assemble {
    /// The images, in any order; those of some legs may be missing.
    pub images: Vec<PathBuf>,
    /// What the device is to be called.
    pub name: String,
    /// Takes parity that was never made right for what a missing leg has; of an array of md, as `mdadm
    /// --assemble --force`.
    pub force: bool,
    /// Of a BIOS's set with several volumes: this one.
    pub volume: Option<String>,
    /// The serial numbers of the disks that the images are of, in their order; none where the names of the
    /// files say them, or nothing asks for them.
    pub serials: Vec<String>,
}

/// A set that was put together.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// The file that shows it.
    pub file: PathBuf,
    /// Of an array of md or a BIOS's set: what was found, and the table that was loaded.
    pub told: Vec<String>,
}

/// By so many events a superblock may be behind the freshest: those that a crash has cut off.
const CUT_OFF: u64 = 2;

/// An image, and what its metadata says.
struct Member {
    image: Image,
    superblock: Superblock,
    extension: Extension,
    /// The bitmap's header, where there is one.
    bitmap: Option<Header>,
    /// That of its set, where it has one.
    label: Option<Label>,
}

/// What is to be done.
pub(super) struct Plan {
    pub(super) name: String,
    /// By the places of the legs.
    legs: Vec<Option<Member>>,
    device: Sectors,
    len: Sectors,
    line: Line,
    /// The legs that are missing, or not in sync.
    lost: Vec<usize>,
    /// Without all legs, so much was marked in the bitmap when the set was used last.
    marked: Option<Sectors>,
    /// Its parity was never made right, and somebody takes it all the same.
    forced: bool,
}

/// Puts a set together again: one of `dmsim raid create`, an array of md, or a volume of a BIOS's set.
///
/// # Errors
/// Where the images do not fit one another, lack too much, or `watch` interrupts it: all is as it
/// was, or the fault says what is not.
pub fn assemble(
    dm: &mut dyn DeviceMapper,
    ask: &Assemble,
    watch: &dyn Watch,
) -> Result<Assembled, Fault> {
    if let Some(array) = md::assemble(dm, ask, watch)? {
        return Ok(array);
    }
    let plan = plan(dm, ask)?;
    for leg in plan.missing() {
        watch.warn(&format!("{}: leg {leg} is missing", plan.name));
    }
    if let Some(marked) = plan.marked {
        watch.warn(&format!(
            "{}: {} were marked as being written when not all legs were there: where that ended in a \
             crash, what they had may be wrong (the write hole); check the file system",
            plan.name,
            print_size(marked.bytes())
        ));
    }
    carry_out(dm, &plan, watch)?;
    Ok(Assembled { file: dm.mount().join(&plan.name), told: Vec::new() })
}

/// Checks what is asked for. Nothing is changed yet.
pub(super) fn plan(dm: &mut dyn DeviceMapper, ask: &Assemble) -> Result<Plan, Fault> {
    let name = new_name("raid assemble", &ask.name)?;
    refuse_there(dm, &name)?;
    let mut members = Vec::new();
    for typed in &ask.images {
        let left_out = "one leg that is missing may be left out, or more, as the level has it";
        members.push(member(image_there(dm, &name, typed, left_out)?)?);
    }
    let news: Vec<&New> = members.iter().map(|member| &member.image.new).collect();
    refuse_twice(&news, &ask.images)?;
    let freshest = members.iter().rev().max_by_key(|member| member.superblock.events);
    let freshest = freshest.ok_or_else(|| Fault::new("raid assemble", "expected an image"))?;
    members.iter().try_for_each(|member| refuse_stranger(freshest, member))?;
    refuse_parted(&members)?;
    members.iter().try_for_each(|member| refuse_stale(freshest, member))?;
    let devices = freshest.superblock.devices as usize;
    let (device, len) =
        (Sectors(freshest.extension.device_sectors), Sectors(freshest.extension.array_sectors));
    let mut line = line_of(freshest, devices)?;
    let failed = freshest.superblock.failed;
    let is_dirty = freshest.superblock.resync_offset != DONE;
    let marked = marked_in(&fresh(&freshest.image.new.path, Access::ReadOnly)?);
    let mut legs: Vec<Option<Member>> = (0..devices).map(|_| None).collect();
    for member in members {
        let place = member.superblock.position as usize;
        refuse_small(&member.image, device)?;
        match legs.get_mut(place) {
            Some(leg @ None) => *leg = Some(member),
            Some(Some(other)) => {
                let why = format!("is leg {place}, as is {}: leave one out", other.image.about);
                return Err(Fault::new(&member.image.about, why));
            }
            None => {
                let why = format!("is leg {place} of a set of {devices}");
                return Err(Fault::new(&member.image.about, why));
            }
        }
    }
    let is_lost = |leg: usize| match &legs[leg] {
        None => true,
        Some(member) => member.superblock.recovery_offset != DONE || failed.has(leg),
    };
    let fits = layout(&line, device).filter(|layout| layout.len() == len);
    let fits = fits.ok_or_else(|| Fault::new(&name, "its superblocks tell of no possible set"))?;
    // Without any redundancy, no leg of a raid0 is out of sync.
    let lacks = match line.kind.family() {
        Family::Raid0 => !has_all(&fits, |leg| legs[leg].is_none()),
        _ => !has_all(&fits, is_lost),
    };
    let missing: Vec<usize> = (0..devices).filter(|leg| legs[*leg].is_none()).collect();
    if lacks {
        let there = devices - missing.len();
        let why = format!(
            "lacks some of its data: {there} of the {devices} legs are there, and those in sync \
             among them have not all of it{}",
            name_too(&missing)
        );
        return Err(Fault::new(&name, why));
    }
    let lost: Vec<usize> = (0..devices).filter(|leg| is_lost(*leg)).collect();
    let lacks_parity = matches!(fits, Layout::Parity(_)) && !lost.is_empty();
    let forced = lacks_parity && is_dirty;
    if forced && !ask.force {
        let why = format!(
            "is a {} whose parity was never made right as a whole, so that it does not tell what a \
             missing leg had{}; --force takes it all the same, and some of the data for lost",
            level(line.kind),
            name_too(&missing)
        );
        return Err(Fault::new(&name, why));
    }
    for (leg, member) in legs.iter().enumerate() {
        if member.is_some() {
            Names::of(&name, leg).refuse_taken(dm)?;
            line.legs[leg] = Names::of(&name, leg).words();
        }
    }
    let marked = marked.filter(|marked| lacks_parity && !marked.is_zero());
    Ok(Plan { name, legs, device, len, line, lost, marked, forced })
}

/// Says which legs to name as well.
fn name_too(missing: &[usize]) -> String {
    match missing {
        [] => String::new(),
        [leg] => format!(": name the image of leg {leg}, too"),
        legs => {
            let legs: Vec<String> = legs.iter().map(usize::to_string).collect();
            format!(": name the images of more of the legs {}, too", legs.join(", "))
        }
    }
}

/// Reads what an image says of its set.
fn member(image: Image) -> Result<Member, Fault> {
    let refuse = |why: &str| Err(Fault::new(&image.about, why));
    let found = heads(&image.new.path)?;
    let label = match &found {
        Some((file, _)) => Label::read(file).about(&image.about)?,
        None => None,
    };
    let bytes = found.map(|(_, bytes)| bytes).unwrap_or_default();
    let superblock = match bytes.is_empty() {
        true => None,
        false => Superblock::read(&bytes),
    };
    let Some(superblock) = superblock else {
        if let Some(why) = bios::stranger(&image) {
            return refuse(&why);
        }
        return refuse(
            "holds no leg of a set: expected a superblock at its start. `dmsim raid create` makes a set, \
             `dmsim raid replace` puts an image in the place of a leg",
        );
    };
    let bits = &bytes[OFFSET as usize..][..HEADER];
    let bitmap = Header::read(bits.try_into().expect("so long a header is")).ok();
    let Some(extension) = superblock.extension.clone() else {
        return refuse("has a superblock of before dm-raid 1.9.0, which says too little");
    };
    if extension.reshape.is_some() || extension.data_offset != 0 {
        return refuse("is of a set that was reshaped, which is not supported yet");
    }
    Ok(Member { image, superblock, extension, bitmap, label })
}

/// Refuses a leg of another set than that of the freshest.
fn refuse_stranger(freshest: &Member, member: &Member) -> Result<(), Fault> {
    let shape = |member: &Member| {
        let superblock = &member.superblock;
        let extension = &member.extension;
        (superblock.geometry, superblock.devices, extension.array_sectors, extension.device_sectors)
    };
    if shape(freshest) == shape(member) {
        let labels = freshest.label.zip(member.label);
        return match labels.is_none_or(|(one, other)| one == other) {
            true => Ok(()),
            false => {
                let about = &freshest.image.about;
                let why = format!("is of another set than {about}: leave one of the two out");
                Err(Fault::new(&member.image.about, why))
            }
        };
    }
    let text = |member: &Member| {
        let (_, devices, array, _) = shape(member);
        let level = level_of(&member.superblock);
        format!("a {level} of {devices} legs and {array} sectors")
    };
    let (one, other) = (text(member), text(freshest));
    let about = &freshest.image.about;
    let why = match one == other {
        true => format!("is laid out otherwise than the set of {about}: leave one of the two out"),
        false => format!("belongs to {one}, and {about} to {other}: leave one of the two out"),
    };
    Err(Fault::new(&member.image.about, why))
}

/// Refuses two legs that were each used without the other.
fn refuse_parted(members: &[Member]) -> Result<(), Fault> {
    for (nr, one) in members.iter().enumerate() {
        for other in &members[..nr] {
            let has_failed = |one: &Member, other: &Member| {
                one.superblock.failed.has(other.superblock.position as usize)
            };
            if has_failed(one, other) && has_failed(other, one) {
                let (one, other) = (&one.image.about, &other.image.about);
                let why = format!(
                    "was used without {other}, and {other} without it, so that they differ: name the \
                     one that is right, and `dmsim raid replace` the other"
                );
                return Err(Fault::new(one, why));
            }
        }
    }
    Ok(())
}

/// Refuses a leg that others have not as failed, and that was not there when they were used last: one
/// that was replaced. The target would take it for good, as the kernel does.
fn refuse_stale(freshest: &Member, member: &Member) -> Result<(), Fault> {
    let (own, last) = (&member.superblock, &freshest.superblock);
    let is_known = last.failed.has(own.position as usize);
    if is_known || own.events.saturating_add(CUT_OFF) >= last.events {
        return Ok(());
    }
    let why = format!(
        "is not up to date, and {} knows nothing of that: it is at event {}, and the set at {}. It was \
         replaced, or is an old copy: leave it out",
        freshest.image.about, own.events, last.events
    );
    Err(Fault::new(&member.image.about, why))
}

/// Makes the line of a set, still without devices.
fn line_of(freshest: &Member, devices: usize) -> Result<Line, Fault> {
    let geometry = freshest.superblock.geometry;
    let refuse = |why: String| Err(Fault::new(&freshest.image.about, why));
    if !(1..=MAX_LEGS).contains(&devices) {
        return refuse(format!("is of a set of {devices} legs: expected 1 to {MAX_LEGS}"));
    }
    let (kind, params) = match (geometry.level, Raid10::parse(geometry.layout)) {
        (0, _) => (Kind::Raid0, Params::default()),
        (1, _) => (Kind::Raid1, Params::default()),
        (10, Some((format, copies, sets))) => {
            let params = Params {
                raid10_copies: Some(copies),
                raid10_format: Some(format),
                raid10_use_near_sets: format != targets::raid::layout::Format::Near && !sets,
                ..Params::default()
            };
            (Kind::Raid10, params)
        }
        (level, _) => match Kind::of(level, geometry.layout) {
            Some(kind) => (kind, Params::default()),
            None => {
                let layout = geometry.layout;
                let why =
                    format!("is of a raid{level} of layout {layout}, which no table can name");
                return refuse(why);
            }
        },
    };
    let chunk = Sectors(geometry.chunk_sectors.into());
    let legs = vec![MISSING; devices];
    let mut line = Line { kind, chunk, params, legs };
    let len = Sectors(freshest.extension.array_sectors);
    if let Some(bitmap) = freshest.bitmap.as_ref().filter(|_| kind != Kind::Raid0) {
        let region = Sectors(u64::from(bitmap.chunk_bytes) / sim_core::SECTOR_SIZE);
        line.params.region_size = (region != line.region_size(len)).then_some(region);
    }
    Ok(line)
}

impl Plan {
    /// Lists the legs that are missing.
    fn missing(&self) -> impl Iterator<Item = usize> {
        let legs = self.legs.iter().enumerate();
        legs.filter(|(_, leg)| leg.is_none()).map(|(place, _)| place)
    }
}

/// Puts the set together, or leaves everything as it was.
pub(super) fn carry_out(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let mut done = Done::default();
    let Err(fault) = forward(dm, plan, &mut done, watch) else { return Ok(()) };
    let undone = done.undo(dm);
    Err(fault.undone(undone, "no set was put together, and all is as it was"))
}

fn forward(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    done: &mut Done,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let Plan { name, .. } = plan;
    for (leg, member) in plan.legs.iter().enumerate() {
        if let Some(member) = member {
            go_on(name, watch)?;
            done.leg(dm, &Names::of(name, leg), &member.image.new.word, plan.device)?;
        }
    }
    go_on(name, watch)?;
    let mut first = plan.line.clone();
    if plan.forced {
        first.params.synchronize = Synchronize::Everything;
    }
    done.device(dm, name, table(&first, plan.len))?;
    if !plan.forced {
        return Ok(());
    }
    // A table with `sync` would start any set that is open later.
    until_synced(dm, name, &plan.line, &plan.lost, watch)?;
    suspend(dm, name)?;
    put(dm, name, Access::ReadWrite, &table(&plan.line, plan.len), None)
}
