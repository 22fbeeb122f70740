//! `dmsim mirror --drop`: takes a leg out of a mirror in use; the device of the last leg gets its
//! own table back.

use daemon::{Fault, keep_out_of_core_dumps};
use sim_core::control::{Id, Report, Slot};
use sim_core::{KeyText, TargetSpec};
use targets::lines::mirror::{InitialSync, Log};
use targets::lines::{self, DeviceWord, Place};

use super::leg;
use super::state::{Line, MADE_BY_US, MIRROR, behind, log_dev, mirror, status};
use super::swap::{Before, put, remove_below, reset_log};
use crate::commands::{one, resume, suspend, suspend_held};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, above, by_id, named, refuse_suspended_below, report};
use crate::files::path_of;
use crate::watch::{Watch, go_on};

/// Drops a leg of a mirror, or leaves everything as it was.
///
/// # Errors
/// Where no other leg has all of the data, a step fails, or `watch` interrupts it.
pub fn drop_leg(
    dm: &mut dyn DeviceMapper,
    mirror_name: &str,
    word: &str,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    // A table that moves may have keys in it.
    keep_out_of_core_dumps();
    let (device, line) = mirror(dm, mirror_name)?;
    let name = device.name();
    device.refuse_suspended()?;
    device.refuse_unready()?;
    refuse_suspended_below(dm, &device)?;
    let leg = leg::leg(dm, name, &line, word)?;
    go_on(name, watch)?;
    let (table, access) = (device.live.clone(), device.access());
    let mut before = Before { name: name.to_owned(), access, table, below: None, log: None };
    let mut new = Vec::new();
    match forward(dm, &device, &line, leg, &mut before, &mut new, watch) {
        Ok(()) => {}
        Err(fault) => {
            let mut back = Ok(());
            if let Some(below) = &before.below {
                back = resume(dm, below);
            }
            let undone = back.and(before.bring_back(dm, &new));
            let end = format_args!("no leg was dropped, and `{name}` is as it was");
            return Err(fault.undone(undone, end));
        }
    }
    match before.below {
        Some(below) => remove_below(dm, &below).map_err(|fault| {
            let why = format!("`{name}` has its own table again, and `{below}` stays: {fault}");
            Fault::new(name, why)
        }),
        None => Ok(()),
    }
}

/// Puts the new table in.
fn forward(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    line: &Line,
    leg: usize,
    before: &mut Before,
    new: &mut Vec<TargetSpec>,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let name = device.name();
    suspend_held(dm, name)?;
    let known = behind(dm, name)?;
    let legs = 0..line.legs.len();
    let heir = legs.clone().find(|other| *other != leg && known.has_all(*other));
    let Some(heir) = heir else {
        let word = &line.legs[leg].device;
        let why = match known.has_all(leg) {
            true => format!("`{word}` is its only leg that has all of the data"),
            false => "no leg has all of the data".to_owned(),
        };
        let hint = format!("`dmsim wait --sync {name}`, or `dmsim heal {name}`, first");
        return Err(Fault::new(name, format!("{why}: {hint}")));
    };
    // The first leg is what the others are made like.
    let others = legs.filter(|other| *other != leg && *other != heir);
    let left: Vec<Place<DeviceWord>> =
        std::iter::once(heir).chain(others).map(|leg| line.legs[leg].clone()).collect();
    *new = match &left[..] {
        [last] => {
            let below = below(dm, name, last)?;
            before.below = below.clone();
            match below {
                Some(below) => own_table(dm, &below)?,
                None => {
                    let line = lines::linear::Line { place: last.clone() };
                    one(device.size(), "linear", &line.to_string())
                }
            }
        }
        _ => {
            if let Some(log) = log_dev(line)
                && !status(dm, name)?.is_some_and(|status| status.log_is_good())
            {
                // It may count regions in sync that are not.
                let path = path_of(dm, log)?;
                before.log = Some((path.clone(), reset_log(&path)?));
            }
            let log = Log { sync: InitialSync::AsLogged, ..line.log.clone() };
            let line = Line { log, legs: left, features: line.features };
            one(device.size(), MIRROR, &line.to_string())
        }
    };
    go_on(name, watch)?;
    if let Some(below) = &before.below {
        // Two tables on the same devices are never in use at once.
        suspend(dm, below)?;
    }
    put(dm, name, before.access, new, None)
}

/// Returns the device of a leg, if it was made for the mirror, and nobody else uses it.
fn below(
    dm: &mut dyn DeviceMapper,
    name: &str,
    leg: &Place<DeviceWord>,
) -> Result<Option<String>, Fault> {
    let Some(dev) = leg.device.number() else { return Ok(None) };
    let Some(below) = by_id(dm, Id::Dev(dev))? else { return Ok(None) };
    let made = below.status.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(MADE_BY_US));
    // Its one table, and somebody besides who has the file open.
    let open = below.status.open_count > 1;
    let unneeded = made && !open && above(dm, dev)? == [name];
    Ok(unneeded.then(|| below.name().to_owned()))
}

fn own_table(dm: &mut dyn DeviceMapper, below: &str) -> Result<Vec<TargetSpec>, Fault> {
    let table = report(dm, named(below), Report::Table, Slot::Live, KeyText::Plain)?;
    Ok(table.ok_or_else(|| Fault::new(below, "no such device"))?.1)
}
