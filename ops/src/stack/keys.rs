//! Keys that a file leaves out.

use std::path::PathBuf;

use daemon::Fault;
use daemon::mangle;
use daemon::protocol::{Filled, Keyless, KeylessStack};
use sim_core::control::Slot;
use sim_core::{DevNumber, TargetSpec};

use super::names::Names;
use super::words::{CRYPT_DEVICE, joined, lacks_key, unescaped, with_key_of};
use super::{Device, Stack, Table, at};
use crate::device_mapper::DeviceMapper;

/// Gives tables their keys; leaves out those for which there is none.
pub(super) type Holder<'a> = dyn FnMut(&KeylessStack) -> Vec<Filled> + 'a;

/// Returns a device's tables with their keys.
///
/// # Errors
/// Where there is no key to be had.
pub(super) fn complete(
    dm: &mut dyn DeviceMapper,
    stack: &Stack,
    device: &Device,
    holder: &mut Holder<'_>,
) -> Result<[Option<Table>; 2], Fault> {
    let mut tables = [device.live.clone(), device.inactive.clone()];
    let lacking = |table: &Table| table.lines.iter().any(|(_, line)| lacks_key(line));
    if !tables.iter().flatten().any(lacking) {
        return Ok(tables);
    }
    // As they are now: what the table lies on may have been made just before.
    let there = Names::of(dm)?;
    let slots = [Slot::Live, Slot::Inactive];
    let mut images = Vec::new();
    let keyless: Vec<(Slot, Vec<TargetSpec>)> = slots
        .into_iter()
        .zip(&tables)
        .filter_map(|(slot, table)| Some((slot, table.as_ref().filter(|table| lacking(table))?)))
        .map(|(slot, table)| {
            let lines =
                table.lines.iter().map(|(_, line)| numbered(stack, &there, line, &mut images));
            (slot, lines.collect())
        })
        .collect();
    let uuid = device.uuid.clone();
    let asked = Keyless { name: device.name.clone(), uuid, tables: keyless };
    let (names, paths) = (Vec::new(), Vec::new());
    let filled = holder(&KeylessStack { devices: vec![asked], images, names, paths });
    for (slot, table) in slots.into_iter().zip(&mut tables) {
        let Some(table) = table.as_mut().filter(|table| lacking(table)) else { continue };
        let Some(full) = filled.iter().find(|filled| filled.slot == slot) else {
            let name = mangle::decode(&device.name);
            let line =
                table.lines.iter().find(|(_, line)| lacks_key(line)).map_or(0, |(line, _)| *line);
            let why = "its key is not in the file: give it by --key-file NAME=FILE, or where there is a terminal to ask on";
            return Err(Fault::new(name, at(line, why)));
        };
        for ((_, line), full) in table.lines.iter_mut().zip(&full.targets) {
            if lacks_key(line) {
                *line = with_key_of(line, full);
            }
        }
    }
    Ok(tables)
}

/// Writes the device of a line of `crypt` as a number, and notes which file it is: there, its header may lie.
fn numbered(
    stack: &Stack,
    names: &Names,
    line: &TargetSpec,
    images: &mut Vec<(DevNumber, PathBuf)>,
) -> TargetSpec {
    let mut words = unescaped(&line.params);
    if let Some(word) = words.get_mut(CRYPT_DEVICE).filter(|_| lacks_key(line)) {
        let file = names.file(word, &stack.folder);
        // A number of no device at all, as an image that a table attaches has none yet.
        let number = DevNumber { major: 0, minor: u32::try_from(images.len()).unwrap_or(u32::MAX) };
        *word = number.to_string();
        images.push((number, file));
    }
    TargetSpec { params: joined(&words), ..line.clone() }
}
