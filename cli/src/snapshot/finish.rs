//! The end of a merge, or of a snapshot: the origin gets a table for the time after it.

use backing::Attached;
use sim_core::control::{Id, Report, Slot};
use sim_core::{Access, DevNumber, KeyText};

use super::Machine;
use super::{
    Device, MADE_BY_US, ORIGIN, above, by_id, clear, find, load, named, one, remove, report,
    resume, suspend,
};
use crate::fault::Fault;

/// Puts a device's table back, all being merged: its own, where the one below was made for
/// snapshots and no other needs it; else that of an origin. Returns the image of the store.
pub(super) fn finish(machine: &mut dyn Machine, name: &str) -> Result<Option<Attached>, Fault> {
    let device = find(machine, name)?.ok_or_else(|| Fault::new(name, "no such device"))?;
    // Where it is no merge any more, another command was faster.
    let Some(line) = device.merge() else { return Ok(None) };
    let store = machine.images()?.into_iter().find(|image| image.number == line.cow);
    if !put_own_back(machine, name, line.origin)? {
        let table = one(device.size(), ORIGIN, &line.origin.to_string());
        load(machine, name, Access::ReadWrite, table)?;
        resume(machine, name)?;
    }
    Ok(store)
}

/// Puts a device's own table back, if the device below was made for snapshots and no other needs
/// it; tells whether it did.
pub(super) fn put_own_back(
    machine: &mut dyn Machine,
    name: &str,
    below: DevNumber,
) -> Result<bool, Fault> {
    let Some(below) = by_id(machine, Id::Dev(below))? else { return Ok(false) };
    let unneeded = is_unneeded(machine, &below, name)?;
    if unneeded {
        put_own(machine, name, below.name())?;
    }
    Ok(unneeded)
}

/// Tells whether a device was made for snapshots, and nobody but the origin uses it.
fn is_unneeded(machine: &mut dyn Machine, below: &Device, origin: &str) -> Result<bool, Fault> {
    let made = below.status.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(MADE_BY_US));
    // Its one table, and somebody besides who has the file open.
    let open = below.status.open_count > 1;
    Ok(made && !open && above(machine, below.status.dev)? == [origin])
}

/// Moves the table of the device below up to the origin, where it came from.
fn put_own(machine: &mut dyn Machine, name: &str, below: &str) -> Result<(), Fault> {
    let table = report(machine, named(below), Report::Table, Slot::Live, KeyText::Plain)?;
    let (_, table) = table.ok_or_else(|| Fault::new(below, "no such device"))?;
    let before = find(machine, name)?.map(|device| device.live);
    load(machine, name, Access::ReadWrite, table)?;
    let moved = suspend(machine, name)
        // Two tables on the same devices are never in use at once.
        .and_then(|()| suspend(machine, below))
        .and_then(|()| resume(machine, name));
    if let Err(fault) = moved {
        if find(machine, name)?.map(|device| device.live) == before {
            clear(machine, name)?;
            resume(machine, below)?;
            resume(machine, name)?;
        }
        return Err(fault);
    }
    remove(machine, below)
}
