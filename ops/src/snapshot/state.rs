//! Snapshots, origins and merges as their lines and status tell of them.

use daemon::{About, Fault};
use sim_core::control::{Report, Slot};
use sim_core::{DevNumber, KeyText, TargetSpec};
use targets::lines;
use targets::lines::snapshot::Status;

use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, named, report};

pub(super) const SNAPSHOT: &str = "snapshot";
pub(super) const ORIGIN: &str = "snapshot-origin";
pub(super) const MERGE: &str = "snapshot-merge";

/// What the uuid of a device begins with that `snapshot` has put under its origin.
pub(crate) const MADE_BY_US: &str = "DMSIM-ORIGIN-";

/// A line of `snapshot` or `snapshot-merge` as it is read back.
pub(super) type Line = lines::snapshot::Line<DevNumber>;

impl Device {
    /// Returns the device below, where this one is the origin of snapshots.
    pub(super) fn origin_of(&self) -> Option<DevNumber> {
        let line = self.only(ORIGIN)?;
        let line = lines::snapshot_origin::Line::from_text(&line.params, line.len).ok()?;
        line.device.number()
    }

    pub(super) fn snapshot(&self) -> Option<Line> {
        read(self.only(SNAPSHOT)?)
    }

    pub(super) fn merge(&self) -> Option<Line> {
        read(self.only(MERGE)?)
    }
}

fn read(line: &TargetSpec) -> Option<Line> {
    let line = lines::snapshot::Line::from_text(&line.params, line.len).ok()?;
    line.try_map(|device| device.number().ok_or(())).ok()
}

/// Returns the status of a device whose table is one line of this type; nothing where it is not,
/// or there is no such device.
pub(super) fn state(
    dm: &mut dyn DeviceMapper,
    name: &str,
    of: &str,
) -> Result<Option<Status>, Fault> {
    let keys = KeyText::Zeros;
    let Some((_, lines)) = report(dm, named(name), Report::Status, Slot::Live, keys)? else {
        return Ok(None);
    };
    match &lines[..] {
        [line] if line.target_type == of => {
            let state = Status::parse(&line.params);
            let known = state.ok_or_else(|| format!("unknown status `{}`", line.params));
            known.about(name).map(Some)
        }
        _ => Ok(None),
    }
}
