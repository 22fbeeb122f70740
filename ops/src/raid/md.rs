//! Arrays that mdadm made: found on images, opened, and looked at.
//!
//! One whose superblocks change while it is in use becomes a device of the target `md` over its
//! images. Others are tables of `linear` and `striped`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use daemon::Fault;
use daemon::fault::USAGE;
use sim_core::control::Slot;
use sim_core::{Access, SECTOR_SIZE, Sector, Sectors, TargetSpec};
use targets::lines::linear::Line as Linear;
use targets::lines::md::{Line as MdLine, MEMBERS, Members};
use targets::lines::raid::{Family, Kind, Leg, Params};
use targets::lines::striped::Line as Striped;
use targets::lines::{DeviceWord, Place};
use targets::md::assembly::{Assembly, Candidate, Mode, Refused, Taken, decide, name_of};
use targets::md::superblock::{self, Fault as Bad, Superblock, Version};
use targets::md::tables::{Span, is_flat, spans};
use targets::raid::bitmap::{HEADER, Header};
use targets::raid::layout::Raid10;

use super::assemble::{Assemble, Assembled, Writes, read_only_without};
use super::bios;
use super::create::refuse_there;
use super::leg::{Image, image_there, refuse_twice};
use super::state::Line;
use super::steps::Done;
use crate::commands::{message, one};
use crate::device_mapper::DeviceMapper;
use crate::devices::Device;
use crate::files::{fresh, unwritable};
use crate::parts::New;
use crate::watch::{Watch, go_on};
use crate::words::new_name;

/// The type of the target.
pub(super) const MD: &str = "md";

/// An array that was found.
pub(super) struct Found {
    /// What it is, for people.
    pub(super) told: Vec<String>,
    /// What there is to be warned of.
    pub(super) warned: Vec<String>,
    pub(super) table: Vec<TargetSpec>,
    pub(super) access: Access,
}

/// Opens an array of md, or a volume of a BIOS's set; nothing where the images are of none.
pub(super) fn assemble(
    dm: &mut dyn DeviceMapper,
    ask: &Assemble,
    watch: &dyn Watch,
) -> Result<Option<Assembled>, Fault> {
    let name = new_name("raid assemble", &ask.name)?;
    refuse_there(dm, &name)?;
    let mut images = Vec::new();
    for typed in &ask.images {
        let left_out = "one that is missing may be left out, as far as the level has it";
        images.push(image_there(dm, &name, typed, ask.usage(), left_out)?);
    }
    let news: Vec<&New> = images.iter().map(|image| &image.new).collect();
    refuse_twice(&news, &ask.images)?;
    let found = match find(&images, ask)? {
        Some(found) => Some(found),
        None => bios::find(&images, ask)?,
    };
    let Some(Found { mut told, mut warned, table, mut access }) = found else {
        return Ok(None);
    };
    if ask.journal.is_some() {
        let why = "means nothing for an array of md or a BIOS's set: leave it out";
        return Err(Fault::new("--journal", why).with_status(USAGE));
    }
    if ask.writes == Writes::Refused {
        access = Access::ReadOnly;
    }
    for image in images.iter().filter(|_| ask.writes != Writes::Refused) {
        if let Some(error) = unwritable(&image.new.path) {
            let about = &image.about;
            warned.push(format!("{about} cannot be written: {error}: all is opened read-only"));
            access = Access::ReadOnly;
        }
    }
    for what in &warned {
        watch.warn(&format!("{name}: {what}"));
    }
    told.extend(table.iter().map(TargetSpec::to_string));
    go_on(&name, watch)?;
    let end = |_: &mut dyn DeviceMapper| "no array was opened, and all is as it was".to_owned();
    Done::or_undo(dm, end, |dm, done| done.device_as(dm, &name, table, access))?;
    Ok(Some(Assembled { file: dm.mount().join(&name), told }))
}

/// Looks whether images are members of an array; nothing where none is.
///
/// # Errors
/// Where some are and others are not, or they make no array that can start.
fn find(images: &[Image], ask: &Assemble) -> Result<Option<Found>, Fault> {
    let candidates = all_or_none(images, candidate, |_| "member of an array of md".to_owned())?;
    if candidates.is_empty() {
        return Ok(None);
    }
    bios::refuse_both(images)?;
    let refuse = |refused| refuse(images, refused);
    let first = &candidates[0].superblock;
    match is_flat(&first.facts()) {
        true => Ok(Some(flat(&candidates, images).map_err(refuse)?)),
        false => {
            let assembly = decide(&candidates, mode(ask.force)).map_err(refuse)?;
            Ok(Some(redundant(&candidates, images, &assembly, ask)))
        }
    }
}

