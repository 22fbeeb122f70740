//! Which devices map onto one.

use sim_core::DevNumber;
use sim_core::control::{Answer, Command, Failure, Id, Slot};

/// Lists those of `devices`, by the kernel's names, with a table, live or inactive, that has a device
/// open. `ask` carries out an operation.
///
/// # Errors
/// Where `ask` fails to ask at all. A device that is removed meanwhile maps onto nothing.
pub fn above<E>(
    devices: impl IntoIterator<Item = String>,
    below: DevNumber,
    mut ask: impl FnMut(Command) -> Result<Result<Answer, Failure>, E>,
) -> Result<Vec<String>, E> {
    let mut above = Vec::new();
    for name in devices {
        for slot in [Slot::Live, Slot::Inactive] {
            let deps = ask(Command::TableDeps { id: Id::Name(name.clone()), slot })?;
            if matches!(deps, Ok(Answer::Deps(deps)) if deps.contains(&below)) {
                above.push(name);
                break;
            }
        }
    }
    Ok(above)
}
