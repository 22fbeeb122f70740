//! `dmsim fault`, and what `dmsim heal` takes away: faults on demand of a device in use.

mod file;

use daemon::client::unexpected;
use daemon::protocol::Outcome;
use daemon::{Fault, mangle};
use sim_core::control::{Answer, Command};
use sim_core::{DevNumber, Errno, FaultPlan, FaultReport};

use crate::commands::because;
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, NO_SUCH, find, named};
use crate::parts::number_of;
use crate::words::device_name;

pub use file::{MAX_PLAN_FILE, parse, read};

/// The plans that are armed for a device.
#[derive(Clone, Debug)]
pub struct Faulty {
    /// The device's name, as people type it.
    pub name: String,
    /// Its number.
    pub dev: DevNumber,
    /// The plans: for its users first, then for devices below.
    pub plans: Vec<FaultReport>,
}

/// Arms a plan for whoever uses a device, or for what the device sends to one `below`.
///
/// # Errors
/// Where there is no such device, the plan is wrong or is not one for it, or one is armed already and it is not said
/// that this one `replaces` it.
pub fn arm(
    dm: &mut dyn DeviceMapper,
    word: &str,
    below: Option<&str>,
    plan: FaultPlan,
    replaces: bool,
) -> Result<Faulty, Fault> {
    let device = device(dm, word)?;
    let below = below.map(|below| below_of(dm, device.name(), below)).transpose()?;
    let plans = set(dm, &device, below, Some(plan), replaces)?;
    Ok(faulty(&device, plans))
}

/// Says which plans are armed for a device, and what they have done.
///
/// # Errors
/// Where there is no such device.
pub fn list(dm: &mut dyn DeviceMapper, word: &str) -> Result<Faulty, Fault> {
    let device = device(dm, word)?;
    let plans = armed(dm, &device)?;
    Ok(faulty(&device, plans))
}

/// Takes the plan away that is armed for whoever uses a device, if one is; says so.
///
/// # Errors
/// Where there is no such device.
pub fn heal_own(dm: &mut dyn DeviceMapper, word: &str) -> Result<Option<String>, Fault> {
    let device = device(dm, word)?;
    let taken = set(dm, &device, None, None, true)?;
    Ok(taken.first().map(|plan| told(&device, plan)))
}

/// Takes away the plans for what a device sends to those below, or to one of them. Says so, a line each.
///
/// # Errors
/// Where there is no such device.
pub fn heal_below(
    dm: &mut dyn DeviceMapper,
    word: &str,
    below: Option<&str>,
) -> Result<Vec<String>, Fault> {
    let device = device(dm, word)?;
    let below = below.map(|below| below_of(dm, device.name(), below)).transpose()?;
    let mut lines = Vec::new();
    for plan in armed(dm, &device)? {
        if plan.below.is_some() && (below.is_none() || plan.below == below) {
            let taken = set(dm, &device, plan.below, None, true)?;
            lines.extend(taken.first().map(|plan| told(&device, plan)));
        }
    }
    Ok(lines)
}

fn told(device: &Device, plan: &FaultReport) -> String {
    let name = mangle::decode(device.name());
    let struck: u64 = plan.rules.iter().map(|rule| rule.struck_count).sum();
    let place = plan.below.map(|below| format!(" for {below}")).unwrap_or_default();
    let rules = match plan.rules.len() {
        1 => "1 rule is".to_owned(),
        many => format!("{many} rules are"),
    };
    format!("{name}: {rules} taken away{place}, struck so far: {struck}")
}

fn faulty(device: &Device, plans: Vec<FaultReport>) -> Faulty {
    Faulty { name: mangle::decode(device.name()), dev: device.status.dev, plans }
}

fn device(dm: &mut dyn DeviceMapper, word: &str) -> Result<Device, Fault> {
    let name = device_name(dm.mount(), word);
    find(dm, &name)?.ok_or_else(|| Fault::new(word, NO_SUCH))
}

fn below_of(dm: &mut dyn DeviceMapper, name: &str, word: &str) -> Result<DevNumber, Fault> {
    number_of(dm, word)?.ok_or_else(|| Fault::new(name, format!("nothing is called `{word}`")))
}

fn armed(dm: &mut dyn DeviceMapper, device: &Device) -> Result<Vec<FaultReport>, Fault> {
    let command = Command::Faults { id: named(device.name()) };
    answered(device, dm.control(command)?.map_err(|failure| because(device.name(), &failure))?)
}

fn set(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    below: Option<DevNumber>,
    plan: Option<FaultPlan>,
    replaces: bool,
) -> Result<Vec<FaultReport>, Fault> {
    let name = device.name();
    let command = Command::SetFaults { id: named(name), below, plan, replaces };
    let answer = dm.control(command)?.map_err(|failure| match failure.errno {
        Errno::BUSY => {
            let place = below.map(|below| format!(" for {below}")).unwrap_or_default();
            let why = format!(
                "has faults{place} already: --replace arms these instead, `dmsim heal {name}` takes them away"
            );
            Fault::new(mangle::decode(name), why)
        }
        _ => because(name, &failure),
    })?;
    answered(device, answer)
}

fn answered(device: &Device, answer: Answer) -> Result<Vec<FaultReport>, Fault> {
    match answer {
        Answer::Faults(plans) => Ok(plans),
        other => {
            let fault = unexpected(Outcome::Control(Ok(other)));
            Err(Fault::new(device.name(), fault.why))
        }
    }
}
