//! `dmsim raid remove`: takes a set's device away, and those of its legs. The images keep it.

use daemon::Fault;
use sim_core::control::Id;

use super::state::{number, set};
use super::steps::MADE_BY_US;
use crate::commands::remove as remove_device;
use crate::device_mapper::DeviceMapper;
use crate::devices::by_id;

/// Removes a set, and the devices of its legs that were made for it.
///
/// # Errors
/// Where somebody has it open, and all stays; or a leg's device cannot go, which the fault names.
pub fn remove(dm: &mut dyn DeviceMapper, name: &str) -> Result<(), Fault> {
    let (device, line) = set(dm, name)?;
    let mut below = Vec::new();
    for leg in &line.legs {
        for dev in [number(leg.meta.as_ref()), number(leg.data.as_ref())].into_iter().flatten() {
            if let Some(device) = by_id(dm, Id::Dev(dev))?
                && is_ours(&device.status.uuid)
            {
                below.push(device.status.name);
            }
        }
    }
    remove_device(dm, device.name())?;
    below.iter().try_for_each(|name| remove_device(dm, name))
}

pub(super) fn is_ours(uuid: &Option<String>) -> bool {
    uuid.as_deref().is_some_and(|uuid| uuid.starts_with(MADE_BY_US))
}
