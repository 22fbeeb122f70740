//! `rename`: another name, or a first uuid.

use sim_core::control::{Command, MAX_NAME, MAX_UUID, NewName};

use crate::dmsetup::dm::Called;
use crate::dmsetup::session::{Done, Session, Task};
use daemon::mangle::{What, mangle, refuse_twice};

/// `rename DEVICE NEW`, `rename --setuuid DEVICE UUID`.
pub(super) fn rename(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let (device, new) = match words {
        [new] => (None, new),
        [device, new, ..] => (Some(device.as_str()), new),
        [] => unreachable!("the verb has one word at least"),
    };
    let mut task = session.task(device)?;
    if session.called == Called::Dmsim && task.name.is_none() {
        // The kernel renames by name alone, which is no reason not to find the name out.
        task = Task::named(&session.known_status(&task)?.name);
    }
    let new = match session.options.setuuid {
        true => {
            if new.len() > MAX_UUID {
                return session.fail(&format!("Uuid \"{new}\" too long"));
            }
            NewName::Uuid(new_form(session, new, What::Uuid)?)
        }
        false => {
            if new.is_empty() {
                return session.fail("Non empty new name is required.");
            }
            if new.contains('/') {
                return session.fail(&format!("Name \"{new}\" invalid. It contains \"/\"."));
            }
            if new.len() > MAX_NAME {
                return session.fail(&format!("Name \"{new}\" too long"));
            }
            NewName::Name(new_form(session, new, What::Name)?)
        }
    };
    carry_out(session, &task, new)
}

/// Gives a device a new name, or its uuid, as a part of what udev would be told of.
pub(super) fn carry_out(session: &mut Session<'_, '_>, task: &Task, new: NewName) -> Done {
    let part = session.begin_part()?;
    let renamed = session.call("rename", task, Command::DevRename { id: task.id(), new });
    session.end_part(part);
    renamed.map(drop)
}

fn new_form(session: &mut Session<'_, '_>, new: &str, what: What) -> Done<String> {
    if let Err(line) = refuse_twice(new, what, session.mode()) {
        return session.fail(&line.replacen("The ", "The new ", 1));
    }
    let mangled = mangle(new, what, session.mode());
    let shown = mangled.and_then(|new| refuse_twice(&new, what, session.mode()).map(|()| new));
    shown.or_else(|text| {
        session.complain(&text.replacen("The ", "The new ", 1));
        let word = match what {
            What::Name => "name",
            What::Uuid => "uuid",
        };
        session.fail(&format!("Failed to mangle new device {word} \"{new}\""))
    })
}
