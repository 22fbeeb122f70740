//! Paths of a multipath device: made to fail, and healed.

use daemon::{Fault, mangle};
use sim_core::control::{Report, Slot};
use sim_core::{DevNumber, Fails, KeyText};
use targets::lines::multipath::Status;
use targets::lines::{self, DeviceWord};

use crate::commands::{message, set_fails};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, NO_SUCH, find, named, report};
use crate::mirror::failing;
use crate::parts::number_of;
use crate::words::device_name;

type Line = lines::multipath::Line<DeviceWord>;

/// Tells whether a device's table is a multipath one.
///
/// # Errors
/// Where the device-mapper cannot be asked.
pub fn is_multipath(dm: &mut dyn DeviceMapper, word: &str) -> Result<bool, Fault> {
    let name = device_name(dm.mount(), word);
    Ok(find(dm, &name)?.is_some_and(|device| line_of(&device).is_some()))
}

/// Makes a path fail for its device on purpose. That is not known before a bio goes by it.
///
/// # Errors
/// Where there is no such device or path.
pub fn fail(dm: &mut dyn DeviceMapper, name: &str, path: &str, fails: Fails) -> Result<(), Fault> {
    let (device, line) = multipath(dm, name)?;
    let name = device.name();
    let dev = path_of(dm, name, &line, path)?;
    set_fails(dm, name, dev, fails)
}

/// Makes a path work again, or all that fail on purpose or have failed, and reinstates them. Says which, a line
/// each.
///
/// # Errors
/// Where there is no such device or path, or it is suspended.
pub fn heal(
    dm: &mut dyn DeviceMapper,
    name: &str,
    path: Option<&str>,
) -> Result<Vec<String>, Fault> {
    let (device, line) = multipath(dm, name)?;
    let name = device.name();
    device.refuse_suspended()?;
    let mut healed = match path {
        Some(path) => vec![path_of(dm, name, &line, path)?],
        None => [failing(dm, name)?, failed(dm, name)?].concat(),
    };
    healed.sort();
    healed.dedup();
    for dev in &healed {
        set_fails(dm, name, *dev, Fails::Nothing)?;
        message(dm, name, Slot::Live, &format!("reinstate_path {dev}"))?;
    }
    let name = mangle::decode(name);
    let told = healed
        .iter()
        .map(|dev| format!("{name}: the path {dev} is reinstated: the next I/O tries it"));
    Ok(match healed.is_empty() {
        true => vec![format!("{name}: no path has failed: there is nothing to heal")],
        false => told.collect(),
    })
}

/// Lists the paths that have failed by the device's status.
fn failed(dm: &mut dyn DeviceMapper, name: &str) -> Result<Vec<DevNumber>, Fault> {
    let found = report(dm, named(name), Report::Status, Slot::Live, KeyText::Zeros)?;
    let status = found.and_then(|(_, lines)| Status::parse(&lines.first()?.params));
    let paths = status.into_iter().flat_map(|status| status.groups).flat_map(|group| group.paths);
    Ok(paths.filter(|path| !path.is_active).filter_map(|path| path.device.number()).collect())
}

fn line_of(device: &Device) -> Option<Line> {
    let line = device.only("multipath")?;
    Line::from_text(&line.params, line.len).ok()
}

fn multipath(dm: &mut dyn DeviceMapper, word: &str) -> Result<(Device, Line), Fault> {
    let name = device_name(dm.mount(), word);
    let device = find(dm, &name)?.ok_or_else(|| Fault::new(word, NO_SUCH))?;
    let line = line_of(&device).ok_or_else(|| Fault::new(&name, "has no paths"))?;
    Ok((device, line))
}

/// Finds the device of the path that a word means: its place, counted through all groups from 0, or what
/// it is called.
fn path_of(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    word: &str,
) -> Result<DevNumber, Fault> {
    let paths = || line.groups.iter().flat_map(|group| &group.paths);
    let place = word.parse().ok().and_then(|place| paths().nth(place));
    if let Some(dev) = place.and_then(|path| path.device.number()) {
        return Ok(dev);
    }
    let dev = number_of(dm, word)?;
    dev.filter(|dev| paths().any(|path| path.device.number() == Some(*dev))).ok_or_else(|| {
        let known = (0..)
            .zip(paths())
            .map(|(place, path): (usize, _)| format!("{place} ({})", path.device));
        let known = known.collect::<Vec<_>>().join(", ");
        Fault::new(name, format!("has no path `{word}`; its paths are {known}"))
    })
}
