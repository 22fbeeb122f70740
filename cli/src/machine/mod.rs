//! What verbs that change stacks in use need of an instance: the daemon, or a control plane in a
//! test. And the operations that they are put together from.

#[cfg(test)]
pub(crate) mod bench;
mod place;
mod progress;

use std::path::Path;

use backing::Attached;
use sim_core::control::{Answer, Command, DevStatus, Failure, Id, Report, Slot, WhenOpen};
use sim_core::{Access, DevNumber, Errno, Held, KeyText, Sector, Sectors, TargetSpec};

use crate::client::{Client, unexpected};
use crate::describe::Description;
use crate::fault::Fault;
use crate::protocol::{Outcome, Request, User};

pub(crate) use place::{first_byte, fresh, path_of, place, refuse_used};
pub(crate) use progress::{Bar, INTERRUPTED, Progress, go_on, on_signals, until_done};

/// An instance.
pub(crate) trait Machine {
    /// Carries out one operation of the control plane.
    fn control(&mut self, command: Command) -> Result<Result<Answer, Failure>, Fault>;

    /// Lists the attached images.
    fn images(&mut self) -> Result<Vec<Attached>, Fault>;

    /// Describes every mapped device.
    fn describe(&mut self) -> Result<Vec<Description>, Fault>;

    /// Lists who has devices' files open.
    fn users(&mut self) -> Result<Vec<User>, Fault>;

    /// Returns the folder in which devices are shown.
    fn mount(&self) -> &Path;
}

impl Machine for Client {
    fn control(&mut self, command: Command) -> Result<Result<Answer, Failure>, Fault> {
        Client::control(self, command)
    }

    fn images(&mut self) -> Result<Vec<Attached>, Fault> {
        match self.ask(&Request::Images)? {
            Outcome::Images(images) => Ok(images),
            other => Err(unexpected(other)),
        }
    }

    fn describe(&mut self) -> Result<Vec<Description>, Fault> {
        match self.ask(&Request::Describe(None))? {
            Outcome::Described(devices) => Ok(devices),
            other => Err(unexpected(other)),
        }
    }

    fn users(&mut self) -> Result<Vec<User>, Fault> {
        match self.ask(&Request::Users)? {
            Outcome::Users(users) => Ok(users),
            other => Err(unexpected(other)),
        }
    }

    fn mount(&self) -> &Path {
        &self.welcome.mount
    }
}

/// A mapped device with its live table, keys left out.
pub(crate) struct Device {
    pub(crate) status: DevStatus,
    pub(crate) live: Vec<TargetSpec>,
}

impl Device {
    pub(crate) fn name(&self) -> &str {
        &self.status.name
    }

    /// Returns the only line of the live table, if it is of this type.
    pub(crate) fn only(&self, target_type: &str) -> Option<&TargetSpec> {
        match &self.live[..] {
            [line] if line.target_type == target_type => Some(line),
            _ => None,
        }
    }

    pub(crate) fn size(&self) -> Sectors {
        self.live.iter().fold(Sectors::ZERO, |size, line| size + line.len)
    }

    pub(crate) fn refuse_suspended(&self) -> Result<(), Fault> {
        if self.status.suspended {
            let name = self.name();
            return Err(Fault::new(name, format!("is suspended: `dmsim resume {name}` first")));
        }
        Ok(())
    }
}

/// Makes a table of one line.
pub(crate) fn one(len: Sectors, target_type: &str, params: &str) -> Vec<TargetSpec> {
    let target_type = target_type.to_owned();
    vec![TargetSpec { start: Sector::ZERO, len, target_type, params: params.into() }]
}

pub(crate) fn named(name: &str) -> Id {
    Id::Name(name.to_owned())
}

/// Carries out an operation on a device.
pub(crate) fn act(
    machine: &mut dyn Machine,
    name: &str,
    command: Command,
) -> Result<Answer, Fault> {
    machine.control(command)?.map_err(|failure| because(name, &failure))
}

pub(crate) fn because(name: &str, failure: &Failure) -> Fault {
    match failure.errno {
        Errno::NXIO if failure.table.is_none() && failure.why.is_none() => {
            Fault::new(name, "no such device")
        }
        _ => Fault::new(name, failure),
    }
}

pub(crate) fn suspend(machine: &mut dyn Machine, name: &str) -> Result<(), Fault> {
    let command = Command::DevSuspend { id: named(name), held: Held::Flush };
    act(machine, name, command).map(drop)
}

/// Suspends a device so that what its targets hold comes to the table that is there at the resume.
pub(crate) fn suspend_held(machine: &mut dyn Machine, name: &str) -> Result<(), Fault> {
    let command = Command::DevSuspend { id: named(name), held: Held::NoFlush };
    act(machine, name, command).map(drop)
}

/// Asks the only target of a device's table.
pub(crate) fn message(
    machine: &mut dyn Machine,
    name: &str,
    slot: Slot,
    text: &str,
) -> Result<Option<String>, Fault> {
    let (id, sector, message) = (named(name), Sector::ZERO, text.into());
    match act(machine, name, Command::TargetMsg { id, sector, message, slot })? {
        Answer::Text(text) => Ok(text),
        other => Err(unexpected(Outcome::Control(Ok(other)))),
    }
}

pub(crate) fn resume(machine: &mut dyn Machine, name: &str) -> Result<(), Fault> {
    let command = Command::DevResume { id: named(name), held: Held::Flush };
    act(machine, name, command).map(drop)
}

