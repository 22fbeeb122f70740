//! `dmsim wait --merge`: waits for what goes on in the background, and shows how far it is.

use daemon::{Fault, Instance};
use targets::lines::snapshot::Status;

use super::merge::mark;
use super::merge::note::note_on;
use super::state::{MERGE, state};
use crate::device_mapper::DeviceMapper;
use crate::devices::find;
use crate::watch::{INTERRUPTED, Look, Watch, until_done};
use crate::words::device_name;

/// Waits until the merge into a device is done; by the device's name, or that of the snapshot.
///
/// # Errors
/// Where nothing is being merged, the merge fails, or `watch` interrupts the waiting.
pub fn wait(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    name: &str,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let name = &*device_name(dm.mount(), name);
    let note = note_on(dm, instance, name)?;
    let name = note.as_ref().map_or(name, |note| &note.origin).to_owned();
    let device = find(dm, &name)?.ok_or_else(|| Fault::new(&name, "no such device"))?;
    if device.merge().is_none() {
        return Err(Fault::new(name, "nothing is being merged into it"));
    }
    until_merged(dm, &name, watch)?;
    note.map_or(Ok(()), |note| mark::take_off(&note))
}

/// Waits until a merge into this device is done.
pub(super) fn until_merged(
    dm: &mut dyn DeviceMapper,
    name: &str,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let ended = until_done(&format!("merge into {name}"), watch, || {
        if find(dm, name)?.is_some_and(|device| device.status.suspended) {
            let why = format!("is suspended, and the merge with it: `dmsim resume {name}`");
            return Err(Fault::new(name, why));
        }
        Ok(match state(dm, name, MERGE)? {
            Some(Status::Used { allocated, metadata, .. }) => {
                match allocated.0.saturating_sub(metadata.0) {
                    0 => Look::Done,
                    left => Look::Left(left),
                }
            }
            Some(Status::MergeFailed) => Look::Failed(format!(
                "the merge failed, as the device or the store could not be read or written (kmsg \
                 of the instance says which). The device can be used: what is not merged is read \
                 from the store. `dmsim suspend {name}` and `dmsim resume {name}` try again"
            )),
            Some(Status::Invalid | Status::Overflow | Status::Unknown) => Look::Failed(
                "the store is invalid, and what was not merged yet is lost. The device can be used"
                    .to_owned(),
            ),
            // Another command has finished it, and put the table away.
            None => Look::Done,
        })
    });
    ended.map_err(|fault| match fault.status {
        INTERRUPTED => {
            let why = format!("{}; the merge goes on, `dmsim merge {name}` finishes it", fault.why);
            Fault { why, ..fault }
        }
        _ => fault,
    })
}
