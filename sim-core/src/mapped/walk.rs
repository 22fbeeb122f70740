//! Where a sector ends up, found by asking each table on the way.

use std::sync::Arc;

use super::MappedDevice;
use crate::{BlockDevice, Flat, Op, Sector, Sectors};

/// Where one run of a device's sectors ends up, all tables on the way asked.
pub(super) enum Destination {
    Leaf(Arc<dyn BlockDevice>, Sector),
    Zero,
    Error,
    Opaque,
}

/// Follows a sector of a read or a write down through the live tables of a stack, and says where it
/// ends up and how long the run is.
pub(super) fn walk(
    device: &MappedDevice,
    op: Op,
    sector: Sector,
) -> Option<(Destination, Sectors)> {
    let live = device.table();
    let entry = live.as_ref()?.find(sector)?;
    let offset = (sector - entry.begin).to_sector();
    let left = entry.len - offset.from_start();
    match entry.target.flatten(op, offset) {
        Flat::Zero(len) => Some((Destination::Zero, len.min(left))),
        Flat::Error(len) => Some((Destination::Error, len.min(left))),
        Flat::Opaque => Some((Destination::Opaque, left)),
        Flat::Device(area, ..) if area.is_watched() => Some((Destination::Opaque, left)),
        Flat::Device(area, to, len) => {
            let (to, len) = (area.start.wrapping_add(to.from_start()), len.min(left));
            match MappedDevice::of(&**area.device()) {
                None => Some((Destination::Leaf(area.device().clone(), to), len)),
                Some(below) => match walk(below, op, to) {
                    Some((found, run)) => Some((found, run.min(len))),
                    None => Some((Destination::Error, len.min(to.to_wrap()))),
                },
            }
        }
    }
}
