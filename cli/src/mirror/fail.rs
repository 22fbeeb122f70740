//! `dmsim fail` and `dmsim heal`: a leg, or the log, that fails on purpose, and no more.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use sim_core::control::Command;
use sim_core::{DevNumber, Fails};

use super::add::{access, refuse_unready};
use super::leg::{Part, part};
use super::line::Line;
use super::options::{Fail, Heal};
use super::swap::{Before, put};
use super::wait::until_synced;
use super::{behind, mirror, status};
use crate::client::Client;
use crate::fault::Fault;
use crate::instance::Instance;
use crate::machine::{Machine, act, go_on, named, on_signals, resume, suspend_held};

/// `dmsim fail`.
pub(crate) fn fail(instance: &Instance, options: &Fail) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let (device, line) = mirror(&mut client, &options.name)?;
    let below = dev(&mut client, device.name(), &line, &options.leg)?;
    let fails = match (options.reads, options.writes) {
        (true, false) => Fails::Reads,
        (false, true) => Fails::Writes,
        (false, false) | (true, true) => Fails::All,
    };
    set(&mut client, device.name(), below, fails)?;
    Ok(ExitCode::SUCCESS)
}

/// `dmsim heal`.
pub(crate) fn heal(instance: &Instance, options: &Heal) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let interrupted = on_signals()?;
    let (device, line) = mirror(&mut client, &options.name)?;
    let name = device.name();
    device.refuse_suspended()?;
    refuse_unready(&device)?;
    let healed = match &options.leg {
        Some(leg) => vec![dev(&mut client, name, &line, leg)?],
        None => failing(&mut client, name)?,
    };
    for below in healed {
        set(&mut client, name, below, Fails::Nothing)?;
    }
    count_again(&mut client, name, !options.no_wait, &interrupted)?;
    Ok(ExitCode::SUCCESS)
}

fn dev(machine: &mut dyn Machine, name: &str, line: &Line, word: &str) -> Result<DevNumber, Fault> {
    let dev = match part(machine, name, line, word)? {
        Part::Leg(leg) => line.legs[leg].dev(),
        Part::Log => line.log_dev(),
    };
    dev.ok_or_else(|| Fault::new(name, format!("`{word}` has no number")))
}

fn set(machine: &mut dyn Machine, name: &str, below: DevNumber, fails: Fails) -> Result<(), Fault> {
    act(machine, name, Command::SetFails { id: named(name), below, fails }).map(drop)
}

/// Lists what is made to fail for a mirror.
fn failing(machine: &mut dyn Machine, name: &str) -> Result<Vec<DevNumber>, Fault> {
    let device = machine.describe()?.into_iter().find(|device| device.name == name);
    let failing = device.into_iter().flat_map(|device| device.failing);
    Ok(failing.map(|at| DevNumber { major: at.major, minor: at.minor }).collect())
}

/// Makes a mirror count legs and log again that do not fail any more, and bring them up to date.
pub(super) fn count_again(
    machine: &mut dyn Machine,
    name: &str,
    waits: bool,
    interrupted: &AtomicBool,
) -> Result<(), Fault> {
    let (_, line) = mirror(machine, name)?;
    if is_good(machine, name)? {
        return Ok(());
    }
    // The resync looks again, and what is held comes again.
    suspend_held(machine, name)?;
    resume(machine, name)?;
    let fail_still = failing(machine, name)?;
    if !waits || line.legs.iter().any(|leg| leg.dev().is_some_and(|dev| fail_still.contains(&dev)))
    {
        return Ok(());
    }
    until_synced(machine, name, &line, interrupted)?;
    if line.log_dev().is_some_and(|log| fail_still.contains(&log)) {
        return Ok(());
    }
    let status = status(machine, name)?;
    let forgets = status.is_some_and(|status| !status.legs_are_good() || status.log.is_some());
    if forgets {
        reload(machine, name, &line, interrupted)?;
        until_synced(machine, name, &line, interrupted)?;
    }
    Ok(())
}

/// Tells whether there is nothing to heal.
fn is_good(machine: &mut dyn Machine, name: &str) -> Result<bool, Fault> {
    let status = status(machine, name)?;
    let good = status.is_some_and(|status| {
        status.is_in_sync() && status.legs_are_good() && status.log_is_good()
    });
    Ok(good && behind(machine, name)?.is_none())
}

/// Loads the table again that is in use: the new one knows nothing of what has failed.
fn reload(
    machine: &mut dyn Machine,
    name: &str,
    line: &Line,
    interrupted: &AtomicBool,
) -> Result<(), Fault> {
    let (device, _) = mirror(machine, name)?;
    let (table, access) = (device.live.clone(), access(&device));
    go_on(name, interrupted)?;
    suspend_held(machine, name)?;
    let before =
        Before { name: name.to_owned(), access, table: table.clone(), below: None, log: None };
    // It copies from the first leg whatever is not in sync by the log: all have to be the same.
    let swapped = match behind(machine, name) {
        Ok(behind) if behind.is_none() => put(machine, name, access, &table, None),
        Ok(_) => Err(Fault::new(name, format!("a leg of {} failed again", line.legs.len()))),
        Err(fault) => Err(fault),
    };
    swapped.or_else(|fault| before.bring_back(machine, &[]).and(Err(fault)))
}
