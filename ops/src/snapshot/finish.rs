//! The end of a merge, or of a snapshot: the origin gets a table for the time after it.

use backing::Attached;
use daemon::Fault;
use sim_core::control::{Id, Report, Slot};
use sim_core::{Access, DevNumber, KeyText};

use super::state::{MADE_BY_US, ORIGIN};
use crate::commands::{clear, load, one, remove, resume, suspend};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, above, by_id, find, named, report};

/// Puts a device's table back, all being merged: its own, where the one below was made for
/// snapshots and no other needs it; else that of an origin. Returns the image of the store.
pub(super) fn finish(dm: &mut dyn DeviceMapper, name: &str) -> Result<Option<Attached>, Fault> {
    let device = find(dm, name)?.ok_or_else(|| Fault::new(name, "no such device"))?;
    // Where it is no merge any more, another command was faster.
    let Some(line) = device.merge() else { return Ok(None) };
    let store = dm.images()?.into_iter().find(|image| image.number == line.cow);
    if !put_own_back(dm, name, line.origin)? {
        let table = one(device.size(), ORIGIN, &line.origin.to_string());
        load(dm, name, Access::ReadWrite, table)?;
        resume(dm, name)?;
    }
    Ok(store)
}

/// Puts a device's own table back, if the device below was made for snapshots and no other needs
/// it; tells whether it did.
pub(super) fn put_own_back(
    dm: &mut dyn DeviceMapper,
    name: &str,
    below: DevNumber,
) -> Result<bool, Fault> {
    let Some(below) = by_id(dm, Id::Dev(below))? else { return Ok(false) };
    let unneeded = is_unneeded(dm, &below, name)?;
    if unneeded {
        put_own(dm, name, below.name())?;
    }
    Ok(unneeded)
}

/// Tells whether a device was made for snapshots, and nobody but the origin uses it.
fn is_unneeded(dm: &mut dyn DeviceMapper, below: &Device, origin: &str) -> Result<bool, Fault> {
    let made = below.status.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(MADE_BY_US));
    // Its one table, and somebody besides who has the file open.
    let open = below.status.open_count > 1;
    Ok(made && !open && above(dm, below.status.dev)? == [origin])
}

/// Moves the table of the device below up to the origin, where it came from.
fn put_own(dm: &mut dyn DeviceMapper, name: &str, below: &str) -> Result<(), Fault> {
    let table = report(dm, named(below), Report::Table, Slot::Live, KeyText::Plain)?;
    let (_, table) = table.ok_or_else(|| Fault::new(below, "no such device"))?;
    let before = find(dm, name)?.map(|device| device.live);
    load(dm, name, Access::ReadWrite, table)?;
    let moved = suspend(dm, name)
        // Two tables on the same devices are never in use at once.
        .and_then(|()| suspend(dm, below))
        .and_then(|()| resume(dm, name));
    if let Err(fault) = moved {
        if find(dm, name)?.map(|device| device.live) == before {
            clear(dm, name)?;
            resume(dm, below)?;
            resume(dm, name)?;
        }
        return Err(fault);
    }
    remove(dm, below)
}
