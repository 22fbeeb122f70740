//! `suspend` and `resume`.

use sim_core::Sectors;
use sim_core::control::Command;

use crate::dmsetup::options::ReadAhead;
use crate::dmsetup::session::{Done, Session, Task};

/// `suspend DEVICE...`.
pub(super) fn suspend(session: &mut Session<'_, '_>, word: Option<&str>) -> Done {
    let task = session.task(word)?;
    let held = session.held();
    session.call("suspend", &task, Command::DevSuspend { id: task.id(), held })?;
    session.print_info_if_verbose(&task)
}

/// `resume DEVICE...`.
pub(super) fn resume(session: &mut Session<'_, '_>, word: Option<&str>) -> Done {
    let task = session.task(word)?;
    let held = session.held();
    let part = session.begin_part()?;
    let resumed = session.call("resume", &task, Command::DevResume { id: task.id(), held });
    session.end_part(part);
    resumed?;
    set_read_ahead(session, &task)?;
    session.print_info_if_verbose(&task)
}

/// Sets the read-ahead as `--readahead` says.
pub(super) fn set_read_ahead(session: &mut Session<'_, '_>, task: &Task) -> Done {
    let sectors = match session.options.read_ahead {
        ReadAhead::Auto => return Ok(()),
        ReadAhead::Exactly(sectors) => sectors,
        ReadAhead::AtLeast(sectors) => {
            let status = session.known_status(task)?;
            if status.read_ahead.is_none_or(|now| now.0 >= sectors) {
                return Ok(());
            }
            sectors
        }
    };
    let sectors = Sectors(sectors);
    session.call("resume", task, Command::SetReadAhead { id: task.id(), sectors }).map(drop)
}
