//! `dmsim wait --merge`: waits for what goes on in the background, and shows how far it is.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use super::{MERGE, Machine, State, find, merge, state};
use crate::client::Client;
use crate::fault::Fault;
use crate::instance::Instance;
use crate::machine::{INTERRUPTED, Progress, on_signals, until_done};

/// `dmsim wait --merge`.
pub(crate) fn wait(instance: &Instance, name: &str) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let note = merge::note_on(&mut client, instance, name)?;
    let name = note.map_or(name.to_owned(), |note| note.origin);
    let device = find(&mut client, &name)?.ok_or_else(|| Fault::new(&name, "no such device"))?;
    if device.merge().is_none() {
        return Err(Fault::new(name, "nothing is being merged into it"));
    }
    let interrupted = on_signals()?;
    until_merged(&mut client, &name, &interrupted)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until a merge into this device is done.
pub(super) fn until_merged(
    machine: &mut dyn Machine,
    name: &str,
    interrupted: &AtomicBool,
) -> Result<(), Fault> {
    let ended = until_done(&format!("merge into {name}"), interrupted, || {
        if find(machine, name)?.is_some_and(|device| device.status.suspended) {
            let why = format!("is suspended, and the merge with it: `dmsim resume {name}`");
            return Err(Fault::new(name, why));
        }
        Ok(match state(machine, name, MERGE)? {
            Some(State::Good { allocated, metadata }) if allocated <= metadata => Progress::Done,
            Some(State::Good { allocated, metadata }) => Progress::Left(allocated - metadata),
            Some(State::MergeFailed) => Progress::Failed(format!(
                "the merge failed, as the device or the store could not be read or written (kmsg \
                 of the instance says which). The device can be used: what is not merged is read \
                 from the store. `dmsim suspend {name}` and `dmsim resume {name}` try again"
            )),
            Some(State::Invalid | State::Overflow) => Progress::Failed(
                "the store is invalid, and what was not merged yet is lost. The device can be used"
                    .to_owned(),
            ),
            // Another command has finished it, and put the table away.
            None => Progress::Done,
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
