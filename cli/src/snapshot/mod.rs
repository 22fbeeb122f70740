//! `snapshot`, `merge`, `wait --merge`, `diff` and the store's `dump`: snapshots as one command
//! each, where dmsetup takes several in an order that matters.

mod cow;
mod diff;
mod dump;
mod finish;
mod machine;
mod merge;
pub(crate) mod options;
mod picture;
mod steps;
mod store;
mod take;
#[cfg(test)]
mod tests;
mod wait;

use sim_core::control::{Answer, Command, DevStatus, Failure, Id, Report, Slot, WhenOpen};
use sim_core::{Access, DevNumber, Errno, Held, KeyText, Sector, Sectors, TargetSpec};

use crate::client::unexpected;
use crate::fault::{About, Fault};
use crate::protocol::Outcome;

pub(crate) use diff::diff;
pub(crate) use dump::{dump, is_store};
use machine::Machine;
pub(crate) use merge::merge;
pub(crate) use take::take;
pub(crate) use wait::wait;

const SNAPSHOT: &str = "snapshot";
const ORIGIN: &str = "snapshot-origin";
const MERGE: &str = "snapshot-merge";

/// What the uuid of a device begins with that `snapshot` has put under its origin.
const MADE_BY_US: &str = "DMSIM-ORIGIN-";

/// A mapped device with its live table, keys left out.
struct Device {
    status: DevStatus,
    live: Vec<TargetSpec>,
}

impl Device {
    fn name(&self) -> &str {
        &self.status.name
    }

    /// Returns the only line of the live table, if it is of this type.
    fn only(&self, target_type: &str) -> Option<&TargetSpec> {
        match &self.live[..] {
            [line] if line.target_type == target_type => Some(line),
            _ => None,
        }
    }

    /// Returns the device below, where this one is the origin of snapshots.
    fn origin_of(&self) -> Option<DevNumber> {
        self.only(ORIGIN)?.params.trim().parse().ok()
    }

    fn snapshot(&self) -> Option<Line> {
        Line::read(self.only(SNAPSHOT)?)
    }

    fn merge(&self) -> Option<Line> {
        Line::read(self.only(MERGE)?)
    }

    fn size(&self) -> Sectors {
        self.live.iter().fold(Sectors::ZERO, |size, line| size + line.len)
    }

    fn refuse_suspended(&self) -> Result<(), Fault> {
        if self.status.suspended {
            let name = self.name();
            return Err(Fault::new(name, format!("is suspended: `dmsim resume {name}` first")));
        }
        Ok(())
    }
}

/// The words of a line of `snapshot` or `snapshot-merge`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    origin: DevNumber,
    cow: DevNumber,
    /// `P`, `PO` or `N`.
    mode: String,
    chunk: Sectors,
    /// What follows: features, with their number.
    rest: String,
}

impl Line {
    fn read(line: &TargetSpec) -> Option<Line> {
        let mut words = line.params.split_whitespace();
        Some(Line {
            origin: words.next()?.parse().ok()?,
            cow: words.next()?.parse().ok()?,
            mode: words.next()?.to_owned(),
            chunk: Sectors(words.next()?.parse().ok()?),
            rest: words.map(|word| format!(" {word}")).collect(),
        })
    }

    fn is_transient(&self) -> bool {
        self.mode.starts_with('N')
    }

    /// Writes the words; `cow` is what the line calls the store's device.
    fn params(&self, cow: &str) -> String {
        format!("{} {cow} {} {}{}", self.origin, self.mode, self.chunk, self.rest)
    }
}

/// Makes a table of one line.
fn one(len: Sectors, target_type: &str, params: &str) -> Vec<TargetSpec> {
    let target_type = target_type.to_owned();
    vec![TargetSpec { start: Sector::ZERO, len, target_type, params: params.into() }]
}

fn named(name: &str) -> Id {
    Id::Name(name.to_owned())
}

/// Carries out an operation on a device.
fn act(machine: &mut dyn Machine, name: &str, command: Command) -> Result<Answer, Fault> {
    machine.control(command)?.map_err(|failure| because(name, &failure))
}

fn because(name: &str, failure: &Failure) -> Fault {
    match failure.errno {
        Errno::NXIO if failure.table.is_none() && failure.why.is_none() => {
            Fault::new(name, "no such device")
        }
        _ => Fault::new(name, failure),
    }
}

fn suspend(machine: &mut dyn Machine, name: &str) -> Result<(), Fault> {
    let command = Command::DevSuspend { id: named(name), held: Held::Flush };
    act(machine, name, command).map(drop)
}

