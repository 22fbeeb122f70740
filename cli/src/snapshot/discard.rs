//! `dmsim drop`: a snapshot goes, and with it what was made for it alone.

use std::process::ExitCode;

use super::merge::{drop_own, refuse_open};
use super::options::Drop;
use super::{Machine, devices, find, finish, remove};
use crate::client::Client;
use crate::fault::Fault;
use crate::instance::Instance;

/// `dmsim drop`.
pub(crate) fn discard(instance: &Instance, options: &Drop) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let store = carry_out(&mut client, &options.name)?;
    if let Some(store) = store {
        drop_own(&mut client, instance, &store)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the snapshot, and gives its origin the table back that it had before, where no other
/// snapshot needs what it has now. Returns the image of the store.
pub(super) fn carry_out(
    machine: &mut dyn Machine,
    name: &str,
) -> Result<Option<backing::Attached>, Fault> {
    let device = find(machine, name)?.ok_or_else(|| Fault::new(name, "no such device"))?;
    let Some(line) = device.snapshot() else {
        let why = match device.merge() {
            Some(_) => "a snapshot is being merged into it: `dmsim merge` finishes that",
            None => "is no snapshot",
        };
        return Err(Fault::new(name, why));
    };
    refuse_open(machine, &device)?;
    let store = machine.images()?.into_iter().find(|image| image.number == line.cow);
    remove(machine, name)?;
    let all = devices(machine)?;
    let origins = all.iter().filter(|device| device.origin_of() == Some(line.origin));
    // One that is suspended, or has another table loaded, is left to whoever did that.
    let origins = origins.filter(|device| {
        !device.status.suspended && !device.status.inactive_present && !device.status.read_only
    });
    if let Some(origin) = origins.map(|device| device.name().to_owned()).next() {
        finish::put_own_back(machine, &origin, line.origin)?;
    }
    Ok(store)
}
