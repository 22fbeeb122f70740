//! Images as plain devices.

use std::path::{Path, PathBuf};

use daemon::{About, Fault};
use sim_core::{Access, SECTOR_SIZE, Sector, Sectors};
use targets::lines::linear::Line;
use targets::lines::{DeviceWord, Place};

use crate::commands::{create, load, one, remove, resume};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, find};
use crate::files::{is_same_file, path_of};
use crate::words::new_name;

/// Makes a device that is a whole image, and is called as the file without its ending; returns the
/// device's file. One that is there already stays, and grows where its file has grown.
///
/// # Errors
/// Where the file is none, where its name can be no device's, or another device has it.
pub fn show(dm: &mut dyn DeviceMapper, image: &Path) -> Result<PathBuf, Fault> {
    let about = image.display().to_string();
    let stem = image.file_stem().and_then(|stem| stem.to_str());
    let name = new_name("--disk", stem.unwrap_or_default())?;
    let path = image.canonicalize().about(&about)?;
    if let Some(device) = find(dm, &name)? {
        let line = device.only("linear");
        let line = line.and_then(|line| Line::from_text(&line.params, line.len).ok());
        let below = line.and_then(|line| line.place.device.number());
        let below = below.and_then(|below| path_of(dm, below).ok());
        if below.is_some_and(|below| is_same_file(&below, &path)) {
            return grow(dm, &device, &path).map(|()| dm.mount().join(&name));
        }
        let why = format!("a device `{name}` is there, and is another: name the file otherwise");
        return Err(Fault::new(about, why));
    }
    let metadata = std::fs::metadata(&path).about(&about)?;
    if !metadata.is_file() {
        return Err(Fault::new(about, "is no image file, as --disk wants one"));
    }
    let len = metadata.len();
    let len = Sectors(len / SECTOR_SIZE);
    if len.is_zero() {
        return Err(Fault::new(
            about,
            "is shorter than a sector: `truncate -s SIZE` makes it longer",
        ));
    }
    let path = path.to_str().ok_or_else(|| Fault::new(about, "expected a path in UTF-8"))?;
    let line = Line { place: Place { device: DeviceWord::from(path), start: Sector::ZERO } };
    create(dm, &name, None)?;
    let done = load(dm, &name, Access::ReadWrite, one(len, "linear", &line.to_string()))
        .and_then(|()| resume(dm, &name));
    done.map_err(|fault| fault.undone(remove(dm, &name), "no device was made"))?;
    Ok(dm.mount().join(&name))
}

/// Gives a device that was a whole image the size that its file has by now, where that is larger: what has it open
/// sees it grow.
fn grow(dm: &mut dyn DeviceMapper, device: &Device, path: &Path) -> Result<(), Fault> {
    let len = Sectors(path.metadata().about(path.display())?.len() / SECTOR_SIZE);
    let Some(line) = device.only("linear").filter(|_| len > device.size()) else { return Ok(()) };
    let place = Line::from_text(&line.params, line.len).ok().map(|line| line.place);
    let place = place.filter(|place| place.start == Sector::ZERO);
    let Some(number) = place.and_then(|place| place.device.number()) else { return Ok(()) };
    dm.resize(&number.to_string())?;
    let name = device.name();
    load(dm, name, device.access(), one(len, "linear", &line.params))?;
    resume(dm, name)
}
