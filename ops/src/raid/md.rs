//! Arrays that mdadm made: found on images, opened, and looked at.
//!
//! One whose superblocks change while it is in use becomes a device of the target `md` over its
//! images. Others are tables of `linear` and `striped`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use daemon::{About, Fault};
use sim_core::{Access, SECTOR_SIZE, Sector, Sectors, TargetSpec};
use targets::lines::linear::Line as Linear;
use targets::lines::md::Line as MdLine;
use targets::lines::raid::{Kind, Leg, Params};
use targets::lines::striped::Line as Striped;
use targets::lines::{DeviceWord, Place};
use targets::md::assembly::{Assembly, Candidate, Mode, Refused, Taken, decide, name_of};
use targets::md::superblock::{self, Fault as Bad, Role, Superblock, Version};
use targets::md::tables::{is_flat, spans};
use targets::raid::bitmap::{HEADER, Header};

use super::assemble::{Assemble, Assembled};
use super::create::refuse_there;
use super::leg::{Image, MISSING, file_of, image_there, refuse_twice};
use super::state::Line;
use super::steps::Done;
use crate::commands::one;
use crate::device_mapper::DeviceMapper;
use crate::devices::Device;
use crate::files::fresh;
use crate::parts::New;
use crate::watch::{Watch, go_on};
use crate::words::new_name;

/// The type of the target.
pub(super) const MD: &str = "md";

/// An array that was found.
struct Found {
    /// What it is, for people.
    told: Vec<String>,
    /// What there is to be warned of.
    warned: Vec<String>,
    table: Vec<TargetSpec>,
}

/// Opens an array of md; nothing where the images are of none.
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
        images.push(image_there(dm, &name, typed, left_out)?);
    }
    let news: Vec<&New> = images.iter().map(|image| &image.new).collect();
    refuse_twice(&news, &ask.images)?;
    let Some(Found { mut told, warned, table }) = find(&images, ask.force)? else {
        return Ok(None);
    };
    for what in &warned {
        watch.warn(&format!("{name}: {what}"));
    }
    told.extend(table.iter().map(TargetSpec::to_string));
    go_on(&name, watch)?;
    let mut done = Done::default();
    if let Err(fault) = done.device(dm, &name, table) {
        let undone = done.undo(dm);
        return Err(fault.undone(undone, "no array was opened, and all is as it was"));
    }
    Ok(Some(Assembled { file: dm.mount().join(&name), told }))
}

/// Looks whether images are members of an array; nothing where none is.
///
/// # Errors
/// Where some are and others are not, or they make no array that can start.
fn find(images: &[Image], force: bool) -> Result<Option<Found>, Fault> {
    let mut candidates = Vec::new();
    let mut stranger = None;
    for image in images {
        match candidate(&image.new.path, image.size).map_err(|why| Fault::new(&image.about, why))? {
            Some(candidate) => candidates.push(candidate),
            None => stranger = Some(image),
        }
    }
    if candidates.is_empty() {
        return Ok(None);
    }
    if let Some(image) = stranger {
        let why = "is no member of an array of md, as others of these images are";
        return Err(Fault::new(&image.about, why));
    }
    let refuse = |refused: Refused| match refused.member {
        Some(member) => Fault::new(&images[member].about, refused.why),
        None => Fault::new("raid assemble", refused.why),
    };
    let first = &candidates[0].superblock;
    match is_flat(&first.facts()) {
        true => Ok(Some(flat(&candidates, images).map_err(refuse)?)),
        false => {
            let mode = if force { Mode::Force } else { Mode::Careful };
            let assembly = decide(&candidates, mode).map_err(refuse)?;
            Ok(Some(redundant(&candidates, images, &assembly, force)))
        }
    }
}

fn flat(candidates: &[Candidate], images: &[Image]) -> Result<Found, Refused> {
    let spans = spans(candidates)?;
    let mut table = Vec::new();
    let mut start = Sector::ZERO;
    for span in &spans {
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
        table.push(TargetSpec { start, len: span.len, target_type, params: params.into() });
        start += span.len;
    }
    let superblock = &candidates[0].superblock;
    let (name, version) = (name_of(&superblock.facts()), superblock.version());
    let told = vec![format!("{name}, superblocks {version}, which stay as they are")];
    Ok(Found { told, warned: Vec::new(), table })
}

fn redundant(
    candidates: &[Candidate],
    images: &[Image],
    assembly: &Assembly,
    force: bool,
) -> Found {
    let freshest = &candidates[assembly.freshest].superblock;
    let bitmap = if assembly.bitmap.is_some() { "with a bitmap" } else { "without a bitmap" };
    let (name, version) = (name_of(&freshest.facts()), freshest.version());
    let told = vec![format!("{name}, superblocks {version}, {bitmap}")];
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
    let members = images.iter().map(|image| image.new.word.clone()).collect();
    let line = MdLine { force, members };
    let table = one(assembly.layout.len(), MD, &line.to_string());
    Found { told, warned, table }
}

/// Reads what an image says of its array; nothing where it says nothing.
fn candidate(path: &Path, len: Sectors) -> Result<Option<Candidate>, String> {
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

fn read(file: &File, at: Sector, len: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at.0 * SECTOR_SIZE)?;
    Ok(bytes)
}

/// Returns an array that is in use as a line of `raid` would have it, with the members in their places;
/// nothing where a device is no array.
pub(super) fn line_of(dm: &mut dyn DeviceMapper, device: &Device) -> Result<Option<Line>, Fault> {
    let Some(found) = device.only(MD) else { return Ok(None) };
    let (len, params) = (found.len, found.params.clone());
    let Ok(line) = MdLine::from_text(&params, len) else { return Ok(None) };
    let mut candidates = Vec::new();
    let mut words = Vec::new();
    for word in &line.members {
        let Some(path) = file_of(dm, word.number())? else { continue };
        let size = std::fs::metadata(&path).about(path.display())?.len();
        // Another may have been written over it.
        if let Ok(Some(candidate)) = candidate(&path, Sectors::in_bytes(size)) {
            candidates.push(candidate);
            words.push(word.clone());
        }
    }
    let Ok(assembly) = decide(&candidates, Mode::Force) else { return Ok(None) };
    let mut legs: Vec<Leg<DeviceWord>> = assembly
        .places
        .iter()
        .map(|taken| Leg { meta: None, data: taken.member().map(|nr| words[nr].clone()) })
        .collect();
    // Those that have failed since.
    for (nr, candidate) in candidates.iter().enumerate() {
        if let Role::Active(place) = candidate.superblock.facts().role
            && let Some(leg @ Leg { data: None, .. }) = legs.get_mut(place)
        {
            leg.data = Some(words[nr].clone());
        }
    }
    legs.resize(assembly.places.len(), MISSING);
    let geometry = assembly.geometry;
    let kind = Kind::nearest(geometry.level, geometry.layout);
    let mut params = Params {
        region_size: Some(assembly.bitmap.as_ref().map_or(Sectors::ZERO, Header::chunk)),
        ..Params::default()
    };
    if let targets::raid::layout::Layout::Raid10(raid10) = &assembly.layout {
        params.raid10_copies = Some(raid10.copies());
        params.raid10_format = Some(raid10.format());
    }
    Ok(Some(Line { kind, chunk: Sectors(geometry.chunk_sectors.into()), params, legs }))
}
