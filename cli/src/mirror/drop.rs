//! `dmsim mirror --drop`: takes a leg out of a mirror in use; the device of the last leg gets its
//! own table back.

use std::sync::atomic::AtomicBool;

use sim_core::control::{Id, Report, Slot};
use sim_core::{KeyText, TargetSpec};

use super::add::{access, refuse_unready};
use super::leg;
use super::line::{Leg, Line};
use super::swap::{Before, put, remove_below, reset_log};
use super::{MADE_BY_US, MIRROR, behind, mirror, status};
use crate::fault::Fault;
use crate::machine::{
    Device, Machine, above, by_id, go_on, named, one, path_of, refuse_suspended_below, report,
    resume, suspend, suspend_held,
};

/// Drops the leg, or leaves everything as it was.
pub(super) fn carry_out(
    machine: &mut dyn Machine,
    name: &str,
    word: &str,
    interrupted: &AtomicBool,
) -> Result<(), Fault> {
    let (device, line) = mirror(machine, name)?;
    device.refuse_suspended()?;
    refuse_unready(&device)?;
    refuse_suspended_below(machine, &device)?;
    let leg = leg::leg(machine, name, &line, word)?;
    go_on(name, interrupted)?;
    let (table, access) = (device.live.clone(), access(&device));
    let mut before = Before { name: name.to_owned(), access, table, below: None, log: None };
    let mut new = Vec::new();
    match forward(machine, &device, &line, leg, &mut before, &mut new, interrupted) {
        Ok(()) => {}
        Err(fault) => {
            let mut back = Ok(());
            if let Some(below) = &before.below {
                back = resume(machine, below);
            }
            let undone = back.and(before.bring_back(machine, &new));
            let end = format_args!("no leg was dropped, and `{name}` is as it was");
            return Err(fault.undone(undone, end));
        }
    }
    match before.below {
        Some(below) => remove_below(machine, &below).map_err(|fault| {
            let why = format!("`{name}` has its own table again, and `{below}` stays: {fault}");
            Fault::new(name, why)
        }),
        None => Ok(()),
    }
}

/// Puts the new table in.
fn forward(
    machine: &mut dyn Machine,
    device: &Device,
    line: &Line,
    leg: usize,
    before: &mut Before,
    new: &mut Vec<TargetSpec>,
    interrupted: &AtomicBool,
) -> Result<(), Fault> {
    let name = device.name();
    suspend_held(machine, name)?;
    let known = behind(machine, name)?;
    let legs = 0..line.legs.len();
    let heir = legs.clone().find(|other| *other != leg && known.has_all(*other));
    let Some(heir) = heir else {
        let word = &line.legs[leg].word;
        let why = match known.has_all(leg) {
            true => format!("`{word}` is its only leg that has all of the data"),
            false => "no leg has all of the data".to_owned(),
        };
        let hint = format!("`dmsim wait --sync {name}`, or `dmsim heal {name}`, first");
        return Err(Fault::new(name, format!("{why}: {hint}")));
    };
    // The first leg is what the others are made like.
    let others = legs.filter(|other| *other != leg && *other != heir);
    let left: Vec<Leg> =
        std::iter::once(heir).chain(others).map(|leg| line.legs[leg].clone()).collect();
    *new = match &left[..] {
        [last] => {
            let below = below(machine, name, last)?;
            before.below = below.clone();
            match below {
                Some(below) => own_table(machine, &below)?,
                None => one(device.size(), "linear", &format!("{} {}", last.word, last.start)),
            }
        }
        _ => {
            if let Some(log) = line.log_dev()
                && !status(machine, name)?.is_some_and(|status| status.log_is_good())
            {
                // It may count regions in sync that are not.
                let path = path_of(machine, log)?;
                before.log = Some((path.clone(), reset_log(&path)?));
            }
            let line = Line { legs: left, sync: None, ..line.clone() };
            one(device.size(), MIRROR, &line.params())
        }
    };
    go_on(name, interrupted)?;
    if let Some(below) = &before.below {
        // Two tables on the same devices are never in use at once.
        suspend(machine, below)?;
    }
    put(machine, name, before.access, new, None)
}

/// Returns the device of a leg, if it was made for the mirror, and nobody else uses it.
fn below(machine: &mut dyn Machine, name: &str, leg: &Leg) -> Result<Option<String>, Fault> {
    let Some(dev) = leg.dev() else { return Ok(None) };
    let Some(below) = by_id(machine, Id::Dev(dev))? else { return Ok(None) };
    let made = below.status.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(MADE_BY_US));
    // Its one table, and somebody besides who has the file open.
    let open = below.status.open_count > 1;
    let unneeded = made && !open && above(machine, dev)? == [name];
    Ok(unneeded.then(|| below.name().to_owned()))
}

fn own_table(machine: &mut dyn Machine, below: &str) -> Result<Vec<TargetSpec>, Fault> {
    let table = report(machine, named(below), Report::Table, Slot::Live, KeyText::Plain)?;
    Ok(table.ok_or_else(|| Fault::new(below, "no such device"))?.1)
}
