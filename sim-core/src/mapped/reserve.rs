//! Room for a range of a device, taken from what lies below before anything is written there.

use super::MappedDevice;
use crate::{Area, BlkError, BlkResult, Flags, Flat, Op, Sector, Sectors, Table};

impl MappedDevice {
    /// Passes a reservation on to where each run of the range goes. Where more happens to one than a
    /// remap, or it goes nowhere, nothing here knows what it will need, and nothing is taken.
    pub(super) async fn reserve_below(&self, at: Sector, len: Sectors) -> BlkResult {
        let _pass = self.enter(Flags::default()).await?;
        let table = self.live().ok_or(BlkError::Io)?;
        let end = at.checked_add(len).filter(|end| end.0 <= table.size().0).ok_or(BlkError::Io)?;
        let mut next = at;
        while next < end {
            let (_, _, run) = run(&table, next).ok_or(BlkError::NotSupported)?;
            next += run;
        }
        let mut next = at;
        while next < end {
            let (area, to, run) = run(&table, next).ok_or(BlkError::NotSupported)?;
            area.reserve(to, run.min(end - next)).await?;
            next += run;
        }
        Ok(())
    }
}

/// Returns where a write of the run that begins at a sector goes, if that is all that happens to it.
fn run(table: &Table, at: Sector) -> Option<(&Area, Sector, Sectors)> {
    let entry = table.find(at)?;
    let offset = (at - entry.begin).to_sector();
    match entry.target.flatten(Op::Write, offset) {
        Flat::Device(area, to, len) => Some((area, to, len.min(entry.len - offset.from_start()))),
        Flat::Zero(_) | Flat::Error(_) | Flat::Opaque => None,
    }
}
