//! `dmsim raid remove`: takes a set's device away, and those of its legs. The images keep it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use daemon::family::{is_part_of, set_of};
use daemon::{Fault, mangle};
use sim_core::DevNumber;
use sim_core::control::Id;
use targets::lines::raid::Leg;

use super::leg::file_of;
use super::state::{number, set};
use super::steps::MADE_BY_US;
use crate::commands::remove as remove_device;
use crate::device_mapper::DeviceMapper;
use crate::devices::{above, by_id, find, list};
use crate::turn::turn;
use crate::words::device_name;

/// Removes a set, and the devices of its legs that were made for it, also those that a command has left which
/// was cut off, or a restore that lacked others. Returns the images that stay attached, though no table uses
/// them any more: those that were attached by themselves, or by a restore.
///
/// # Errors
/// Where somebody has it open, and all stays; or a leg's device cannot go, which the fault names.
pub fn remove(dm: &mut dyn DeviceMapper, name: &str) -> Result<Vec<PathBuf>, Fault> {
    let _turn = turn(dm, name, &AtomicBool::new(false))?;
    let word = device_name(dm.mount(), name);
    let (mut below, mut files) = (Vec::new(), Vec::new());
    if find(dm, &word)?.is_some() {
        let (device, line) = set(dm, name)?;
        let journal = Leg { meta: None, data: line.params.journal_dev.clone() };
        for leg in line.legs.iter().chain([&journal]) {
            files.extend(file_of(dm, number(leg.data.as_ref()))?);
            for dev in [number(leg.meta.as_ref()), number(leg.data.as_ref())].into_iter().flatten()
            {
                if let Some(device) = by_id(dm, Id::Dev(dev))?
                    && is_ours(&device.status.uuid)
                {
                    below.push(device.status.name);
                }
            }
        }
        remove_device(dm, device.name())?;
    } else if parts(dm, &word)?.is_empty() {
        // It says that there is none.
        set(dm, name)?;
    }
    below.iter().try_for_each(|name| remove_device(dm, name))?;
    for Part { name, dev } in parts(dm, &word)? {
        files.extend(file_of(dm, Some(dev))?);
        remove_device(dm, &name)?;
    }
    let mut left = Vec::new();
    for image in dm.images()? {
        if files.contains(&image.path) && above(dm, image.number)?.is_empty() {
            left.push(image.path);
        }
    }
    Ok(left)
}

/// A device that was made for a set.
struct Part {
    name: String,
    dev: DevNumber,
}

/// Lists the devices that were made for a set of a name, and are in no table.
fn parts(dm: &mut dyn DeviceMapper, set: &str) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::new();
    for name in list(dm)? {
        // Most are not asked for.
        if set_of(&name) != Some(mangle::decode(set)) {
            continue;
        }
        let Some(device) = find(dm, &name)? else { continue };
        let (uuid, dev) = (device.status.uuid.as_deref(), device.status.dev);
        if is_part_of(set, &name, uuid) && above(dm, dev)?.is_empty() {
            parts.push(Part { name, dev });
        }
    }
    Ok(parts)
}

/// What is there of a set whose own device is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// How many devices.
    pub devices: usize,
    /// The images of legs among them, by their places.
    pub legs: Vec<(usize, PathBuf)>,
    /// That of its journal.
    pub journal: Option<PathBuf>,
}

/// Looks what is there of a set whose own device is not; nothing of one that is there.
///
/// # Errors
/// Where the device-mapper cannot be asked.
pub fn rest(dm: &mut dyn DeviceMapper, name: &str) -> Result<Rest, Fault> {
    let word = device_name(dm.mount(), name);
    let mut rest = Rest::default();
    if find(dm, &word)?.is_some() {
        return Ok(rest);
    }
    for Part { name, dev } in parts(dm, &word)? {
        rest.devices += 1;
        let file = file_of(dm, Some(dev))?;
        match (name.rsplit_once("_rimage_"), file) {
            (Some((_, place)), Some(file)) => {
                rest.legs.extend(place.parse().ok().map(|place: usize| (place, file)));
            }
            (None, Some(file)) if name.ends_with("_rjournal") => rest.journal = Some(file),
            _ => {}
        }
    }
    rest.legs.sort();
    Ok(rest)
}

pub(super) fn is_ours(uuid: &Option<String>) -> bool {
    uuid.as_deref().is_some_and(|uuid| uuid.starts_with(MADE_BY_US))
}
