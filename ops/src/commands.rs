//! The single operations that workflows are put together from.

use std::time::{Duration, Instant};

use daemon::Fault;
use daemon::client::unexpected;
use daemon::protocol::Outcome;
use sim_core::control::{Answer, Command, DevStatus, Failure, Slot, WhenOpen};
use sim_core::{Access, DevNumber, Errno, Fails, Held, Sector, Sectors, TargetSpec};

use crate::device_mapper::DeviceMapper;
use crate::devices::{behind, in_use, named, overlap_text};
use crate::watch::PERIOD;

/// How long libdevmapper tries, as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Makes a table of one line.
pub(crate) fn one(len: Sectors, target_type: &str, params: &str) -> Vec<TargetSpec> {
    let target_type = target_type.to_owned();
    vec![TargetSpec { start: Sector::ZERO, len, target_type, params: params.into() }]
}

/// Carries out an operation on a device.
pub(crate) fn act(
    dm: &mut dyn DeviceMapper,
    name: &str,
    command: Command,
) -> Result<Answer, Fault> {
    dm.control(command)?.map_err(|failure| because(name, &failure))
}

pub(crate) fn because(name: &str, failure: &Failure) -> Fault {
    match failure.errno {
        Errno::NXIO if failure.table.is_none() && failure.why.is_none() => {
            Fault::new(name, "no such device")
        }
        _ => Fault::new(name, failure),
    }
}

pub(crate) fn suspend(dm: &mut dyn DeviceMapper, name: &str) -> Result<(), Fault> {
    let command = Command::DevSuspend { id: named(name), held: Held::Flush };
    act(dm, name, command).map(drop)
}

/// Suspends a device so that what its targets hold comes to the table that is there at the resume.
pub(crate) fn suspend_held(dm: &mut dyn DeviceMapper, name: &str) -> Result<(), Fault> {
    let command = Command::DevSuspend { id: named(name), held: Held::NoFlush };
    act(dm, name, command).map(drop)
}

/// Asks the only target of a device's table.
pub(crate) fn message(
    dm: &mut dyn DeviceMapper,
    name: &str,
    slot: Slot,
    text: &str,
) -> Result<Option<String>, Fault> {
    let (id, sector, message) = (named(name), Sector::ZERO, text.into());
    match act(dm, name, Command::TargetMsg { id, sector, message, slot })? {
        Answer::Text(text) => Ok(text),
        other => Err(unexpected(Outcome::Control(Ok(other)))),
    }
}

/// Makes what is below a device fail for it on purpose, or no more.
pub(crate) fn set_fails(
    dm: &mut dyn DeviceMapper,
    name: &str,
    below: DevNumber,
    fails: Fails,
) -> Result<(), Fault> {
    act(dm, name, Command::SetFails { id: named(name), below, fails }).map(drop)
}

pub(crate) fn resume(dm: &mut dyn DeviceMapper, name: &str) -> Result<(), Fault> {
    let command = Command::DevResume { id: named(name), held: Held::Flush };
    let answer = act(dm, name, command)?;
    if let Answer::Status(DevStatus { overlap: Some(overlap), .. }) = answer {
        let below = behind(dm, &overlap.below_name);
        dm.advise(&overlap_text(name, &overlap, below));
    }
    Ok(())
}

/// As [`resume`], of a device that shares for a while what another one writes to, which is suspended or
/// goes then.
pub(crate) fn resume_beside(dm: &mut dyn DeviceMapper, name: &str) -> Result<(), Fault> {
    let command = Command::DevResume { id: named(name), held: Held::Flush };
    act(dm, name, command).map(drop)
}

pub(crate) fn load(
    dm: &mut dyn DeviceMapper,
    name: &str,
    access: Access,
    targets: Vec<TargetSpec>,
) -> Result<(), Fault> {
    let base = "/".to_owned();
    act(dm, name, Command::TableLoad { id: named(name), access, targets, base }).map(drop)
}

pub(crate) fn clear(dm: &mut dyn DeviceMapper, name: &str) -> Result<(), Fault> {
    act(dm, name, Command::TableClear { id: named(name) }).map(drop)
}

/// Removes a device; says who has it open if that is why it cannot be.
pub(crate) fn remove(dm: &mut dyn DeviceMapper, name: &str) -> Result<(), Fault> {
    remove_when(dm, name, WhenOpen::Refuse)
}

/// As [`remove`], or when nobody has it open any more.
pub(crate) fn remove_when(
    dm: &mut dyn DeviceMapper,
    name: &str,
    open: WhenOpen,
) -> Result<(), Fault> {
    remove_within(dm, name, open, Duration::ZERO)
}

/// As [`remove_when`], tried for a while: programs that look at every disk of a machine have it open for a moment
/// now and then, for which libdevmapper has `--retry`.
pub(crate) fn remove_patiently(
    dm: &mut dyn DeviceMapper,
    name: &str,
    open: WhenOpen,
) -> Result<(), Fault> {
    remove_within(dm, name, open, PATIENCE)
}

fn remove_within(
    dm: &mut dyn DeviceMapper,
    name: &str,
    open: WhenOpen,
    patience: Duration,
) -> Result<(), Fault> {
    let deadline = Instant::now() + patience;
    loop {
        match dm.control(Command::DevRemove { id: named(name), open })? {
            Ok(_) => return Ok(()),
            Err(failure) if failure.errno == Errno::BUSY && Instant::now() < deadline => {
                std::thread::sleep(PERIOD);
            }
            Err(failure) if failure.errno == Errno::BUSY => return Err(in_use(dm, name)?),
            Err(failure) => return Err(because(name, &failure)),
        }
    }
}

/// Makes a text that no other device's uuid ends with.
pub(crate) fn unlike_any_other(dev: DevNumber) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_nanos());
    format!("{}-{now:x}-{:x}", dev.minor, std::process::id())
}

pub(crate) fn create(
    dm: &mut dyn DeviceMapper,
    name: &str,
    uuid: Option<String>,
) -> Result<(), Fault> {
    let command = Command::DevCreate { name: name.to_owned(), uuid, minor: None };
    act(dm, name, command).map(drop)
}
