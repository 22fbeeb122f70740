//! Legs: what lies where on their images, what their devices are called, and how people name them.

pub(super) mod holds;
pub(super) mod journal;
pub(super) mod label;
pub(super) mod marked;
pub(super) mod ring;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use backing::Lost;
use daemon::Fault;
use daemon::family::set_of;
use sim_core::control::Id;
use sim_core::{Access, DevNumber, Sectors, TargetSpec};
use targets::lines::{self, DeviceWord, Place, raid};

use self::holds::{Holds, holds};
use self::ring::Stretch;
use super::remove::is_ours;
use super::state::{Line, number};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, above, by_id, find};
use crate::files::is_same_file;
use crate::parts::{New, Usage, number_of, size_of, unused};
use crate::size::print_size;
use crate::words::MAPPER;

/// How much of each image is for superblock and bitmap, before the data. A bitmap has 2^21 bits at
/// most, which is 256 KiB: a MiB keeps the data where storage likes it.
pub(super) const META: Sectors = Sectors(2048);

/// The part of the metadata that tells that there is a set: superblock, and the bitmap's header.
pub(super) const HEADS: usize = 8192;

/// So many legs are named where one is asked for that there is not; more of them by their numbers.
const SHOWN: usize = 16;

/// What the devices of a leg are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) meta: String,
    pub(super) data: String,
}

impl Names {
    /// As LVM calls them.
    pub(super) fn of(set: &str, leg: usize) -> Names {
        Names { meta: format!("{set}_rmeta_{leg}"), data: format!("{set}_rimage_{leg}") }
    }

    /// Those of a leg while the one that it replaces is there.
    pub(super) fn of_new(set: &str, leg: usize) -> Names {
        let Names { meta, data } = Names::of(set, leg);
        Names { meta: meta + "_new", data: data + "_new" }
    }

    /// What the set's table says for the leg.
    pub(super) fn words(&self) -> raid::Leg<DeviceWord> {
        let word = |name: &str| Some(DeviceWord(format!("{MAPPER}{name}")));
        raid::Leg { meta: word(&self.meta), data: word(&self.data) }
    }

    /// Refuses names of devices that a command has left which was cut off.
    pub(super) fn refuse_left(&self, dm: &mut dyn DeviceMapper) -> Result<(), Fault> {
        for name in [&self.meta, &self.data] {
            let Some(device) = find(dm, name)? else { continue };
            let users = above(dm, device.status.dev)?;
            if is_ours(&device.status.uuid) && device.status.open_count == 0 && users.is_empty() {
                let set = set_of(name).unwrap_or_default();
                let command = match find(dm, &set)? {
                    // With the set, whatever was made for it goes.
                    None => format!("dmsim raid remove {set}"),
                    Some(_) => format!("dmsim remove {name}"),
                };
                let why = format!(
                    "is left from a set that was removed, or a command that was cut off, and in no set: \
                     `{command}` first"
                );
                return Err(Fault::new(name, why));
            }
        }
        Ok(())
    }

    /// Refuses names that are taken, or too long.
    pub(super) fn refuse_taken(&self, dm: &mut dyn DeviceMapper) -> Result<(), Fault> {
        self.refuse_left(dm)?;
        for name in [&self.meta, &self.data] {
            if name.len() > sim_core::control::MAX_NAME {
                return Err(Fault::new(name, "is too long for the name of a device of a leg"));
            }
            if find(dm, name)?.is_some() {
                let why = "is there already, and a leg's device is to be called so";
                return Err(Fault::new(name, why));
            }
        }
        Ok(())
    }
}

/// A leg without devices.
pub(super) const MISSING: raid::Leg<DeviceWord> = raid::Leg { meta: None, data: None };

/// An image that is there.
pub(super) struct Image {
    pub(super) new: New,
    /// As it was typed.
    pub(super) about: String,
    pub(super) size: Sectors,
    /// How large a sector is, in bytes.
    pub(super) block: u32,
}

/// Finds an image that is to be a leg of a set: nothing where there is no file yet.
pub(super) fn image(
    dm: &mut dyn DeviceMapper,
    set: &str,
    typed: &Path,
    usage: Usage<'_>,
) -> Result<(New, Option<(Sectors, u32)>), Fault> {
    let new = unused(dm, set, typed, usage)?;
    let size = size_of(dm, &new)?;
    Ok((new, size))
}

/// As [`image`], of one that is there; `instead` says what to do where it is not.
pub(super) fn image_there(
    dm: &mut dyn DeviceMapper,
    set: &str,
    typed: &Path,
    usage: Usage<'_>,
    instead: &str,
) -> Result<Image, Fault> {
    let about = typed.display().to_string();
    match image(dm, set, typed, usage)? {
        (new, Some((size, block))) => Ok(Image { new, about, size, block }),
        (_, None) => Err(Fault::new(about, format!("no such file: {instead}"))),
    }
}

