//! More legs for a raid1, filled from those that it has.
//!
//! As with a replacement, the table that has the new legs rebuilt is in use for a moment alone.

use daemon::Fault;
use sim_core::Access;

use super::super::leg::Names;
use super::super::leg::label::Label;
use super::super::leg::ring::Stretch;
use super::super::replace::{as_it_was, is_gone, label_of, settle, swap};
use super::super::state::{Line, table};
use super::super::steps::Done;
use super::super::wait::KEPT;
use super::{Grow, new_legs};
use crate::device_mapper::DeviceMapper;
use crate::devices::Device;
use crate::parts::New;
use crate::watch::{Watch, go_on};

/// What is to be done.
pub(in super::super) struct Plan {
    device: Device,
    /// The line as it is, without the new legs.
    line: Line,
    /// The new legs, and what their devices are called.
    new: Vec<(New, Names)>,
    /// Where a leg's data lies.
    data: Stretch,
    /// That of the set, where its legs have one.
    label: Option<Label>,
}

impl Plan {
    pub(in super::super) fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the line as it is to stay.
    pub(super) fn line(&self) -> Line {
        let mut line = self.grown();
        line.params.rebuild.clear();
        line
    }
}

/// Checks the images. Nothing is changed yet.
pub(super) fn plan(
    dm: &mut dyn DeviceMapper,
    ask: &Grow,
    device: Device,
    line: Line,
) -> Result<Plan, Fault> {
    let name = device.name();
    let lengths = line.lengths(device.size()).map_err(|why| Fault::new(name, why))?;
    let data = Stretch::whole(lengths.device);
    let new = new_legs(dm, ask, name, line.legs.len(), &data)?;
    let new = new.into_iter().map(|(image, names)| (image.new, names)).collect();
    let label = label_of(dm, &line)?;
    Ok(Plan { data, label, line, new, device })
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
    Done::or_undo(
        dm,
        |dm| as_it_was(dm, "no leg was added", name),
        |dm, done| forward(dm, plan, done, watch),
    )?;
    settle(dm, &plan.device, &plan.grown(), plan.device.size()).map_err(|fault| {
        if is_gone(dm, name) {
            return Fault::new(name, format!("the new legs are in their places, and {KEPT}"));
        }
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
        done.leg(dm, names, &image.word, &plan.data, Access::ReadWrite)?;
    }
    swap(dm, &plan.device, &table(&plan.grown(), plan.device.size()), watch)
}
