//! Putting another table into a device that is suspended, and the old one back.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use daemon::{About, Fault};
use sim_core::control::Slot;
use sim_core::{Access, SECTOR_SIZE, TargetSpec};

use super::state::set_rate;
use crate::commands::{clear, load, remove, resume};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, find};
use crate::files::fresh;

/// How much of a log is taken away so that none is found: its header, on a device with blocks of any
/// size.
const HEADER: usize = 4096;

/// Puts a table into a device that is suspended, and lets it run; with a limit to its resync, if
/// there is one.
pub(crate) fn put(
    dm: &mut dyn DeviceMapper,
    name: &str,
    access: Access,
    table: &[TargetSpec],
    rate: Option<u64>,
) -> Result<(), Fault> {
    load(dm, name, access, table.to_vec())?;
    if let Some(rate) = rate {
        set_rate(dm, name, Slot::Inactive, rate)?;
    }
    match resume(dm, name) {
        // It was, whatever became of the answer: there is no way back from what was written since.
        Err(_) if runs(dm, name, table)? => Ok(()),
        result => result,
    }
}

fn runs(dm: &mut dyn DeviceMapper, name: &str, table: &[TargetSpec]) -> Result<bool, Fault> {
    let device = find(dm, name)?;
    Ok(device.is_some_and(|device| !device.status.suspended && is_like(&device, table)))
}

/// Tells whether a device has this table: one of the two that it can have.
fn is_like(device: &Device, table: &[TargetSpec]) -> bool {
    let shape =
        |line: &TargetSpec| (line.target_type.clone(), line.params.split_whitespace().count());
    device.live.iter().map(shape).eq(table.iter().map(shape))
}

/// A device as it was before its table was to be replaced.
pub(crate) struct Before {
    pub(crate) name: String,
    pub(crate) access: Access,
    /// Its table, keys and all.
    pub(crate) table: Vec<TargetSpec>,
    /// The device below that has, or is to have, that table.
    pub(crate) below: Option<String>,
    /// The log's file, and what it began with.
    pub(crate) log: Option<(PathBuf, Vec<u8>)>,
}

impl Before {
    /// Brings the device back, which is suspended, with `new` in use or not. Each step is tried,
    /// whatever became of those before it; returns the first fault.
    pub(crate) fn bring_back(
        &self,
        dm: &mut dyn DeviceMapper,
        new: &[TargetSpec],
    ) -> Result<(), Fault> {
        let Before { name, access, .. } = self;
        let mut result = Ok(());
        result = result.and(clear(dm, name));
        let swapped = match find(dm, name) {
            Ok(device) => device.is_some_and(|device| is_like(&device, new)),
            Err(fault) => {
                result = result.and(Err(fault));
                false
            }
        };
        if swapped {
            result = result.and(load(dm, name, *access, self.table.clone()));
        }
        if let Some((path, bytes)) = &self.log {
            result = result.and(write_header(path, bytes));
        }
        result = result.and(resume(dm, name));
        result
    }
}

/// Removes a device that was made for a table, if it is there.
pub(crate) fn remove_below(dm: &mut dyn DeviceMapper, below: &str) -> Result<(), Fault> {
    if find(dm, below)?.is_none() {
        return Ok(());
    }
    match remove(dm, below) {
        Err(_) if find(dm, below)?.is_none() => Ok(()),
        result => result,
    }
}

/// Makes a log one in which no region is in sync, and returns what it began with. Its mirror is
/// suspended.
pub(crate) fn reset_log(path: &Path) -> Result<Vec<u8>, Fault> {
    let file = fresh(path, Access::ReadWrite)?;
    let mut bytes = vec![0; HEADER];
    let mut len = 0;
    while len < HEADER {
        match file.read_at(&mut bytes[len..], len as u64).about(path.display())? {
            0 => break,
            more => len += more,
        }
    }
    bytes.truncate(len - len % SECTOR_SIZE as usize);
    write_header(path, &vec![0; bytes.len()])?;
    Ok(bytes)
}

fn write_header(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let file = fresh(path, Access::ReadWrite)?;
    file.write_all_at(bytes, 0).and_then(|()| file.sync_data()).about(path.display())
}
