//! `dmsim raid assemble`: puts a set together again from what its images say.

use std::path::PathBuf;

use daemon::Fault;
use sim_core::Sectors;
use targets::lines::raid::{Family, Kind, MAX_LEGS, Params};
use targets::raid::bitmap::{HEADER, Header, OFFSET};
use targets::raid::layout::Raid10;
use targets::raid::superblock::{DONE, Extension, Superblock};

use super::create::refuse_there;
use super::leg::{Image, MISSING, Names, heads, image_there, refuse_small, refuse_twice};
use super::state::{Line, has_all, layout, table};
use super::steps::Done;
use crate::device_mapper::DeviceMapper;
use crate::parts::New;
use crate::watch::{Watch, go_on};
use crate::words::new_name;

/// Which set to put together.
#[derive(Clone, Debug, Default)]
pub struct Assemble {
    /// The images, in any order; those of some legs may be missing.
    pub images: Vec<PathBuf>,
    /// What the device is to be called.
    pub name: String,
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
}

/// What is to be done.
pub(super) struct Plan {
    pub(super) name: String,
    /// By the places of the legs.
    legs: Vec<Option<Member>>,
    device: Sectors,
    len: Sectors,
    line: Line,
}

/// Puts a set together again; returns the file that shows it.
///
/// # Errors
/// Where the images do not fit one another, lack too much, or `watch` interrupts it: all is as it
/// was, or the fault says what is not.
pub fn assemble(
    dm: &mut dyn DeviceMapper,
    ask: &Assemble,
    watch: &dyn Watch,
) -> Result<PathBuf, Fault> {
    let plan = plan(dm, ask)?;
    for leg in plan.missing() {
        watch.warn(&format!("{}: leg {leg} is missing", plan.name));
    }
    carry_out(dm, &plan, watch)?;
    Ok(dm.mount().join(&plan.name))
}

/// Checks what is asked for. Nothing is changed yet.
pub(super) fn plan(dm: &mut dyn DeviceMapper, ask: &Assemble) -> Result<Plan, Fault> {
    let name = new_name("raid assemble", &ask.name)?;
    refuse_there(dm, &name)?;
    let mut members = Vec::new();
    for typed in &ask.images {
        members.push(member(image_there(dm, &name, typed)?)?);
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
    if lacks {
        let there = legs.iter().flatten().count();
        let why = format!(
            "lacks some of its data: {there} of the {devices} legs are there, and those in sync \
             among them have not all of it"
        );
        return Err(Fault::new(&name, why));
    }
    for (leg, member) in legs.iter().enumerate() {
        if member.is_some() {
            Names::of(&name, leg).refuse_taken(dm)?;
            line.legs[leg] = Names::of(&name, leg).words();
        }
    }
    Ok(Plan { name, legs, device, len, line })
}

/// Reads what an image says of its set.
fn member(image: Image) -> Result<Member, Fault> {
    let refuse = |why: &str| Err(Fault::new(&image.about, why));
    let found = heads(&image.new.path)?;
    let bytes = found.map(|(_, bytes)| bytes).unwrap_or_default();
    let superblock = match bytes.is_empty() {
        true => None,
        false => Superblock::read(&bytes),
    };
    let Some(superblock) = superblock else {
        return refuse("holds no leg of a set: expected a superblock at its start");
    };
    let bits = &bytes[OFFSET as usize..][..HEADER];
    let bitmap = Header::read(bits.try_into().expect("so long a header is")).ok();
    let Some(extension) = superblock.extension.clone() else {
        return refuse("has a superblock of before dm-raid 1.9.0, which says too little");
    };
    if extension.reshape.is_some() || extension.data_offset != 0 {
        return refuse("is of a set that was reshaped, which is not supported yet");
    }
    Ok(Member { image, superblock, extension, bitmap })
}

/// Refuses a leg of another set than that of the freshest.
fn refuse_stranger(freshest: &Member, member: &Member) -> Result<(), Fault> {
    let shape = |member: &Member| {
        let superblock = &member.superblock;
        let extension = &member.extension;
        (superblock.geometry, superblock.devices, extension.array_sectors, extension.device_sectors)
    };
    if shape(freshest) == shape(member) {
        return Ok(());
    }
    let text = |member: &Member| {
        let (geometry, devices, array, _) = shape(member);
        format!("a raid{} of {devices} legs and {array} sectors", geometry.level)
    };
    let (one, other) = (text(member), text(freshest));
    let about = &freshest.image.about;
    let why = match one == other {
        true => format!("is laid out otherwise than the set of {about}"),
        false => format!("belongs to {one}, and {about} to {other}"),
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
        (level, _) => return refuse(format!("is of a raid{level}, which is not supported yet")),
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
    done.device(dm, name, table(&plan.line, plan.len))
}