/// Looks at images, of which `look` is to find something in all or in none. `what` says what the first one
/// that was found is.
pub(super) fn all_or_none<T>(
    images: &[Image],
    look: impl Fn(&Path, Sectors) -> Result<Option<T>, String>,
    what: impl Fn(&T) -> String,
) -> Result<Vec<T>, Fault> {
    let (mut found, mut stranger) = (Vec::new(), None);
    for image in images {
        match look(&image.new.path, image.size).map_err(|why| Fault::new(&image.about, why))? {
            Some(one) => found.push(one),
            None => stranger = Some(image),
        }
    }
    match (found.first(), stranger) {
        (Some(first), Some(image)) => {
            let why = format!("is no {}, as others of these images are", what(first));
            Err(Fault::new(&image.about, why))
        }
        _ => Ok(found),
    }
}

pub(super) fn mode(force: bool) -> Mode {
    if force { Mode::Force } else { Mode::Careful }
}

/// Says why images make no array.
pub(super) fn refuse(images: &[Image], refused: Refused) -> Fault {
    match refused.member {
        Some(member) => Fault::new(&images[member].about, refused.why),
        None => Fault::new("raid assemble", refused.why),
    }
}

fn flat(candidates: &[Candidate], images: &[Image]) -> Result<Found, Refused> {
    let mut table = Vec::new();
    let mut start = Sector::ZERO;
    for span in &spans(candidates)? {
        table.push(line(span, start, images));
        start += span.len;
    }
    let superblock = &candidates[0].superblock;
    let (name, version) = (name_of(&superblock.facts()), superblock.version());
    let told = vec![format!("{name}, superblocks {version}, which stay as they are")];
    Ok(Found { told, warned: Vec::new(), table, access: Access::ReadWrite })
}

/// Makes the line of a table from some sector on.
pub(super) fn line(span: &Span, start: Sector, images: &[Image]) -> TargetSpec {
    let places = span
        .places
        .iter()
        .map(|(member, at)| Place { device: images[*member].new.word.clone(), start: *at });
    let places: Vec<Place<DeviceWord>> = places.collect();
    let (target_type, params) = match span.chunk {
        Some(chunk) => ("striped", Striped { chunk, stripes: places }.to_string()),
        None => {
            let place = places.into_iter().next().expect("a line has a place");
            ("linear", Linear { place }.to_string())
        }
    };
    let target_type = target_type.to_owned();
    TargetSpec { start, len: span.len, target_type, params: params.into() }
}

fn redundant(
    candidates: &[Candidate],
    images: &[Image],
    assembly: &Assembly,
    ask: &Assemble,
) -> Found {
    let freshest = &candidates[assembly.freshest].superblock;
    let bitmap = if assembly.bitmap.is_some() { "with a bitmap" } else { "without a bitmap" };
    let (name, version) = (name_of(&freshest.facts()), freshest.version());
    let told = vec![format!("{name}, superblocks {version}, {bitmap}")];
    let mut warned = warnings(assembly, images);
    let access = access(ask, assembly, |place| freshest.counts_on(place), &mut warned);
    let members = images.iter().map(|image| image.new.word.clone()).collect();
    let line = MdLine { force: ask.force, volume: None, serials: Vec::new(), members };
    let table = one(assembly.layout.len(), MD, &line.to_string());
    Found { told, warned, table, access }
}

/// Returns how an array is opened that may lack a member which the others count on.
pub(super) fn access(
    ask: &Assemble,
    assembly: &Assembly,
    counts_on: impl Fn(usize) -> bool,
    warned: &mut Vec<String>,
) -> Access {
    if ask.writes != Writes::WhereWhole {
        return ask.writes.access();
    }
    let places = assembly.places.iter().enumerate();
    // A spare would be filled in the place of one that was only forgotten.
    let is_missing =
        |taken: &Taken| matches!(taken, Taken::Nobody | Taken::Rebuilt { was_spare: true, .. });
    let mut missing = places
        .filter(|(place, taken)| is_missing(taken) && counts_on(*place))
        .map(|(place, _)| place);
    match missing.next() {
        Some(place) => {
            warned.push(read_only_without("member", place));
            Access::ReadOnly
        }
        None => Access::ReadWrite,
    }
}

