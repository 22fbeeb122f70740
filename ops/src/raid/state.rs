//! Sets as their lines and statuses tell of them.

use daemon::{About, Fault};
use sim_core::control::{Report, Slot};
use sim_core::{DevNumber, KeyText, Sector, Sectors, TargetSpec};
use targets::lines::raid::{Family, Status};
use targets::lines::{self, DeviceWord};
use targets::raid::layout::{Layout, Parity, Raid10};

use super::md;
use crate::commands::one;
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, NO_SUCH, find, named, report};
use crate::words::device_name;

/// A line of `raid`.
pub(super) type Line = lines::raid::Line<DeviceWord>;

pub(super) const RAID: &str = "raid";

/// Returns the line of a device whose table is a set; as one of `raid` where it is one of `md`.
pub(super) fn line_of(dm: &mut dyn DeviceMapper, device: &Device) -> Result<Option<Line>, Fault> {
    match device.only(RAID) {
        Some(line) => Ok(Line::from_text(&line.params, line.len).ok()),
        None => md::line_of(dm, device),
    }
}

/// Tells whether a word means a device whose table is a set.
///
/// # Errors
/// Where the device-mapper cannot be asked.
pub fn is_set(dm: &mut dyn DeviceMapper, word: &str) -> Result<bool, Fault> {
    let name = device_name(dm.mount(), word);
    match find(dm, &name)? {
        Some(device) => Ok(line_of(dm, &device)?.is_some()),
        None => Ok(false),
    }
}

/// Tells whether a line asks for what its superblocks know of by now: a command was cut off before it had
/// the next table in use.
pub(super) fn is_unsettled(line: &Line) -> bool {
    !line.params.rebuild.is_empty() || line.params.delta_disks.is_some_and(|more| more > 0)
}

/// Finds a device whose table is a set.
pub(super) fn set(dm: &mut dyn DeviceMapper, word: &str) -> Result<(Device, Line), Fault> {
    let name = device_name(dm.mount(), word);
    let device = find(dm, &name)?.ok_or_else(|| Fault::new(word, NO_SUCH))?;
    let line = line_of(dm, &device)?;
    let line = line.ok_or_else(|| Fault::new(&name, "is no RAID set"))?;
    Ok((device, line))
}

/// Refuses an array of md, whose members nobody but mdadm replaces.
pub(super) fn refuse_md(device: &Device) -> Result<(), Fault> {
    match device.only(md::MD) {
        None => Ok(()),
        Some(_) => {
            let why = "is an array of md: dmsim gives it no new members, mdadm does";
            Err(Fault::new(device.name(), why))
        }
    }
}

/// As [`set`], of a level that keeps copies or parity.
pub(super) fn redundant(dm: &mut dyn DeviceMapper, word: &str) -> Result<(Device, Line), Fault> {
    let (device, line) = set(dm, word)?;
    match line.kind.family() {
        Family::Raid0 => {
            let why = "is a raid0, which has no copies and no parity: each leg alone has its data";
            Err(Fault::new(device.name(), why))
        }
        _ => Ok((device, line)),
    }
}

/// A look at a set.
pub(super) struct Look {
    pub(super) status: Status,
    /// The number of the last event.
    pub(super) event: u32,
    pub(super) suspended: bool,
}

/// Asks how a set is; nothing where it is none any more.
pub(super) fn look(dm: &mut dyn DeviceMapper, name: &str) -> Result<Option<Look>, Fault> {
    let found = report(dm, named(name), Report::Status, Slot::Live, KeyText::Zeros)?;
    let Some((device, lines)) = found else { return Ok(None) };
    match &lines[..] {
        [line] if matches!(&*line.target_type, RAID | md::MD) => {
            let status = Status::parse(&line.params);
            let status = status.ok_or_else(|| format!("unknown status `{}`", line.params));
            let (event, suspended) = (device.event_nr, device.suspended);
            Ok(Some(Look { status: status.about(name)?, event, suspended }))
        }
        _ => Ok(None),
    }
}

/// As [`look`], of a set that is there.
pub(super) fn look_at(dm: &mut dyn DeviceMapper, name: &str) -> Result<Look, Fault> {
    look(dm, name)?.ok_or_else(|| Fault::new(name, "is no RAID set any more"))
}

/// Returns the number of a device in a table that was read back.
pub(super) fn number(device: Option<&DeviceWord>) -> Option<DevNumber> {
    device.and_then(DeviceWord::number)
}

/// Makes the table of a line.
pub(super) fn table(line: &Line, len: Sectors) -> Vec<TargetSpec> {
    one(len, RAID, &line.to_string())
}

/// Returns how a set of a line is laid out, on legs of this length; nothing where it cannot be.
pub(super) fn layout(line: &Line, device: Sectors) -> Option<Layout> {
    let (legs, chunk) = (line.legs.len(), line.chunk);
    match line.kind.family() {
        Family::Raid0 => (!chunk.is_zero()).then_some(Layout::Raid0 { legs, chunk, device }),
        Family::Raid1 => Some(Layout::Raid1 { legs, device }),
        Family::Raid10 => Raid10::new(line.layout_word(), legs, chunk, device).map(Layout::Raid10),
        family @ (Family::Raid5 | Family::Raid6) => {
            Parity::new(family.level(), line.layout_word(), legs, chunk, device).map(Layout::Parity)
        }
    }
}

/// Returns how many legs more a set may lose, whichever they are, without these that are `lost`.
pub(super) fn may_lose(layout: &Layout, lost: impl Fn(usize) -> bool) -> usize {
    match layout {
        Layout::Raid0 { .. } => 0,
        Layout::Parity(parity) => {
            let gone = (0..parity.legs()).filter(|leg| lost(*leg)).count();
            parity.parities().saturating_sub(gone)
        }
        Layout::Raid1 { .. } | Layout::Raid10(_) => {
            copies(layout, lost).min().unwrap_or_default().saturating_sub(1)
        }
    }
}

/// Returns how many copies legs that are not `lost` have of what they have most copies of.
pub(super) fn most_copies(layout: &Layout, lost: impl Fn(usize) -> bool) -> usize {
    copies(layout, lost).max().unwrap_or_default()
}

/// Counts the copies that legs which are not `lost` have of each chunk, as far as these do not come again.
fn copies(layout: &Layout, lost: impl Fn(usize) -> bool) -> impl Iterator<Item = usize> {
    // After as many chunks as there are legs, the same legs come again.
    let chunk = layout.run_end(Sector::ZERO).0;
    let chunks = (0..layout.legs() as u64).map(move |nr| Sector(nr * chunk));
    let chunks = chunks.take_while(|at| at.0 < layout.len().0);
    chunks.map(move |at| layout.places(at).iter().filter(|place| !lost(place.leg)).count())
}

/// Tells whether legs that are not `lost` have all of the data.
pub(super) fn has_all(layout: &Layout, lost: impl Fn(usize) -> bool) -> bool {
    layout.has_all(lost)
}
