//! Questions about a stack that is in use, asked without any I/O of their own.

mod heat;
mod places;

pub use heat::{AreaHeat, Heat, heat};
pub use places::{Place, PlaceKind, located, shown};

use daemon::Fault;
use sim_core::control::Id;

use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, NO_SUCH, find};
use crate::words::device_name;

/// Finds a device that bios can be sent to.
///
/// # Errors
/// Where there is no such device, or it has no table in use.
pub fn in_use(dm: &mut dyn DeviceMapper, word: &str) -> Result<Id, Fault> {
    Ok(Id::Dev(device_in_use(dm, word)?.status.dev))
}

fn device_in_use(dm: &mut dyn DeviceMapper, word: &str) -> Result<Device, Fault> {
    let name = device_name(dm.mount(), word);
    let device = find(dm, &name)?.ok_or_else(|| Fault::new(word, NO_SUCH))?;
    match device.size().0 {
        0 => Err(Fault::new(word, "has no table in use: nothing can be sent to it")),
        _ => Ok(device),
    }
}
