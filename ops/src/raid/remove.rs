//! `dmsim raid remove`: takes a set's device away, and those of its legs. The images keep it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use daemon::Fault;
use sim_core::control::Id;
use targets::lines::raid::Leg;

use super::leg::file_of;
use super::state::{number, set};
use super::steps::MADE_BY_US;
use super::turn::turn;
use crate::commands::remove as remove_device;
use crate::device_mapper::DeviceMapper;
use crate::devices::{above, by_id};

/// Removes a set, and the devices of its legs that were made for it. Returns the images that stay attached,
/// though no table uses them any more: those that were attached by themselves, or by a restore.
///
/// # Errors
/// Where somebody has it open, and all stays; or a leg's device cannot go, which the fault names.
pub fn remove(dm: &mut dyn DeviceMapper, name: &str) -> Result<Vec<PathBuf>, Fault> {
    let _turn = turn(dm, name, &AtomicBool::new(false))?;
    let (device, line) = set(dm, name)?;
    let (mut below, mut files) = (Vec::new(), Vec::new());
    let journal = Leg { meta: None, data: line.params.journal_dev.clone() };
    for leg in line.legs.iter().chain([&journal]) {
        files.extend(file_of(dm, number(leg.data.as_ref()))?);
        for dev in [number(leg.meta.as_ref()), number(leg.data.as_ref())].into_iter().flatten() {
            if let Some(device) = by_id(dm, Id::Dev(dev))?
                && is_ours(&device.status.uuid)
            {
                below.push(device.status.name);
            }
        }
    }
    remove_device(dm, device.name())?;
    below.iter().try_for_each(|name| remove_device(dm, name))?;
    let mut left = Vec::new();
    for image in dm.images()? {
        if files.contains(&image.path) && above(dm, image.number)?.is_empty() {
            left.push(image.path);
        }
    }
    Ok(left)
}

pub(super) fn is_ours(uuid: &Option<String>) -> bool {
    uuid.as_deref().is_some_and(|uuid| uuid.starts_with(MADE_BY_US))
}