fn resume(machine: &mut dyn Machine, name: &str) -> Result<(), Fault> {
    let command = Command::DevResume { id: named(name), held: Held::Flush };
    act(machine, name, command).map(drop)
}

fn load(
    machine: &mut dyn Machine,
    name: &str,
    access: Access,
    targets: Vec<TargetSpec>,
) -> Result<(), Fault> {
    let base = "/".to_owned();
    act(machine, name, Command::TableLoad { id: named(name), access, targets, base }).map(drop)
}

fn clear(machine: &mut dyn Machine, name: &str) -> Result<(), Fault> {
    act(machine, name, Command::TableClear { id: named(name) }).map(drop)
}

/// Removes a device; says who has it open if that is why it cannot be.
fn remove(machine: &mut dyn Machine, name: &str) -> Result<(), Fault> {
    let command = Command::DevRemove { id: named(name), open: WhenOpen::Refuse };
    match machine.control(command)? {
        Ok(_) => Ok(()),
        Err(failure) if failure.errno == Errno::BUSY => Err(in_use(machine, name)?),
        Err(failure) => Err(because(name, &failure)),
    }
}

/// Says who has a device open: programs, and tables of other devices.
fn in_use(machine: &mut dyn Machine, name: &str) -> Result<Fault, Fault> {
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
fn above(machine: &mut dyn Machine, below: DevNumber) -> Result<Vec<String>, Fault> {
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

fn list(machine: &mut dyn Machine) -> Result<Vec<String>, Fault> {
    match machine.control(Command::ListDevices)? {
        Ok(Answer::Devices(devices)) => Ok(devices.into_iter().map(|device| device.name).collect()),
        other => Err(unexpected(Outcome::Control(other))),
    }
}

/// Asks for a device and one of its texts; nothing where there is no such device.
fn report(
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
fn find(machine: &mut dyn Machine, name: &str) -> Result<Option<Device>, Fault> {
    by_id(machine, named(name))
}

fn by_id(machine: &mut dyn Machine, id: Id) -> Result<Option<Device>, Fault> {
    let found = report(machine, id, Report::Table, Slot::Live, KeyText::Zeros)?;
    Ok(found.map(|(status, live)| Device { status, live }))
}

/// Returns every mapped device.
fn devices(machine: &mut dyn Machine) -> Result<Vec<Device>, Fault> {
    let mut devices = Vec::new();
    for name in list(machine)? {
        devices.extend(find(machine, &name)?);
    }
    Ok(devices)
}

/// What the status line of a snapshot or of a merge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In sectors.
    Good {
        allocated: u64,
        metadata: u64,
    },
    Invalid,
    Overflow,
    MergeFailed,
}

impl State {
    fn read(text: &str) -> Option<State> {
        match text.trim() {
            "Invalid" => return Some(State::Invalid),
            "Overflow" => return Some(State::Overflow),
            "Merge failed" => return Some(State::MergeFailed),
            _ => {}
        }
        let (allocated, rest) = text.trim().split_once('/')?;
        let (_, metadata) = rest.split_once(' ')?;
        Some(State::Good { allocated: allocated.parse().ok()?, metadata: metadata.parse().ok()? })
    }
}

/// Returns the status of a device whose table is one line of this type; nothing where it is not,
/// or there is no such device.
fn state(machine: &mut dyn Machine, name: &str, of: &str) -> Result<Option<State>, Fault> {
    let keys = KeyText::Zeros;
    let Some((_, lines)) = report(machine, named(name), Report::Status, Slot::Live, keys)? else {
        return Ok(None);
    };
    match &lines[..] {
        [line] if line.target_type == of => {
            let state = State::read(&line.params);
            let known = state.ok_or_else(|| format!("unknown status `{}`", line.params));
            known.about(name).map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod text_tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_each_of_its_forms() {
        for (text, state) in [
            ("2424/4096 24", Some(State::Good { allocated: 2424, metadata: 24 })),
            ("Invalid", Some(State::Invalid)),
            ("Overflow", Some(State::Overflow)),
            ("Merge failed", Some(State::MergeFailed)),
            ("Unknown", None),
            ("1/2", None),
        ] {
            assert_eq!(State::read(text), state, "{text}");
        }
    }

    #[test]
    fn a_line_is_read_and_written() {
        let words = "253:1 7:0 PO 8 2 discard_zeroes_cow discard_passdown_origin";
        let line = &one(Sectors(64), SNAPSHOT, words)[0];
        let read = Line::read(line).expect("a line");
        assert_eq!(read.params("7:0"), words);
        assert!(!read.is_transient());
        assert!(Line::read(&one(Sectors(64), SNAPSHOT, "253:1 7:0 PO")[0]).is_none());
    }
}
