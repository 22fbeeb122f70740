//! `dmsim raid grow`: more legs for a raid1, filled from those that it has.
//!
//! As with a replacement, the table that has the new legs rebuilt is in use for a moment alone.

use std::path::PathBuf;

use daemon::Fault;
use sim_core::Sectors;
use targets::lines::raid::{Action, Family, LegHealth, MAX_LEGS, Status};

use super::leg::label::Label;
use super::leg::{Names, image_there, refuse_full, refuse_small, refuse_twice};
use super::level::level;
use super::replace::{label_of, refuse_other_sectors, settle, swap};
use super::state::{Line, look_at, redundant, refuse_md, table};
use super::steps::Done;
use super::wait::until_synced;
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, refuse_suspended_below};
use crate::parts::New;
use crate::watch::{Watch, go_on};

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

/// What is to be done.
pub(super) struct Plan {
    device: Device,
    /// The line as it is, without the new legs.
    line: Line,
    /// The new legs, and what their devices are called.
    new: Vec<(New, Names)>,
    /// How much data a leg has.
    data: Sectors,
    /// That of the set, where its legs have one.
    label: Option<Label>,
}

/// Gives a raid1 more legs: each has all of it, so that more of them may fail.
///
/// # Errors
/// Where a leg is not in sync, an image does not fit, a step fails, or `watch` interrupts it: before the
/// new legs are in use all is as it was, and after that the fault says how it stands.
pub fn grow(dm: &mut dyn DeviceMapper, ask: &Grow, watch: &dyn Watch) -> Result<(), Fault> {
    let plan = plan(dm, ask)?;
    carry_out(dm, &plan, watch)?;
    match ask.waits {
        true => until_synced(dm, plan.device.name(), &plan.line, &[], watch),
        false => Ok(()),
    }
}

/// Checks what is asked for. Nothing is changed yet.
pub(super) fn plan(dm: &mut dyn DeviceMapper, ask: &Grow) -> Result<Plan, Fault> {
    let (device, line) = redundant(dm, &ask.name)?;
    refuse_md(&device)?;
    let name = device.name();
    refuse_moving(name, &line)?;
    device.refuse_suspended()?;
    device.refuse_unready()?;
    refuse_suspended_below(dm, &device)?;
    let legs = line.legs.len() + ask.images.len();
    if legs > MAX_LEGS {
        let why = format!("would have {legs} legs: {MAX_LEGS} are the most");
        return Err(Fault::new(name, why));
    }
    refuse_unsynced(name, &look_at(dm, name)?.status)?;
    let lengths = line.lengths(device.size()).map_err(|why| Fault::new(name, why))?;
    let mut new = Vec::new();
    for (leg, typed) in (line.legs.len()..).zip(&ask.images) {
        let image = image_there(dm, name, typed, "`truncate -s SIZE` makes one")?;
        refuse_small(&image, lengths.device)?;
        refuse_other_sectors(dm, name, image.block, &image.about)?;
        if !ask.force {
            refuse_full(&image.new.path, &image.about)?;
        }
        let names = Names::of(name, leg);
        names.refuse_taken(dm)?;
        new.push((image.new, names));
    }
    let images: Vec<&New> = new.iter().map(|(image, _)| image).collect();
    refuse_twice(&images, &ask.images)?;
    let label = label_of(dm, &line)?;
    Ok(Plan { data: lengths.device, label, line, new, device })
}

/// Refuses a set whose data would have to move for a leg more.
fn refuse_moving(name: &str, line: &Line) -> Result<(), Fault> {
    match line.kind.family() {
        Family::Raid1 => Ok(()),
        _ => {
            let level = level(line.kind);
            let why = format!(
                "is a {level}, whose data has to move for a leg more: there is no verb for that yet, but \
                 tables (docs/src/reshape.md)"
            );
            Err(Fault::new(name, why))
        }
    }
}

/// Refuses a set that lacks something, or is busy.
fn refuse_unsynced(name: &str, status: &Status) -> Result<(), Fault> {
    let is_lost = |health: &LegHealth| matches!(health, LegHealth::Failed | LegHealth::Missing);
    if let Some(leg) = status.legs.iter().position(is_lost) {
        let why = format!(
            "leg {leg} is not in sync: `dmsim heal {name}`, or `dmsim raid replace {name} {leg} IMAGE`, \
             first"
        );
        return Err(Fault::new(name, why));
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
        _ => format!("is not in sync yet: `dmsim wait --sync {name}` first"),
    };
    Err(Fault::new(name, why))
}

impl Plan {
    /// Returns the line with the new legs, which are rebuilt.
    fn grown(&self) -> Line {
        let mut line = self.line.clone();
        line.params.rebuild = (line.legs.len()..).take(self.new.len()).collect();
        line.legs.extend(self.new.iter().map(|(_, names)| names.words()));
        line
    }
}

/// Puts the new legs into the set, or leaves everything as it was; once they are there, it goes on.
pub(super) fn carry_out(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let name = plan.device.name();
    let mut done = Done::default();
    if let Err(fault) = forward(dm, plan, &mut done, watch) {
        let undone = done.undo(dm);
        let end = format_args!("no leg was added, and `{name}` is as it was");
        return Err(fault.undone(undone, end));
    }
    settle(dm, &plan.device, &plan.grown()).map_err(|fault| {
        let why = format!(
            "the new legs are in their places, and are filled: {fault}. Its table still has `rebuild`, \
             which would begin anew at a restart: `dmsim heal {name}` takes it out"
        );
        Fault::new(name, why)
    })
}

fn forward(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    done: &mut Done,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    for (image, names) in &plan.new {
        go_on(plan.device.name(), watch)?;
        done.label(&image.path, plan.label)?;
        done.leg(dm, names, &image.word, plan.data)?;
    }
    swap(dm, &plan.device, &table(&plan.grown(), plan.device.size()), watch)
}
