//! Mirrors of devices in use: made, given legs and rid of them, compared, made to fail and healed.

mod add;
mod check;
mod drop;
mod fail;
mod leg;
mod state;
pub(crate) mod swap;
#[cfg(test)]
mod tests;
mod wait;

use daemon::Fault;
use sim_core::control::Slot;

use crate::device_mapper::DeviceMapper;

pub use add::{Add, add};
pub use check::{Comparison, Differing, LegFile, OutOfSync, check};
pub use drop::drop_leg;
pub(crate) use fail::failing;
pub use fail::{fail, heal, is_mirror};
pub(crate) use state::MADE_BY_US;
pub use wait::wait;

/// Limits the resync of a mirror to so many bytes a second; zero is no limit.
///
/// # Errors
/// Where there is no such mirror.
pub fn set_resync_rate(dm: &mut dyn DeviceMapper, name: &str, rate: u64) -> Result<(), Fault> {
    let (device, _) = state::mirror(dm, name)?;
    state::set_rate(dm, device.name(), Slot::Live, rate)
}
