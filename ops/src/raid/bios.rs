//! Sets that a BIOS or a controller made: Intel's and those in the Disk Data Format are opened, a volume at
//! a time; others are known by name.

use std::path::Path;

use daemon::Fault;
use sim_core::{Access, Sector, Sectors};
use targets::bios::assembly::{self, Candidate, Chosen, choose};
use targets::bios::vendors::{self, Vendor};
use targets::bios::{Member, Pieces, read_whole};
use targets::lines::DeviceWord;
use targets::lines::md::Line as MdLine;

use super::assemble::Assemble;
use super::leg::Image;
use super::md::{Found, MD, access, all_or_none, line, mode, read, refuse, warnings};
use crate::commands::one;
use crate::files::fresh;

/// Looks whether images are disks of a set; nothing where none is.
///
/// # Errors
/// Where some are and others are not, what they say is wrong, or they make no volume that can start.
pub(super) fn find(images: &[Image], ask: &Assemble) -> Result<Option<Found>, Fault> {
    let members = all_or_none(images, member, |first| format!("disk of {}", first.kind()))?;
    let Some(kind) = members.first().map(Member::kind) else { return Ok(None) };
    let candidates = candidates(members, images, ask)?;
    let refuse = |refused| refuse(images, refused);
    let chosen = choose(&candidates, ask.volume.as_deref()).map_err(refuse)?;
    let mut told = vec![format!("{}, a volume of {kind}", chosen.about())];
    if chosen.volume.level == 0 {
        let span = chosen.span().map_err(refuse)?;
        let table = vec![line(&span, Sector::ZERO, images)];
        return Ok(Some(Found { told, warned: Vec::new(), table, access: Access::ReadWrite }));
    }
    let assembly = chosen.assembly(mode(ask.force)).map_err(refuse)?;
    let mut warned = warnings(&assembly, images);
    let slots = &chosen.volume.slots;
    let access = match &chosen.read_only {
        Some(why) => {
            warned.push(format!("the volume {why}: it is opened read-only"));
            told[0].push_str(", read-only");
            Access::ReadOnly
        }
        None => access(ask, &assembly, |place| slots[place].is_in_sync, &mut warned),
    };
    let line = md_line(&chosen, &candidates, images, ask.force);
    let table = one(chosen.volume.len, MD, &line.to_string());
    Ok(Some(Found { told, warned, table, access }))
}

/// Gives the disks their serial numbers: those that were said, or those that their files are called by.
fn candidates(
    members: Vec<Member>,
    images: &[Image],
    ask: &Assemble,
) -> Result<Vec<Candidate>, Fault> {
    if !ask.serials.is_empty() && ask.serials.len() != images.len() {
        let (expected, found) = (images.len(), ask.serials.len());
        let why = format!("expected one for each of the {expected} images, found {found}");
        return Err(Fault::new("--serials", why));
    }
    let known: Vec<String> = members.iter().flat_map(Member::serials).collect();
    let serial = |nr: usize| match ask.serials.get(nr) {
        Some(serial) => Some(serial.clone()),
        None => by_name(&images[nr].new.path, &known),
    };
    let all = members.into_iter().zip(images).enumerate();
    Ok(all
        .map(|(nr, (member, image))| Candidate { member, len: image.size, serial: serial(nr) })
        .collect())
}

/// Returns the serial number that a file's name has in it, where it is one of a set's.
fn by_name(path: &Path, known: &[String]) -> Option<String> {
    /// What is shorter may be there by chance.
    const LEAST: usize = 4;
    let name = path.file_name()?.to_str()?;
    let found = known
        .iter()
        .map(|serial| serial.strip_suffix(":0").unwrap_or(serial))
        .filter(|serial| serial.len() >= LEAST && name.contains(serial));
    let mut found: Vec<&str> = found.collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [serial] => Some(serial.to_owned()),
        _ => None,
    }
}

/// Names the volumes of the set that disks are of; none where they are of none, or of several.
pub(crate) fn volumes(images: &[(&Path, Sectors)]) -> Vec<String> {
    let candidate = |(path, len): &(&Path, Sectors)| {
        let member = member(path, *len).ok()??;
        Some(Candidate { member, len: *len, serial: None })
    };
    let candidates: Vec<Candidate> = images.iter().filter_map(candidate).collect();
    let volumes = assembly::volumes(&candidates).unwrap_or_default();
    volumes.into_iter().map(|volume| volume.name).collect()
}

fn md_line(
    chosen: &Chosen,
    candidates: &[Candidate],
    images: &[Image],
    force: bool,
) -> MdLine<DeviceWord> {
    let serials = candidates.iter().map(|candidate| candidate.serial.clone());
    MdLine {
        force,
        volume: Some(chosen.volume.name.clone()),
        serials: serials.collect::<Option<_>>().unwrap_or_default(),
        members: images.iter().map(|image| image.new.word.clone()).collect(),
    }
}

/// Reads what an image says of its set; nothing where it says nothing.
pub(super) fn member(path: &Path, len: Sectors) -> Result<Option<Member>, String> {
    let file = fresh(path, Access::ReadOnly).map_err(|fault| fault.why)?;
    let look = |pieces: &Pieces| targets::bios::read(len, pieces);
    read_whole(look, |at, len| read(&file, at, len.bytes() as usize).ok()).map_err(|fault| {
        format!(
            "has {fault}. Where the set can do without it, leave it out; the BIOS or `mdadm --add` makes it \
             new then"
        )
    })
}

/// Refuses images that are members of an array of md and disks of a set as well: one of the two is old.
pub(super) fn refuse_both(images: &[Image]) -> Result<(), Fault> {
    for image in images {
        if let Ok(Some(member)) = member(&image.new.path, image.size) {
            let why = format!(
                "has a superblock of md, and is a disk of {}: take away what is old of the two \
                 (`wipefs`, `mdadm --zero-superblock`)",
                member.kind()
            );
            return Err(Fault::new(&image.about, why));
        }
    }
    Ok(())
}

/// Says of which set an image is a disk; nothing where it is of none.
pub(super) fn member_told(path: &Path, len: Sectors) -> Option<String> {
    match member(path, len) {
        Ok(Some(member)) => Some(format!("is a disk of {}", member.kind())),
        Ok(None) => {
            let Vendor { name, .. } = vendor(path, len)?;
            Some(format!("is a member of a {name} RAID set"))
        }
        Err(why) => Some(format!("is, or was, a disk of a BIOS's RAID set: it {why}")),
    }
}

/// Says of whose set an image is that cannot be opened; nothing where it is of none.
pub(super) fn stranger(image: &Image) -> Option<String> {
    let Vendor { name, format, .. } = vendor(&image.new.path, image.size)?;
    Some(format!(
        "is a member of a {name} RAID set ({format}), which dmsim does not open. Read it where it was made, \
         or with `dmraid -ay -f {format}` on a Linux that has it; of a mirror, `dmsim attach` shows the image \
         as it is"
    ))
}

fn vendor(path: &Path, len: Sectors) -> Option<&'static Vendor> {
    let file = fresh(path, Access::ReadOnly).ok()?;
    let look = |pieces: &Pieces| vendors::find(len, pieces);
    read_whole(look, |at, len| read(&file, at, len.bytes() as usize).ok()).ok()?
}
