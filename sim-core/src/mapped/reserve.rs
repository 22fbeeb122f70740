//! Room for a range of a device, taken from what lies below before anything is written there.

use super::MappedDevice;
use crate::fault::FaultPlace;
use crate::{Area, Bio, BlkError, BlkResult, Flags, Sector, Sectors, Table};

impl MappedDevice {
    /// Passes a reservation on to wherever each run of the range is going to be stored. Where a
    /// target does not know that of one, or it is stored nowhere, nothing is taken.
    pub(super) async fn reserve_below(&self, at: Sector, len: Sectors) -> BlkResult {
        if let Some(faults) = self.faults()
            && let Some(end) =
                faults.meet_reserve(Bio::write_zeroes(at, len), FaultPlace::of(self)).await
        {
            return end;
        }
        let _pass = self.enter(Flags::default()).await?;
        let table = self.live().ok_or(BlkError::Io)?;
        let end = at.checked_add(len).filter(|end| end.0 <= table.size().0).ok_or(BlkError::Io)?;
        let mut next = at;
        while next < end {
            next += run(&table, next, &mut |_, _| {}).ok_or(BlkError::NotSupported)?;
        }
        let mut next = at;
        while next < end {
            let mut copies = Vec::new();
            let run = run(&table, next, &mut |area, to| copies.push((area, to)));
            let run = run.ok_or(BlkError::NotSupported)?;
            for (area, to) in copies {
                area.reserve(to, run.min(end - next)).await?;
            }
            next += run;
        }
        Ok(())
    }
}

/// Says where a write of the run that begins at a sector is going to lie, and how long that is.
fn run<'a>(
    table: &'a Table,
    at: Sector,
    each: &mut dyn FnMut(&'a Area, Sector),
) -> Option<Sectors> {
    let entry = table.find(at)?;
    let offset = (at - entry.begin).to_sector();
    let len = entry.target.stores(offset, each)?;
    Some(len.min(entry.len - offset.from_start()))
}
