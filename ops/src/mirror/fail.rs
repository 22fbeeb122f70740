//! `dmsim fail` and `dmsim heal`: a leg, or the log, that fails on purpose, and no more.

use daemon::{Fault, mangle};
use sim_core::{DevNumber, Fails};

use super::leg::{Part, part};
use super::state::{Line, behind, line_of, log_dev, mirror, status};
use super::swap::{Before, put};
use super::wait::until_synced;
use crate::commands::{resume, set_fails, suspend_held};
use crate::device_mapper::DeviceMapper;
use crate::devices::find;
use crate::watch::{Watch, go_on};
use crate::words::device_name;

/// Tells whether a device is a mirror.
///
/// # Errors
/// Where the device-mapper cannot be asked.
pub fn is_mirror(dm: &mut dyn DeviceMapper, word: &str) -> Result<bool, Fault> {
    let name = device_name(dm.mount(), word);
    Ok(find(dm, &name)?.is_some_and(|device| line_of(&device).is_some()))
}

/// Makes a leg of a mirror fail for it on purpose, or its log.
///
/// # Errors
/// Where there is no such mirror or leg.
pub fn fail(dm: &mut dyn DeviceMapper, name: &str, leg: &str, fails: Fails) -> Result<(), Fault> {
    let (device, line) = mirror(dm, name)?;
    let below = dev(dm, device.name(), &line, leg)?;
    set_fails(dm, device.name(), below, fails)
}

/// Makes a leg that failed, or the log, or all of them, work again, and brings it up to date.
/// Returns when the resync has begun, unless it `waits`; says how it is then, a line each.
///
/// # Errors
/// Where there is no such mirror or leg, it fails again, or `watch` interrupts the waiting.
pub fn heal(
    dm: &mut dyn DeviceMapper,
    name: &str,
    leg: Option<&str>,
    waits: bool,
    watch: &dyn Watch,
) -> Result<Vec<String>, Fault> {
    let (device, line) = mirror(dm, name)?;
    let name = device.name();
    device.refuse_suspended()?;
    device.refuse_unready()?;
    let was_good = failing(dm, name)?.is_empty() && is_good(dm, name)?;
    let healed = match leg {
        Some(leg) => vec![dev(dm, name, &line, leg)?],
        None => failing(dm, name)?,
    };
    for below in healed {
        set_fails(dm, name, below, Fails::Nothing)?;
    }
    count_again(dm, name, waits, watch)?;
    let still = failing(dm, name)?;
    let still: Vec<String> =
        still.iter().map(|dev| format!("{dev} fails on purpose still")).collect();
    let told = match is_good(dm, name)? {
        true if was_good => "all legs are in sync: there is nothing to heal",
        true if still.is_empty() => "all legs are in sync again",
        true => "the legs are in sync",
        false => "not all legs are in sync yet: `dmsim status` shows how far it is",
    };
    let name = mangle::decode(name);
    Ok([told.to_owned()].into_iter().chain(still).map(|what| format!("{name}: {what}")).collect())
}

fn dev(dm: &mut dyn DeviceMapper, name: &str, line: &Line, word: &str) -> Result<DevNumber, Fault> {
    let dev = match part(dm, name, line, word)? {
        Part::Leg(leg) => line.legs[leg].device.number(),
        Part::Log => log_dev(line),
    };
    dev.ok_or_else(|| Fault::new(name, format!("`{word}` has no number")))
}

/// Lists what is made to fail for a device.
pub(crate) fn failing(dm: &mut dyn DeviceMapper, name: &str) -> Result<Vec<DevNumber>, Fault> {
    let device = dm.describe()?.into_iter().find(|device| device.name == name);
    let failing = device.into_iter().flat_map(|device| device.failing);
    Ok(failing.map(|at| DevNumber { major: at.major, minor: at.minor }).collect())
}

/// Makes a mirror count legs and log again that do not fail any more, and bring them up to date.
pub(super) fn count_again(
    dm: &mut dyn DeviceMapper,
    name: &str,
    waits: bool,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let (_, line) = mirror(dm, name)?;
    if is_good(dm, name)? {
        return Ok(());
    }
    // The resync looks again, and what is held comes again.
    suspend_held(dm, name)?;
    resume(dm, name)?;
    let fail_still = failing(dm, name)?;
    if !waits
        || line
            .legs
            .iter()
            .any(|leg| leg.device.number().is_some_and(|dev| fail_still.contains(&dev)))
    {
        return Ok(());
    }
    until_synced(dm, name, &line, watch)?;
    if log_dev(&line).is_some_and(|log| fail_still.contains(&log)) {
        return Ok(());
    }
    let status = status(dm, name)?;
    let forgets = status.is_some_and(|status| !status.legs_are_good() || status.log.is_some());
    if forgets {
        reload(dm, name, &line, watch)?;
        until_synced(dm, name, &line, watch)?;
    }
    Ok(())
}

/// Tells whether there is nothing to heal.
fn is_good(dm: &mut dyn DeviceMapper, name: &str) -> Result<bool, Fault> {
    let status = status(dm, name)?;
    let good = status.is_some_and(|status| {
        status.is_in_sync() && status.legs_are_good() && status.log_is_good()
    });
    Ok(good && behind(dm, name)?.is_none())
}

/// Loads the table again that is in use: the new one knows nothing of what has failed.
fn reload(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let (device, _) = mirror(dm, name)?;
    let (table, access) = (device.live.clone(), device.access());
    go_on(name, watch)?;
    suspend_held(dm, name)?;
    let before =
        Before { name: name.to_owned(), access, table: table.clone(), below: None, log: None };
    // It copies from the first leg whatever is not in sync by the log: all have to be the same.
    let swapped = match behind(dm, name) {
        Ok(behind) if behind.is_none() => put(dm, name, access, &table, None),
        Ok(_) => Err(Fault::new(name, format!("a leg of {} failed again", line.legs.len()))),
        Err(fault) => Err(fault),
    };
    swapped.or_else(|fault| before.bring_back(dm, &[]).and(Err(fault)))
}
