//! `mirror`, `check`, `fail`, `heal` and `wait --sync`: mirrors as one command each, where dmsetup
//! takes several in an order that matters.

mod add;
mod check;
mod drop;
mod fail;
mod leg;
mod line;
pub(crate) mod options;
mod swap;
#[cfg(test)]
mod tests;
mod wait;

use std::process::ExitCode;

use sim_core::control::{Report, Slot};
use sim_core::{KeyText, SECTOR_SIZE};

use crate::client::Client;
use crate::fault::{About, Fault};
use crate::instance::Instance;
use crate::machine::{Device, Machine, find, message, named, on_signals, report};
use crate::open::keep_out_of_core_dumps;

pub(crate) use check::check;
pub(crate) use fail::{fail, heal};
use line::{Behind, Line, Status};
use options::Change;
pub(crate) use wait::wait;

const MIRROR: &str = "mirror";

/// What the uuid of a device begins with that `mirror --add` has put under its mirror.
const MADE_BY_US: &str = "DMSIM-LEG-";

/// `dmsim mirror`.
pub(crate) fn change(instance: &Instance, options: &Change) -> Result<ExitCode, Fault> {
    // A table that moves may have keys in it.
    keep_out_of_core_dumps();
    let mut client = Client::connect(instance)?;
    let interrupted = on_signals()?;
    match (&options.add, &options.drop) {
        (Some(image), _) => {
            let plan = add::plan(&mut client, options, image)?;
            add::carry_out(&mut client, &plan, &interrupted)?;
        }
        (None, Some(leg)) => {
            let (device, _) = mirror(&mut client, &options.name)?;
            drop::carry_out(&mut client, device.name(), leg, &interrupted)?;
        }
        (None, None) => {
            let (device, _) = mirror(&mut client, &options.name)?;
            let rate = options.resync_rate.unwrap_or(0);
            set_rate(&mut client, device.name(), Slot::Live, rate)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Limits the resync to so many bytes a second; zero is no limit.
fn set_rate(machine: &mut dyn Machine, name: &str, slot: Slot, rate: u64) -> Result<(), Fault> {
    let sectors = rate.div_ceil(SECTOR_SIZE);
    message(machine, name, slot, &format!("resync_rate {sectors}")).map(drop)
}

/// Takes a device's name, or the path of the file that shows it.
fn name_of(machine: &mut dyn Machine, word: &str) -> Result<String, Fault> {
    let path = std::path::Path::new(word);
    let mapped = crate::open::mapped_word(machine.mount(), path).filter(|_| word.contains('/'));
    let name = mapped.as_deref().and_then(|word| word.strip_prefix(crate::open::MAPPER));
    Ok(name.unwrap_or(word).to_owned())
}

/// Finds a device whose table is a mirror.
fn mirror(machine: &mut dyn Machine, word: &str) -> Result<(Device, Line), Fault> {
    let name = name_of(machine, word)?;
    let device = find(machine, &name)?.ok_or_else(|| Fault::new(word, "no such device"))?;
    let line = device.only(MIRROR).and_then(Line::read);
    let line = line.ok_or_else(|| Fault::new(&name, "is no mirror"))?;
    Ok((device, line))
}

/// Asks how a mirror is; nothing where it is none any more.
fn status(machine: &mut dyn Machine, name: &str) -> Result<Option<Status>, Fault> {
    let (id, keys) = (named(name), KeyText::Zeros);
    let found = report(machine, id, Report::Status, Slot::Live, keys)?;
    let Some((_, lines)) = found else { return Ok(None) };
    match &lines[..] {
        [line] if line.target_type == MIRROR => {
            let status = Status::read(&line.params);
            status.ok_or_else(|| format!("unknown status `{}`", line.params)).about(name).map(Some)
        }
        _ => Ok(None),
    }
}

/// Asks in which regions each leg lacks what others have.
fn behind(machine: &mut dyn Machine, name: &str) -> Result<Behind, Fault> {
    let text = message(machine, name, Slot::Live, "behind")?.unwrap_or_default();
    Behind::read(&text).ok_or_else(|| Fault::new(name, format!("unknown answer `{text}`")))
}