pub(crate) fn load(
    machine: &mut dyn Machine,
    name: &str,
    access: Access,
    targets: Vec<TargetSpec>,
) -> Result<(), Fault> {
    let base = "/".to_owned();
    act(machine, name, Command::TableLoad { id: named(name), access, targets, base }).map(drop)
}

pub(crate) fn clear(machine: &mut dyn Machine, name: &str) -> Result<(), Fault> {
    act(machine, name, Command::TableClear { id: named(name) }).map(drop)
}

/// Removes a device; says who has it open if that is why it cannot be.
pub(crate) fn remove(machine: &mut dyn Machine, name: &str) -> Result<(), Fault> {
    let command = Command::DevRemove { id: named(name), open: WhenOpen::Refuse };
    match machine.control(command)? {
        Ok(_) => Ok(()),
        Err(failure) if failure.errno == Errno::BUSY => Err(in_use(machine, name)?),
        Err(failure) => Err(because(name, &failure)),
    }
}

/// Says who has a device open: programs, and tables of other devices.
pub(crate) fn in_use(machine: &mut dyn Machine, name: &str) -> Result<Fault, Fault> {
    let users = machine.users()?;
    let users = users.iter().filter(|user| user.device == name);
    let mut who: Vec<String> =
        users.map(|user| format!("{} (pid {})", user.program, user.pid)).collect();
    if let Some(device) = find(machine, name)? {
        let above = above(machine, device.status.dev)?;
        who.extend(above.iter().map(|above| format!("the table of `{above}`")));
    }
    let by = if who.is_empty() { String::new() } else { format!(" by {}", who.join(", ")) };
    Ok(Fault::new(name, format!("is in use{by}")))
}

/// Lists the devices with a table that maps onto one.
pub(crate) fn above(machine: &mut dyn Machine, below: DevNumber) -> Result<Vec<String>, Fault> {
    let mut above = Vec::new();
    for device in list(machine)? {
        for slot in [Slot::Live, Slot::Inactive] {
            let deps = Command::TableDeps { id: named(&device), slot };
            // One that is removed meanwhile maps onto nothing.
            let deps = machine.control(deps)?;
            let maps = matches!(deps, Ok(Answer::Deps(deps)) if deps.contains(&below));
            if maps && !above.contains(&device) {
                above.push(device.clone());
            }
        }
    }
    Ok(above)
}

pub(crate) fn list(machine: &mut dyn Machine) -> Result<Vec<String>, Fault> {
    match machine.control(Command::ListDevices)? {
        Ok(Answer::Devices(devices)) => Ok(devices.into_iter().map(|device| device.name).collect()),
        other => Err(unexpected(Outcome::Control(other))),
    }
}

/// Asks for a device and one of its texts; nothing where there is no such device.
pub(crate) fn report(
    machine: &mut dyn Machine,
    id: Id,
    report: Report,
    slot: Slot,
    keys: KeyText,
) -> Result<Option<(DevStatus, Vec<TargetSpec>)>, Fault> {
    let command = Command::TableStatus { id, report, slot, device_names: false, keys };
    match machine.control(command)? {
        Ok(Answer::Table(status, lines)) => Ok(Some((status, lines))),
        Err(failure) if failure.errno == Errno::NXIO && failure.why.is_none() => Ok(None),
        other => Err(unexpected(Outcome::Control(other))),
    }
}

/// Finds a device by its name.
pub(crate) fn find(machine: &mut dyn Machine, name: &str) -> Result<Option<Device>, Fault> {
    by_id(machine, named(name))
}

pub(crate) fn by_id(machine: &mut dyn Machine, id: Id) -> Result<Option<Device>, Fault> {
    let found = report(machine, id, Report::Table, Slot::Live, KeyText::Zeros)?;
    Ok(found.map(|(status, live)| Device { status, live }))
}

/// Returns every mapped device.
pub(crate) fn devices(machine: &mut dyn Machine) -> Result<Vec<Device>, Fault> {
    let mut devices = Vec::new();
    for name in list(machine)? {
        devices.extend(find(machine, &name)?);
    }
    Ok(devices)
}

/// Makes a text that no other device's uuid ends with.
pub(crate) fn unlike_any_other(dev: DevNumber) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_nanos());
    format!("{}-{now:x}-{:x}", dev.minor, std::process::id())
}

pub(crate) fn create(
    machine: &mut dyn Machine,
    name: &str,
    uuid: Option<String>,
) -> Result<(), Fault> {
    let command = Command::DevCreate { name: name.to_owned(), uuid, minor: None };
    act(machine, name, command).map(drop)
}

/// The suspension waits for I/O, which would wait for a suspended device below.
pub(crate) fn refuse_suspended_below(
    machine: &mut dyn Machine,
    device: &Device,
) -> Result<(), Fault> {
    let mut next = vec![device.status.dev];
    while let Some(dev) = next.pop() {
        let status = Command::DevStatus { id: Id::Dev(dev), slot: Slot::Live };
        // What is no mapped device cannot be suspended.
        let Ok(Answer::Status(status)) = machine.control(status)? else { continue };
        if status.suspended {
            let below = status.name;
            let why = format!("`{below}` below it is suspended: `dmsim resume {below}` first");
            return Err(Fault::new(device.name(), why));
        }
        let deps = Command::TableDeps { id: Id::Dev(dev), slot: Slot::Live };
        if let Ok(Answer::Deps(deps)) = machine.control(deps)? {
            next.extend(deps);
        }
    }
    Ok(())
}
