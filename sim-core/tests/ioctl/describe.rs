//! Commands in words.

use sim_core::Held;
use sim_core::control::{Command, Id, NewName, Slot, WhenOpen};

/// Says what a command is, on one line.
pub(crate) fn describe(command: &Command) -> String {
    match command {
        Command::Version => "version".to_owned(),
        Command::RemoveAll { open } => format!("remove_all{}", when(*open)),
        Command::ListDevices => "list".to_owned(),
        Command::DevCreate { name, uuid, minor } => {
            let uuid = uuid.as_ref().map(|uuid| format!(" uuid={uuid}")).unwrap_or_default();
            let minor = minor.map(|minor| format!(" minor={minor}")).unwrap_or_default();
            format!("create {name}{uuid}{minor}")
        }
        Command::DevRemove { id, open } => format!("remove {}{}", id_of(id), when(*open)),
        Command::DevRename { id, new: NewName::Name(name) } => {
            format!("rename {} to {name}", id_of(id))
        }
        Command::DevRename { id, new: NewName::Uuid(uuid) } => {
            format!("rename {} to uuid={uuid}", id_of(id))
        }
        Command::DevSuspend { id, held } => format!("suspend {}{}", id_of(id), flush(*held)),
        Command::DevResume { id, held } => format!("resume {}{}", id_of(id), flush(*held)),
        Command::DevStatus { id, slot } => format!("info {}{}", id_of(id), of(*slot)),
        Command::DevWait { id, event_nr } => format!("wait {} event={event_nr}", id_of(id)),
        Command::TableLoad { id, access, targets, base } => {
            let lines: Vec<String> = targets.iter().map(|target| format!("{target}")).collect();
            format!("load {} {access:?} {base} {}", id_of(id), lines.join(" | "))
        }
        Command::TableClear { id } => format!("clear {}", id_of(id)),
        Command::TableDeps { id, slot } => format!("deps {}{}", id_of(id), of(*slot)),
        Command::TableStatus { id, report, slot, device_names, keys } => {
            let (id, of) = (id_of(id), of(*slot));
            format!("status {id}{of} {report:?} {keys:?} names={device_names}")
        }
        Command::ListVersions => "versions".to_owned(),
        Command::TargetMsg { id, sector, message, slot } => {
            format!("message {}{} {sector} {}", id_of(id), of(*slot), &**message)
        }
        Command::SetGeometry { id, geometry } => format!("geometry {} {geometry}", id_of(id)),
        Command::ArmPoll => "arm_poll".to_owned(),
        Command::GetTargetVersion { name } => format!("version of {name}"),
        Command::SetReadAhead { .. }
        | Command::SetFails { .. }
        | Command::SetFaults { .. }
        | Command::Faults { .. }
        | Command::Locate { .. }
        | Command::Shows { .. }
        | Command::SetNode { .. } => {
            panic!("{command:?} is no ioctl")
        }
    }
}

fn id_of(id: &Id) -> String {
    match id {
        Id::Name(name) => name.clone(),
        Id::Uuid(uuid) => format!("uuid={uuid}"),
        Id::Dev(dev) => format!("dev={dev}"),
    }
}

fn when(open: WhenOpen) -> &'static str {
    match open {
        WhenOpen::Refuse => "",
        WhenOpen::Defer => " deferred",
    }
}

fn flush(held: Held) -> &'static str {
    match held {
        Held::Flush => "",
        Held::NoFlush => " noflush",
    }
}

fn of(slot: Slot) -> &'static str {
    match slot {
        Slot::Live => "",
        Slot::Inactive => " inactive",
    }
}
