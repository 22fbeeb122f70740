//! `dmsim fail` and `dmsim heal` of a set: a leg that fails on purpose, and no more.

use daemon::Fault;
use sim_core::control::Command;
use sim_core::{DevNumber, Fails};

use super::leg::leg as leg_of;
use super::replace::settle;
use super::state::{is_unsettled, look_at, number, set};
use super::wait::until_synced;
use crate::commands::{act, resume, suspend};
use crate::device_mapper::DeviceMapper;
use crate::devices::{named, refuse_suspended_below};
use crate::mirror::failing;
use crate::watch::Watch;
use targets::lines::raid::LegHealth;

/// Makes the data of a leg fail for its set on purpose.
///
/// # Errors
/// Where there is no such set or leg.
pub fn fail(dm: &mut dyn DeviceMapper, name: &str, leg: &str, fails: Fails) -> Result<(), Fault> {
    let (device, line) = set(dm, name)?;
    let name = device.name();
    let place = leg_of(dm, name, &line, leg)?;
    match number(line.legs[place].data.as_ref()) {
        Some(dev) => set_fails(dm, name, dev, fails),
        None => {
            let why = format!(
                "leg {place} is missing already: `dmsim raid replace {name} {place} IMAGE` puts an \
                 image in its place"
            );
            Err(Fault::new(name, why))
        }
    }
}

/// Makes a leg that failed, or all of them, work again, and has it brought up to date. Returns when that
/// has begun, unless it `waits`.
///
/// # Errors
/// Where there is no such set or leg, it fails again, or `watch` interrupts the waiting.
pub fn heal(
    dm: &mut dyn DeviceMapper,
    name: &str,
    leg: Option<&str>,
    waits: bool,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let (device, line) = set(dm, name)?;
    let name = device.name();
    device.refuse_suspended()?;
    device.refuse_unready()?;
    refuse_suspended_below(dm, &device)?;
    let healed = match leg {
        Some(leg) => {
            let place = leg_of(dm, name, &line, leg)?;
            number(line.legs[place].data.as_ref()).into_iter().collect()
        }
        None => failing(dm, name)?,
    };
    for dev in healed {
        set_fails(dm, name, dev, Fails::Nothing)?;
    }
    if is_unsettled(&line) {
        // What was left when `replace` or `grow` was cut off. The new table looks for legs as well.
        settle(dm, &device, &line, device.size())?;
    } else if !look_at(dm, name)?.status.is_whole() {
        // It looks again which legs can be used.
        suspend(dm, name)?;
        resume(dm, name)?;
    }
    if !waits {
        return Ok(());
    }
    let still = failing(dm, name)?;
    let status = look_at(dm, name)?.status;
    let legs = line.legs.iter().zip(&status.legs).enumerate();
    let besides = legs.filter(|(_, (leg, health))| {
        **health == LegHealth::Missing
            || number(leg.data.as_ref()).is_some_and(|dev| still.contains(&dev))
    });
    let besides: Vec<usize> = besides.map(|(leg, _)| leg).collect();
    until_synced(dm, name, &line, &besides, watch)
}

fn set_fails(
    dm: &mut dyn DeviceMapper,
    name: &str,
    below: DevNumber,
    fails: Fails,
) -> Result<(), Fault> {
    act(dm, name, Command::SetFails { id: named(name), below, fails }).map(drop)
}
