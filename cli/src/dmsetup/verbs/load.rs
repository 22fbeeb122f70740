//! `load` (`reload`), `clear`, and where tables are read from.

use sim_core::control::Command;
use sim_core::{Access, TargetSpec};

use super::remove::{below, refuse_recorded};
use crate::dmsetup::dm::Called;
use crate::dmsetup::errors::{Source, line_fault};
use crate::dmsetup::session::{Done, Session, Stop, Task};

/// The longest name of a target type, in bytes.
const MAX_TYPE_NAME: usize = 15;

/// `load DEVICE [FILE]`: fills the inactive slot.
pub(super) fn load(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    if session.options.notable {
        return session.fail("--notable only available when creating new device.");
    }
    let (device, file) = match words {
        [] if session.options.names_a_device() => (None, None),
        [] => return session.fail("Please specify device."),
        [file] if session.options.names_a_device() => (None, Some(file)),
        [device] => (Some(device), None),
        [device, file, ..] => (Some(device), Some(file)),
    };
    let task = session.task(device.map(String::as_str))?;
    let below = below(session, &task);
    refuse_recorded(session, "load", &task, &below)?;
    let source = read_table(session, &shown(&task), file.map(String::as_str))?;
    let access = session.access();
    load_table(session, &task, access, &source)?;
    session.print_info_if_verbose(&task)
}

/// `clear DEVICE`: empties the inactive slot.
pub(super) fn clear(session: &mut Session<'_, '_>, word: Option<&str>) -> Done {
    let task = session.task(word)?;
    session.call("clear", &task, Command::TableClear { id: task.id() })?;
    session.print_info_if_verbose(&task)
}

/// Loads a table, and tells of a fault in it.
pub(super) fn load_table(
    session: &mut Session<'_, '_>,
    task: &Task,
    access: Access,
    source: &Source,
) -> Done {
    let (targets, base) = (source.targets(), session.dm.base());
    let command = Command::TableLoad { id: task.id(), access, targets, base };
    session.call_for("reload", task, command, Some(source)).map(drop)
}

/// Reads the table: of `--table`, of a file, or of standard input.
pub(super) fn read_table(
    session: &mut Session<'_, '_>,
    device: &str,
    file: Option<&str>,
) -> Done<Source> {
    let (text, from) = match (session.options.table.clone(), file) {
        (Some(table), _) => (table, String::new()),
        (None, Some(file)) => {
            let path = std::path::Path::new(&session.dm.base()).join(file);
            match std::fs::read(path) {
                Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), file.to_owned()),
                Err(_) => return session.fail(&format!("Couldn't open '{file}' for reading.")),
            }
        }
        (None, None) => {
            let mut bytes = Vec::new();
            if session.stdin().read_to_end(&mut bytes).is_err() {
                return session.fail("Couldn't read the table from standard input.");
            }
            (String::from_utf8_lossy(&bytes).into_owned(), "on stdin".to_owned())
        }
    };
    parse(session, device, text, &from)
}

/// Parses a table's text; `from` is how dmsetup names where it came from.
pub(super) fn parse(
    session: &mut Session<'_, '_>,
    device: &str,
    text: String,
    from: &str,
) -> Done<Source> {
    let source = match Source::read(text.clone()) {
        Ok(source) => source,
        Err(fault) => {
            let told = match session.called {
                Called::Dmsetup | Called::Dmstats => {
                    format!("Invalid format on line {} of table {from}.\n", fault.line)
                }
                Called::Dmsim => line_fault(&format!("{} {device}", session.verb), &fault, &text),
            };
            session.complain_plainly(&told);
            return Err(Stop::Failed);
        }
    };
    let too_long = |target: &TargetSpec| target.target_type.len() > MAX_TYPE_NAME;
    match source.targets().into_iter().find(too_long) {
        None => Ok(source),
        Some(target) => {
            session.fail(&format!("Target type name {} is too long.", target.target_type))
        }
    }
}

/// How dmsim's errors name the device.
pub(super) fn shown(task: &Task) -> String {
    task.name.clone().or(task.uuid.clone()).unwrap_or_default()
}
