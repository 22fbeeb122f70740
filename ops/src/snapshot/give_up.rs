//! `dmsim drop`: a snapshot goes, and with it what was made for it alone.

use daemon::{Fault, Instance};

use super::finish;
use super::merge::note::{forget, note_on};
use super::merge::{drop_own, refuse_open};
use crate::commands::remove;
use crate::device_mapper::DeviceMapper;
use crate::devices::{devices, find};
use crate::words::device_name;

/// Gives a snapshot up: its device goes, and its store, if that is one of the instance's own.
///
/// # Errors
/// Where it is no snapshot, or somebody has it open.
pub fn give_up(dm: &mut dyn DeviceMapper, instance: &Instance, name: &str) -> Result<(), Fault> {
    let name = &device_name(dm.mount(), name);
    // Of a merge that was cut off before it had begun.
    let note = note_on(dm, instance, name)?;
    if let Some(store) = carry_out(dm, name)? {
        drop_own(dm, instance, &store)?;
    }
    note.map_or(Ok(()), |note| forget(instance, &note.origin))
}

/// Removes the snapshot, and gives its origin the table back that it had before, where no other
/// snapshot needs what it has now. Returns the image of the store.
pub(super) fn carry_out(
    dm: &mut dyn DeviceMapper,
    name: &str,
) -> Result<Option<backing::Attached>, Fault> {
    let device = find(dm, name)?.ok_or_else(|| Fault::new(name, "no such device"))?;
    let Some(line) = device.snapshot() else {
        let why = match device.merge() {
            Some(_) => "a snapshot is being merged into it: `dmsim merge` finishes that",
            None => "is no snapshot",
        };
        return Err(Fault::new(name, why));
    };
    refuse_open(dm, &device)?;
    let store = dm.images()?.into_iter().find(|image| image.number == line.cow);
    remove(dm, name)?;
    let all = devices(dm)?;
    let origins = all.iter().filter(|device| device.origin_of() == Some(line.origin));
    // One that is suspended, or has another table loaded, is left to whoever did that.
    let origins = origins.filter(|device| {
        !device.status.suspended && !device.status.inactive_present && !device.status.read_only
    });
    if let Some(origin) = origins.map(|device| device.name().to_owned()).next() {
        finish::put_own_back(dm, &origin, line.origin)?;
    }
    Ok(store)
}
