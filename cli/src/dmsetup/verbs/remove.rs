//! `remove`, `remove_all` and `wipe_table`.

use std::time::Duration;

use daemon::mangle;
use sim_core::control::{Answer, Command, DevStatus, Id, Report, Slot, WhenOpen};
use sim_core::{Errno, Held, KeyText, Params, Sector, Sectors, TargetSpec};

use super::suspend::set_read_ahead;
use crate::dmsetup::Called;
use crate::dmsetup::session::{Done, Session, Stop, Task};

/// How often `--retry` tries, and how long it waits in between.
const TRIES: u32 = 25;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// `remove DEVICE...`.
pub(super) fn remove(session: &mut Session<'_, '_>, word: Option<&str>) -> Done {
    let task = session.task(word)?;
    let below = below(session, &task);
    if !session.options.force {
        refuse_recorded(session, "remove", &task, &below)?;
    }
    let is_told = !session.options.quiet;
    let parts =
        below.into_iter().filter(|part| is_told && ops::is_part(part)).map(|part| part.name);
    let parts: Vec<String> = parts.collect();
    if session.options.force && (word.is_some() || session.called == Called::Dmsim) {
        if session.udev_cookie().is_some() {
            session.complain("WARNING: Use of cookie and --force is not compatible.");
        }
        // Without an error target the device is removed all the same, or not.
        match replace_by_errors(session, &task) {
            Ok(()) | Err(Stop::Failed | Stop::Enough | Stop::Refused) => (),
            Err(stop @ Stop::Output(_)) => return Err(stop),
        }
    }
    let part = session.begin_part()?;
    let removed = try_to_remove(session, &task);
    session.end_part(part);
    removed?;
    session
        .removed
        .extend((!parts.is_empty()).then(|| (task.to_string().trim().to_owned(), parts)));
    Ok(())
}

fn try_to_remove(session: &mut Session<'_, '_>, task: &Task) -> Done {
    let tries = if session.options.retry { TRIES } else { 1 };
    let open = when_open(session);
    for attempt in 1..=tries {
        let command = Command::DevRemove { id: task.id(), open };
        let Err(failure) = session.dm.call(command) else { break };
        session.tell("remove", task, &failure, None);
        if failure.errno != Errno::BUSY || attempt == tries {
            return Err(Stop::Failed);
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
    Ok(())
}

/// Refuses what would end the recording of a device in silence, or move it out of reach. To dmsetup there is none.
pub(super) fn refuse_recorded(
    session: &mut Session<'_, '_>,
    verb: &str,
    task: &Task,
    below: &[DevStatus],
) -> Done {
    if !below.iter().any(ops::crash::has_table_of_recorded) {
        return Ok(());
    }
    let name = task.to_string();
    let name = name.trim();
    session.complain_plainly(&format!(
        "dmsim: {verb}: {name}: is recorded: `dmsim crash stop {name}` ends that first\n"
    ));
    Err(Stop::Failed)
}

/// Lists the devices below a device: some were made as parts of it. To dmsetup there are none.
pub(super) fn below(session: &mut Session<'_, '_>, task: &Task) -> Vec<DevStatus> {
    if session.called != Called::Dmsim {
        return Vec::new();
    }
    let deps = Command::TableDeps { id: task.id(), slot: Slot::Live };
    let Ok(Answer::Deps(deps)) = session.dm.call(deps) else { return Vec::new() };
    // The last of a table comes first.
    deps.into_iter().rev().filter_map(|dev| device(session, Id::Dev(dev))).collect()
}

/// Returns how a device is; nothing where there is none.
fn device(session: &mut Session<'_, '_>, id: Id) -> Option<DevStatus> {
    match session.dm.call(Command::DevStatus { id, slot: Slot::Live }) {
        Ok(Answer::Status(status)) => Some(status),
        Ok(_) | Err(_) => None,
    }
}

/// Tells of parts that nobody uses any more, and that stay.
pub(in crate::dmsetup) fn tell_left(session: &mut Session<'_, '_>) {
    for (name, parts) in std::mem::take(&mut session.removed) {
        let mut left = Vec::new();
        for part in parts {
            if device(session, Id::Name(part.clone())).is_some_and(|part| part.open_count == 0) {
                left.push(mangle::decode(&part));
            }
        }
        if !left.is_empty() {
            let (named, words) = (left.join(", "), left.join(" "));
            session.complain_plainly(&format!(
                "dmsim: {name}: what was made below it stays: {named}: `dmsim remove {words}` takes \
                 that away too\n"
            ));
        }
    }
}

/// `remove_all`: with `--force`, what is open reads as errors from then on.
pub(super) fn remove_all(session: &mut Session<'_, '_>, _words: &[String]) -> Done {
    let (open, none) = (when_open(session), Task::default());
    session.call("remove_all", &none, Command::RemoveAll { open })?;
    if !session.options.force {
        return Ok(());
    }
    let left = names(session)?;
    if left.is_empty() {
        return Ok(());
    }
    for name in left {
        replace_by_errors(session, &Task::named(&name))?;
    }
    session.call("remove_all", &none, Command::RemoveAll { open })?;
    let left = names(session)?.len();
    if left > 0 {
        session.complain(&format!("Unable to remove {left} device(s)."));
    }
    Ok(())
}

/// `wipe_table DEVICE...`: makes the whole device an error target.
pub(super) fn wipe_table(session: &mut Session<'_, '_>, word: Option<&str>) -> Done {
    if word.is_none() && session.called != Called::Dmsim {
        // dmsetup looks at the words alone.
        return session.fail("No device specified.");
    }
    let task = session.task(word)?;
    replace_by_errors(session, &task)?;
    set_read_ahead(session, &task)
}

fn when_open(session: &Session<'_, '_>) -> WhenOpen {
    if session.options.deferred { WhenOpen::Defer } else { WhenOpen::Refuse }
}

fn names(session: &mut Session<'_, '_>) -> Done<Vec<String>> {
    match session.call("names", &Task::default(), Command::ListDevices)? {
        Answer::Devices(devices) => Ok(devices.into_iter().map(|device| device.name).collect()),
        _ => unreachable!("a list answers a list"),
    }
}

/// Replaces a device's table by an error target of the same size. The bios in flight end before.
fn replace_by_errors(session: &mut Session<'_, '_>, task: &Task) -> Done {
    // With force no bio is waited for that would never end.
    let held = if session.options.force { Held::NoFlush } else { session.held() };
    let id = task.id();
    let (report, slot) = (Report::Table, session.slot());
    let asked = Command::TableStatus {
        id: id.clone(),
        report,
        slot,
        device_names: false,
        keys: KeyText::Zeros,
    };
    let len = match session.call("table", task, asked) {
        Ok(Answer::Table(_, lines)) => lines.iter().map(|line| line.len).sum(),
        // The size stays unknown; the load will say the rest.
        Ok(_) | Err(_) => Sectors::ZERO,
    };
    let error = TargetSpec {
        start: Sector::ZERO,
        len,
        target_type: "error".to_owned(),
        params: Params::default(),
    };
    let (access, base) = (session.access(), session.dm.base());
    let load = Command::TableLoad { id: id.clone(), access, targets: vec![error], base };
    session.call("reload", task, load)?;
    let resumed = session.begin_part().and_then(|part| {
        let resumed = session.call("resume", task, Command::DevResume { id: id.clone(), held });
        session.end_part(part);
        resumed
    });
    if resumed.is_err() {
        session.call("clear", task, Command::TableClear { id })?;
    }
    resumed.map(drop)
}
