//! Legs: found by what they are called, and images that are to be one, checked.

use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use daemon::{About, Fault};
use sim_core::control::{Answer, Command, Id, Slot};
use sim_core::{DevNumber, SECTOR_SIZE, Sectors};
use targets::lines::{DeviceWord, Place};

use super::state::{Line, log_dev};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, by_id, find, in_use};
use crate::files::{open_image, path_of, place, refuse_used};
use crate::size::print_size;
use crate::words::{MAPPER, device_name};

/// What a word means of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The leg in this place.
    Leg(usize),
    Log,
}

/// Finds the leg that a word means.
pub(super) fn leg(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    word: &str,
) -> Result<usize, Fault> {
    match part(dm, name, line, word)? {
        Part::Leg(leg) => Ok(leg),
        Part::Log => Err(Fault::new(name, format!("`{word}` is its log, and no leg"))),
    }
}

/// Finds the leg, or the log, that a word means.
pub(super) fn part(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    word: &str,
) -> Result<Part, Fault> {
    if let Some(place) = word.parse().ok().filter(|place| *place < line.legs.len()) {
        return Ok(Part::Leg(place));
    }
    let log = log_dev(line);
    if word == "log" {
        return log.map(|_| Part::Log).ok_or_else(|| Fault::new(name, "its log is in memory"));
    }
    let dev = number_of(dm, word)?;
    let legs =
        line.legs.iter().enumerate().filter(|(_, leg)| dev.is_some() && leg.device.number() == dev);
    match legs.map(|(place, _)| place).collect::<Vec<_>>()[..] {
        [leg] => Ok(Part::Leg(leg)),
        [] if dev.is_some() && log == dev => Ok(Part::Log),
        [] => {
            let legs: Vec<String> = (0..).zip(&line.legs).map(text).collect();
            let legs = legs.join(", ");
            Err(Fault::new(name, format!("has no leg `{word}`; its legs are {legs}")))
        }
        [one, other, ..] => Err(Fault::new(
            name,
            format!("`{word}` is more than one leg: name it by its place, {one} or {other}"),
        )),
    }
}

fn text((place, leg): (usize, &Place<DeviceWord>)) -> String {
    format!("{place} ({})", leg.device)
}

/// Returns the number of the device that a word means: by its number, an image's name or path, or a
/// mapped device's name or path.
pub(super) fn number_of(dm: &mut dyn DeviceMapper, word: &str) -> Result<Option<DevNumber>, Fault> {
    if let Ok(dev) = word.parse() {
        return Ok(Some(dev));
    }
    let path = std::path::absolute(word).about(word)?;
    let path = path.canonicalize().unwrap_or(path);
    let image = dm.images()?.into_iter().find(|image| {
        image.name.as_deref() == Some(word) || image.kernel_name == word || image.path == path
    });
    if let Some(image) = image {
        return Ok(Some(image.number));
    }
    let name = &device_name(dm.mount(), word);
    Ok(find(dm, name)?.map(|device| device.status.dev))
}

/// An image or a mapped device that is to be part of a mirror.
pub(super) struct New {
    /// What a table line calls it.
    pub(super) word: DeviceWord,
    pub(super) path: PathBuf,
    /// Its number, where it has one yet.
    pub(super) dev: Option<DevNumber>,
}

/// Finds an image for a mirror, and refuses one that is in use.
pub(super) fn unused(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    typed: &Path,
) -> Result<New, Fault> {
    let about = typed.display().to_string();
    let dev = number_of(dm, &about)?;
    let mapped = match dev {
        Some(dev) => by_id(dm, Id::Dev(dev))?,
        None => None,
    };
    let (path, word) = match (&mapped, dev) {
        (Some(mapped), _) => {
            (dm.mount().join(mapped.name()), DeviceWord(format!("{MAPPER}{}", mapped.name())))
        }
        (None, Some(dev)) => (path_of(dm, dev)?, dev.into()),
        (None, None) => place(dm, typed)?,
    };
    refuse_used(dm, device.name(), &path, &word).map_err(|why| Fault::new(&about, why))?;
    if let Some(mapped) = mapped {
        if mapped.status.dev == device.status.dev {
            return Err(Fault::new(about, "is the device itself"));
        }
        mapped.refuse_suspended()?;
        if mapped.status.open_count > 0 {
            return Err(in_use(dm, mapped.name())?);
        }
    }
    Ok(New { word, path, dev })
}

/// Refuses a leg that does not fit a device.
pub(super) fn check_fits(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    new: &New,
    about: &str,
) -> Result<(), Fault> {
    let refuse = |why: String| Err(Fault::new(about, why));
    let (size, block) = match size_of(dm, new)? {
        Some(found) => found,
        None => {
            let size = print_size(device.size().bytes());
            return refuse(format!(
                "no such file: `dmsim attach {about} --create SIZE` makes one, \
                                   of {size} at least"
            ));
        }
    };
    let name = device.name();
    if size < device.size() {
        let (has, needs) = (print_size(size.bytes()), print_size(device.size().bytes()));
        return refuse(format!("is too small: it has {has}, and `{name}` {needs}"));
    }
    let own = dm.describe()?.into_iter().find(|described| described.name == name);
    match own.map(|own| own.limits.logical_block_size) {
        Some(own) if own != block => refuse(format!(
            "has sectors of {block} bytes, and `{name}` of {own}: `dmsim attach {about} \
             --sector-size {own}` first, if that is what it is to have"
        )),
        Some(_) | None => Ok(()),
    }
}

/// Returns the size of an image or a mapped device, and that of its sectors in bytes.
fn size_of(dm: &mut dyn DeviceMapper, new: &New) -> Result<Option<(Sectors, u32)>, Fault> {
    if let Some(dev) = new.dev {
        if let Some(image) = dm.images()?.into_iter().find(|image| image.number == dev) {
            return Ok(Some((image.size, image.sector_size)));
        }
        let mut devices = dm.describe()?.into_iter();
        let device = devices.find(|device| (device.major, device.minor) == (dev.major, dev.minor));
        return Ok(device.map(|it| (Sectors(it.size), it.limits.logical_block_size)));
    }
    // A table attaches it on the spot, with sectors of 512 bytes.
    let mut file = match open_image(&new.path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::new(new.path.display(), error)),
    };
    let len = file.seek(SeekFrom::End(0)).about(new.path.display())?;
    Ok(Some((Sectors(len / SECTOR_SIZE), 512)))
}

/// Tells whether a device encrypts, or one that it maps onto.
pub(super) fn encrypts(dm: &mut dyn DeviceMapper, dev: DevNumber) -> Result<bool, Fault> {
    let mut next = vec![dev];
    while let Some(dev) = next.pop() {
        let Some(device) = by_id(dm, Id::Dev(dev))? else { continue };
        if device.live.iter().any(|line| line.target_type == "crypt") {
            return Ok(true);
        }
        let deps = Command::TableDeps { id: Id::Dev(dev), slot: Slot::Live };
        if let Ok(Answer::Deps(deps)) = dm.control(deps)? {
            next.extend(deps);
        }
    }
    Ok(false)
}
