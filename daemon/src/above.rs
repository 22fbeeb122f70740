//! Which devices map onto which.

use std::collections::BTreeMap;

use sim_core::DevNumber;
use sim_core::control::{Answer, Command, Failure, Id, Slot};

/// Lists, for each device below others, those of `devices`, by the kernel's names, with a table, live or inactive,
/// that has it open. `ask` carries out an operation.
///
/// # Errors
/// Where `ask` fails to ask at all. A device that is removed meanwhile maps onto nothing.
pub fn all_above<E>(
    devices: impl IntoIterator<Item = String>,
    mut ask: impl FnMut(Command) -> Result<Result<Answer, Failure>, E>,
) -> Result<BTreeMap<DevNumber, Vec<String>>, E> {
    let mut above: BTreeMap<DevNumber, Vec<String>> = BTreeMap::new();
    for name in devices {
        for slot in [Slot::Live, Slot::Inactive] {
            let deps = ask(Command::TableDeps { id: Id::Name(name.clone()), slot })?;
            let Ok(Answer::Deps(deps)) = deps else { continue };
            for below in deps {
                let above = above.entry(below).or_default();
                // One of its tables may have told of it.
                if above.last() != Some(&name) {
                    above.push(name.clone());
                }
            }
        }
    }
    Ok(above)
}

/// As [`all_above`], of one device.
///
/// # Errors
/// As [`all_above`].
pub fn above<E>(
    devices: impl IntoIterator<Item = String>,
    below: DevNumber,
    ask: impl FnMut(Command) -> Result<Result<Answer, Failure>, E>,
) -> Result<Vec<String>, E> {
    Ok(all_above(devices, ask)?.remove(&below).unwrap_or_default())
}