/// Refuses an image that comes twice, by two names too.
pub(super) fn refuse_twice(all: &[&New], typed: &[PathBuf]) -> Result<(), Fault> {
    for (nr, one) in all.iter().enumerate() {
        let is_same = |other: &&&New| {
            is_same_file(&other.path, &one.path) || one.dev.is_some() && other.dev == one.dev
        };
        if all[..nr].iter().any(|other| is_same(&other)) {
            let why = "is there twice: each leg needs an image of its own";
            return Err(Fault::new(typed[nr].display(), why));
        }
    }
    Ok(())
}

/// What the start of an image has, and the file; nothing where it is too short to have anything.
pub(super) fn heads(path: &Path) -> Result<Option<(File, Vec<u8>)>, Fault> {
    let file = crate::files::fresh(path, Access::ReadOnly)?;
    let mut bytes = vec![0; HEADS];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(Some((file, bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(Fault::new(path.display(), error)),
    }
}

/// Refuses an image that holds something.
pub(super) fn refuse_full(path: &Path, about: &str) -> Result<(), Fault> {
    let Some(found) = holds(path, about)? else { return Ok(()) };
    Err(Fault::new(
        about,
        match &found {
            Holds::Leg(told) => format!(
                "{told}, and is left alone: `dmsim raid assemble` puts that together again, --force overwrites it"
            ),
            Holds::Known(told) => format!("{told}, and is left alone: --force overwrites it"),
            Holds::Unknown(at) => format!(
                "is not empty, and is left alone: expected zeros, found something at byte {at}; --force \
                 overwrites it"
            ),
        },
    ))
}

/// Refuses an image that is too small for a leg whose data lies so.
pub(super) fn refuse_small(image: &Image, stretch: &Stretch) -> Result<(), Fault> {
    let needed = stretch.needs();
    if image.size >= needed {
        return Ok(());
    }
    let (has, needs) = (print_size(image.size.bytes()), print_size(needed.bytes()));
    let why = format!(
        "is too small: it has {has}, and a leg needs {needs}, the first MiB of it for its metadata: \
         `truncate -s` makes it larger"
    );
    Err(Fault::new(&image.about, why))
}

/// Finds the leg that a word means: its place, or one of its devices or its image.
pub(super) fn leg(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    word: &str,
) -> Result<usize, Fault> {
    if let Some(place) = word.parse().ok().filter(|place| *place < line.legs.len()) {
        return Ok(place);
    }
    if let Some(dev) = number_of(dm, word)? {
        for (place, leg) in line.legs.iter().enumerate() {
            let own = [number(leg.meta.as_ref()), number(leg.data.as_ref())];
            let below = match own[1] {
                Some(data) => below(dm, data)?,
                None => None,
            };
            if own.contains(&Some(dev)) || below == Some(dev) {
                return Ok(place);
            }
        }
    }
    let mut legs = Vec::new();
    if line.legs.len() > SHOWN {
        let why = format!("has no leg `{word}`; its legs are 0 to {}", line.legs.len() - 1);
        return Err(Fault::new(name, why));
    }
    for (place, leg) in line.legs.iter().enumerate() {
        let file = file_of(dm, number(leg.data.as_ref()))?;
        let file = file.map_or("missing".to_owned(), |file| file.display().to_string());
        legs.push(format!("{place} ({file})"));
    }
    let legs = legs.join(", ");
    Err(Fault::new(name, format!("has no leg `{word}`; its legs are {legs}")))
}

/// Returns what the device of a leg lies on, where its lines are `linear` and on one.
fn below(dm: &mut dyn DeviceMapper, dev: DevNumber) -> Result<Option<DevNumber>, Fault> {
    let Some(device) = by_id(dm, Id::Dev(dev))? else { return Ok(None) };
    let Some(places) = places(&device) else { return Ok(None) };
    let mut numbers = places.iter().map(|(_, place)| place.device.number());
    let first = numbers.next().flatten();
    Ok(first.filter(|_| numbers.all(|number| number == first)))
}

/// Returns where the lines of a device lie; nothing where one is not `linear`.
pub(super) fn places(device: &Device) -> Option<Vec<(&TargetSpec, Place<DeviceWord>)>> {
    let mut places = Vec::new();
    for line in &device.live {
        let linear = lines::linear::Line::from_text(&line.params, line.len).ok();
        places.push((line, linear.filter(|_| line.target_type == "linear")?.place));
    }
    Some(places)
}

/// Returns the file in which a leg's bytes lie: that of its image, or of a device.
pub(super) fn file_of(
    dm: &mut dyn DeviceMapper,
    dev: Option<DevNumber>,
) -> Result<Option<PathBuf>, Fault> {
    Ok(file_and_loss(dm, dev)?.0)
}

/// As [`file_of`], and why an image's path leads to that file no more, if so.
pub(super) fn file_and_loss(
    dm: &mut dyn DeviceMapper,
    dev: Option<DevNumber>,
) -> Result<(Option<PathBuf>, Option<Lost>), Fault> {
    let Some(dev) = dev else { return Ok((None, None)) };
    let dev = below(dm, dev)?.unwrap_or(dev);
    if let Some(image) = dm.images()?.into_iter().find(|image| image.number == dev) {
        return Ok((Some(image.path), image.lost));
    }
    let device = by_id(dm, Id::Dev(dev))?;
    Ok((device.map(|device| dm.mount().join(device.name())), None))
}