/// Says what is the matter with members.
pub(super) fn warnings(assembly: &Assembly, images: &[Image]) -> Vec<String> {
    let mut warned = Vec::new();
    for (place, taken) in assembly.places.iter().enumerate() {
        let about = |member: &usize| &images[*member].about;
        match taken {
            Taken::InSync(_) => {}
            Taken::Rebuilt { member, was_spare: true, .. } => {
                warned.push(format!("{} was a spare, and gets place {place}", about(member)));
            }
            Taken::Rebuilt { member, back: Some(_), .. } => {
                warned.push(format!("{} is out of date, and gets what it lacks", about(member)));
            }
            Taken::Rebuilt { member, .. } => warned.push(format!("{} is rebuilt", about(member))),
            Taken::Nobody => warned.push(format!("member {place} is missing")),
        }
    }
    for (member, why) in &assembly.left_out {
        warned.push(format!("{} {why}, and is left out", images[*member].about));
    }
    warned
}

/// Reads what an image says of its array; nothing where it says nothing.
pub(super) fn candidate(path: &Path, len: Sectors) -> Result<Option<Candidate>, String> {
    let file = fresh(path, Access::ReadOnly).map_err(|fault| fault.why)?;
    let mut fault = None;
    for version in Version::ALL {
        let Some(at) = version.place(len) else { continue };
        let Ok(bytes) = read(&file, at, superblock::LEN) else { continue };
        match Superblock::read(version, at, &bytes) {
            Ok(superblock) => {
                let bitmap = superblock.facts().bitmap.and_then(|at| {
                    let head = read(&file, at, HEADER).ok()?;
                    Header::read(head.first_chunk()?).ok().filter(|header| header.nodes == 0)
                });
                return Ok(Some(Candidate { superblock, len, bitmap }));
            }
            Err(Bad::None) => {}
            Err(found) => fault = Some(found),
        }
    }
    match fault {
        Some(fault) => Err(format!("has {fault}")),
        None => Ok(None),
    }
}

/// Says of which array an image is a member; nothing where it is of none.
pub(super) fn member_told(path: &Path, len: Sectors) -> Option<String> {
    match candidate(path, len) {
        Ok(found) => {
            let of = name_of(&found?.superblock.facts());
            Some(format!("is a member of an array of md ({of})"))
        }
        // What is damaged may be needed all the more.
        Err(why) => Some(format!("is, or was, a member of an array of md: it {why}")),
    }
}

pub(super) fn read(file: &File, at: Sector, len: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at.0 * SECTOR_SIZE)?;
    Ok(bytes)
}

/// Returns an array that is in use as a line of `raid` would have it, with the members in their places;
/// nothing where a device is no array.
///
/// It is the array itself that is asked: its superblocks are written while it is in use, and images may be
/// gone by now.
pub(super) fn line_of(dm: &mut dyn DeviceMapper, device: &Device) -> Result<Option<Line>, Fault> {
    if device.only(MD).is_none() {
        return Ok(None);
    }
    let name = device.name();
    let told = message(dm, name, Slot::Live, MEMBERS)?.unwrap_or_default();
    let unknown = || Fault::new(name, format!("unknown answer to `{MEMBERS}`: `{told}`"));
    let Members { geometry, region, places } = Members::from_text(&told).ok_or_else(unknown)?;
    let kind = Kind::nearest(geometry.level, geometry.layout);
    let mut params = Params { region_size: Some(region), ..Params::default() };
    if kind.family() == Family::Raid10 {
        // Its lengths are no matter here.
        let (legs, chunk) = (places.len(), Sectors(geometry.chunk_sectors.into()));
        let raid10 = Raid10::new(geometry.layout, legs, chunk, chunk).ok_or_else(unknown)?;
        params.raid10_copies = Some(raid10.copies());
        params.raid10_format = Some(raid10.format());
    }
    let legs = places.into_iter().map(|data| Leg { meta: None, data }).collect();
    Ok(Some(Line { kind, chunk: Sectors(geometry.chunk_sectors.into()), params, legs }))
}
