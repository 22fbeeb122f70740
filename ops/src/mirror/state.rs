//! Mirrors as their lines, status and messages tell of them.

use daemon::{About, Fault};
use sim_core::control::{Report, Slot};
use sim_core::{DevNumber, KeyText, SECTOR_SIZE};
use targets::lines::mirror::{Behind, Status};
use targets::lines::{self, DeviceWord};

use crate::commands::message;
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, NO_SUCH, find, named, report};
use crate::words::device_name;

/// A line of `mirror`.
pub(super) type Line = lines::mirror::Line<DeviceWord>;

pub(super) const MIRROR: &str = "mirror";

/// What the uuid of a device begins with that `mirror --add` has put under its mirror.
pub(crate) const MADE_BY_US: &str = "DMSIM-LEG-";

/// Limits the resync to so many bytes a second; zero is no limit.
pub(super) fn set_rate(
    dm: &mut dyn DeviceMapper,
    name: &str,
    slot: Slot,
    rate: u64,
) -> Result<(), Fault> {
    let sectors = rate.div_ceil(SECTOR_SIZE);
    message(dm, name, slot, &format!("resync_rate {sectors}")).map(drop)
}

/// Returns the line of a device whose table is a mirror.
pub(super) fn line_of(device: &Device) -> Option<Line> {
    let line = device.only(MIRROR)?;
    Line::from_text(&line.params, line.len).ok()
}

/// Returns the number of the log's device in a table that was read back.
pub(super) fn log_dev(line: &Line) -> Option<DevNumber> {
    line.log.disk.as_ref()?.number()
}

/// Finds a device whose table is a mirror.
pub(super) fn mirror(dm: &mut dyn DeviceMapper, word: &str) -> Result<(Device, Line), Fault> {
    let name = device_name(dm.mount(), word);
    let device = find(dm, &name)?.ok_or_else(|| Fault::new(word, NO_SUCH))?;
    let line = line_of(&device);
    let why = match device.only("raid") {
        Some(_) => "is a RAID set, and no mirror: `dmsim raid` has what there is for those",
        None => {
            "is no mirror: `dmsim fault` makes I/O of any device fail, and with --below what it sends to one"
        }
    };
    let line = line.ok_or_else(|| Fault::new(&name, why))?;
    Ok((device, line))
}

/// Asks how a mirror is; nothing where it is none any more.
pub(super) fn status(
    dm: &mut dyn DeviceMapper,
    name: &str,
) -> Result<Option<Status<DeviceWord>>, Fault> {
    let (id, keys) = (named(name), KeyText::Zeros);
    let found = report(dm, id, Report::Status, Slot::Live, keys)?;
    let Some((_, lines)) = found else { return Ok(None) };
    match &lines[..] {
        [line] if line.target_type == MIRROR => {
            let status = Status::parse(&line.params);
            status.ok_or_else(|| format!("unknown status `{}`", line.params)).about(name).map(Some)
        }
        _ => Ok(None),
    }
}

/// Asks in which regions each leg lacks what others have.
pub(super) fn behind(dm: &mut dyn DeviceMapper, name: &str) -> Result<Behind, Fault> {
    let text = message(dm, name, Slot::Live, "behind")?.unwrap_or_default();
    Behind::parse(&text).ok_or_else(|| Fault::new(name, format!("unknown answer `{text}`")))
}
