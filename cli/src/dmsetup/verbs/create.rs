//! `create`: a device, its table, and all that goes with it.

use sim_core::control::{Command, Failure, Node, WhenOpen};
use sim_core::{Access, DM_MAJOR, Errno, Held};

use super::load::{load_table, parse, read_table};
use super::suspend::set_read_ahead;
use crate::dmsetup::concise::Entries;
use crate::dmsetup::errors::Source;
use crate::dmsetup::session::{Done, Session, Stop, Task, expect_status};
use daemon::mangle::What;

/// A device to be.
struct Wanted {
    name: String,
    uuid: Option<String>,
    minor: Option<u32>,
    access: Access,
    table: Option<Source>,
}

/// `create NAME [FILE]`, `create --concise [TEXT]`.
pub(super) fn create(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    if session.options.concise {
        return create_concise(session, words);
    }
    let Some(name) = words.first() else {
        return session.fail("Please provide a name for the new device.");
    };
    let mangled = new_name(session, name)?;
    let table = match session.options.notable {
        true => None,
        false => Some(read_table(session, name, words.get(1).map(String::as_str))?),
    };
    let (uuid, minor) = (session.options.uuid.clone(), session.options.minor);
    let access = session.access();
    create_one(session, Wanted { name: mangled, uuid, minor, access, table })
}

fn create_concise(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let options = &session.options;
    let clash = options.table.is_some() || options.notable || options.inactive;
    if clash || options.names_a_device() {
        return session
            .fail("--concise is incompatible with --[no]table, --minor, --uuid and --inactive.");
    }
    let text = match words {
        [] => {
            let mut bytes = Vec::new();
            if session.stdin().read_to_end(&mut bytes).is_err() {
                return session.fail("Couldn't read from standard input.");
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
        [text] => text.clone(),
        _ => return session.fail("dmsetup create --concise takes at most one argument"),
    };
    session.dm.begin_batch();
    let created = create_all(session, &text);
    session.dm.commit_batch();
    created
}

/// Creates the devices of a concise text, until one fails.
fn create_all(session: &mut Session<'_, '_>, text: &str) -> Done {
    for entry in Entries::new(text) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(mut lines) => {
                let last = lines.pop().unwrap_or_default();
                lines.iter().for_each(|line| session.complain(line));
                return session.fail(&last);
            }
        };
        let name = new_name(session, &entry.name)?;
        let table = Some(parse(session, &entry.name, entry.table, "")?);
        let access = match entry.read_only {
            true => Access::ReadOnly,
            false => session.access(),
        };
        let (uuid, minor) = (entry.uuid, entry.minor);
        create_one(session, Wanted { name, uuid, minor, access, table })?;
    }
    Ok(())
}

fn new_name(session: &mut Session<'_, '_>, name: &str) -> Done<String> {
    if name.contains('/') {
        return session.fail(&format!("Name \"{name}\" invalid. It contains \"/\"."));
    }
    let mangled = session.mangle_name(name)?;
    session.refuse_twice(&mangled, What::Name)?;
    Ok(mangled)
}

/// Creates a device, loads its table and resumes it; undoes all of it where a step fails.
fn create_one(session: &mut Session<'_, '_>, wanted: Wanted) -> Done {
    let uuid = match &wanted.uuid {
        Some(uuid) => {
            let mangled = session.mangle_uuid(uuid)?;
            session.refuse_twice(&mangled, What::Uuid)?;
            Some(mangled)
        }
        None => None,
    };
    let dev = wanted.minor.map(|minor| session.dev(minor));
    let task = Task { name: Some(wanted.name.clone()), uuid, dev };
    if let Some(dev) = dev.filter(|dev| dev.major != DM_MAJOR) {
        // The kernel makes 253:MINOR, which dmsetup then neither finds nor removes.
        let why = Some(format!("mapped devices are {DM_MAJOR}:N, not {dev}"));
        session.tell("create", &task, &Failure { errno: Errno::NXIO, table: None, why }, None);
        return Err(Stop::Failed);
    }
    if session.options.notable {
        // Without a table there is nothing that udev would be told of.
        session.pass_udev_by();
    }
    let part = session.begin_part()?;
    let made = make(session, task, &wanted);
    session.end_part(part);
    let task = made?;
    set_node(session, &task)?;
    set_read_ahead(session, &task)?;
    session.print_info_if_verbose(&task)
}

fn make(session: &mut Session<'_, '_>, task: Task, wanted: &Wanted) -> Done<Task> {
    let (name, uuid) = (wanted.name.clone(), task.uuid.clone());
    let command = Command::DevCreate { name, uuid, minor: wanted.minor };
    let status = expect_status(session.call("create", &task, command)?);
    let task = Task { dev: Some(status.dev), ..Task::named(&wanted.name) };
    if let Some(table) = wanted.table.as_ref().filter(|table| !table.is_empty())
        && let Err(stop) = start(session, &task, wanted.access, table)
    {
        // What failed has been told; that there is nothing left of it is no news.
        let _ = session.dm.call(Command::DevRemove { id: task.id(), open: WhenOpen::Refuse });
        return Err(stop);
    }
    Ok(task)
}

fn start(session: &mut Session<'_, '_>, task: &Task, access: Access, table: &Source) -> Done {
    load_table(session, task, access, table)?;
    // Named alone, as dmsetup asks for it.
    let task = Task { dev: None, ..task.clone() };
    let command = Command::DevResume { id: task.id(), held: Held::Flush };
    session.call("resume", &task, command).map(drop)
}

fn set_node(session: &mut Session<'_, '_>, task: &Task) -> Done {
    let (mode, uid, gid) = (session.options.mode, session.options.uid, session.options.gid);
    if (mode, uid, gid) == (None, None, None) {
        return Ok(());
    }
    let node = Node { mode: mode.unwrap_or(Node::default().mode), uid, gid };
    session.call("create", task, Command::SetNode { id: task.id(), node }).map(drop)
}
