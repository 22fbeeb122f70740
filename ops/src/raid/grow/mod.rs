//! `dmsim raid grow`: more legs for a set, which is used meanwhile. Those of a raid1 are filled from the
//! others, and more of them may fail then; of other levels data moves onto them, and the set becomes longer.

mod copies;
mod moves;

use std::path::PathBuf;

use daemon::Fault;
use sim_core::Sectors;
use targets::lines::raid::{Action, Family, LegHealth, MAX_LEGS, Status};

use super::advice;
use super::leg::ring::Stretch;
use super::leg::{Image, Names, image_there, refuse_full, refuse_small, refuse_twice};
use super::replace::refuse_other_sectors;
use super::state::{look_at, refuse_md, set};
use super::wait::until_synced;
use crate::device_mapper::DeviceMapper;
use crate::devices::refuse_suspended_below;
use crate::parts::{New, Usage};
use crate::turn::turn;
use crate::watch::Watch;

/// Which set is to have more legs.
#[derive(Clone, Debug, Default)]
pub struct Grow {
    /// The set, by its name or the path of its file.
    pub name: String,
    /// The new legs: files, attached images or mapped devices.
    pub images: Vec<PathBuf>,
    /// Overwrites what the images hold.
    pub force: bool,
    /// Waits until they are filled.
    pub waits: bool,
}

/// What a set has become, or becomes when its data has moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    /// Its name.
    pub name: String,
    /// How many legs it has now.
    pub legs: usize,
    /// How long it was, and is then.
    pub was: Sectors,
    /// The same length with a raid1.
    pub becomes: Sectors,
}

/// What is to be done.
pub(super) enum Plan {
    Copies(Box<copies::Plan>),
    Moves(Box<moves::Plan>),
}

/// Gives a set more legs.
///
/// # Errors
/// Where a leg is not in sync, an image does not fit, a step fails, or `watch` interrupts it: before the
/// new legs are in use all is as it was, and after that the fault says how it stands.
pub fn grow(dm: &mut dyn DeviceMapper, ask: &Grow, watch: &dyn Watch) -> Result<Grown, Fault> {
    let plan = {
        let _turn = turn(dm, &ask.name, watch)?;
        let plan = plan(dm, ask)?;
        carry_out(dm, &plan, watch)?;
        plan
    };
    let (device, line, becomes) = match &plan {
        Plan::Copies(plan) => (plan.device(), plan.line(), plan.device().size()),
        Plan::Moves(plan) => (&plan.device, plan.last(), plan.becomes),
    };
    if ask.waits {
        until_synced(dm, device.name(), &line, &[], watch)?;
    }
    let name = daemon::mangle::decode(device.name());
    Ok(Grown { name, legs: line.legs.len(), was: device.size(), becomes })
}

/// Checks what is asked for. Nothing is changed yet.
pub(super) fn plan(dm: &mut dyn DeviceMapper, ask: &Grow) -> Result<Plan, Fault> {
    let (device, line) = set(dm, &ask.name)?;
    refuse_md(&device)?;
    let name = device.name();
    let family = line.kind.family();
    if family == Family::Raid0 {
        let why = "is a raid0: dm-raid moves the data of none, as nothing would keep it through a power cut. \
                   Make a larger set, and copy";
        return Err(Fault::new(name, why));
    }
    advice::refuse_without_metadata(name, &line)?;
    device.refuse_suspended()?;
    device.refuse_unready()?;
    refuse_suspended_below(dm, &device)?;
    let legs = line.legs.len() + ask.images.len();
    if legs > MAX_LEGS {
        let why = format!("would have {legs} legs: {MAX_LEGS} are the most");
        return Err(Fault::new(name, why));
    }
    let status = look_at(dm, name)?.status;
    refuse_unsynced(dm, name, &status)?;
    match family {
        Family::Raid1 => copies::plan(dm, ask, device, line).map(Box::new).map(Plan::Copies),
        _ => moves::plan(dm, ask, device, line).map(Box::new).map(Plan::Moves),
    }
}

/// Puts the new legs into the set, or leaves everything as it was; once they are there, it goes on.
pub(super) fn carry_out(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    match plan {
        Plan::Copies(plan) => copies::carry_out(dm, plan, watch),
        Plan::Moves(plan) => moves::carry_out(dm, plan, watch),
    }
}

/// Finds the images of new legs, whose data is to lie so.
fn new_legs(
    dm: &mut dyn DeviceMapper,
    ask: &Grow,
    name: &str,
    first: usize,
    data: &Stretch,
) -> Result<Vec<(Image, Names)>, Fault> {
    let mut new = Vec::new();
    for (leg, typed) in (first..).zip(&ask.images) {
        let image = image_there(dm, name, typed, Usage::ALONE, "`truncate -s SIZE` makes one")?;
        refuse_small(&image, data)?;
        refuse_other_sectors(dm, name, image.block, &image.about)?;
        if !ask.force {
            refuse_full(&image.new.path, &image.about)?;
        }
        let names = Names::of(name, leg);
        names.refuse_taken(dm)?;
        new.push((image, names));
    }
    let images: Vec<&New> = new.iter().map(|(image, _)| &image.new).collect();
    refuse_twice(&images, &ask.images)?;
    Ok(new)
}

/// Refuses a set that lacks something, or is busy.
fn refuse_unsynced(dm: &mut dyn DeviceMapper, name: &str, status: &Status) -> Result<(), Fault> {
    let is_lost = |health: &LegHealth| matches!(health, LegHealth::Failed | LegHealth::Missing);
    if let Some(leg) = status.legs.iter().position(is_lost) {
        let help = advice::help(dm, name, status, leg)?;
        return Err(Fault::new(name, format!("leg {leg} is not in sync: {help}")));
    }
    let why = match status.action {
        Action::Idle
            if status.done == status.total && !status.legs.contains(&LegHealth::Behind) =>
        {
            return Ok(());
        }
        Action::Check => {
            format!("is being checked: wait, or `dmsim message {name} 0 idle` breaks it off")
        }
        Action::Reshape => format!(
            "is being reshaped, as it was given legs: `dmsim wait --sync {name}` waits until that is over"
        ),
        _ => format!("is not in sync yet: `dmsim wait --sync {name}` first"),
    };
    Err(Fault::new(name, why))
}
