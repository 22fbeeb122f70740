//! The way back from a load that fails.

use std::path::PathBuf;

use daemon::{About, Fault, mangle};
use sim_core::control::{Slot, WhenOpen};
use sim_core::{Access, KeyText, TargetSpec};

use super::save::table_of;
use crate::commands::{clear, load, remove_patiently, resume, suspend_held};
use crate::device_mapper::DeviceMapper;
use crate::devices::NO_SUCH;

/// One thing that was done.
pub(super) enum Done {
    /// A file was made for an image.
    File(PathBuf),
    /// An image was attached; its number.
    Attached(String),
    /// A device was made.
    Made(String),
    /// A device was changed; how it was.
    Changed(Before),
}

/// How a device was: its tables with their keys.
pub(super) struct Before {
    name: String,
    live: Option<(Access, Vec<TargetSpec>)>,
    inactive: Option<(Access, Vec<TargetSpec>)>,
    suspended: bool,
}

impl Before {
    /// Notes how a device is.
    pub(super) fn of(dm: &mut dyn DeviceMapper, name: &str) -> Result<Before, Fault> {
        let mut table = |slot| {
            let found = table_of(dm, name, slot, KeyText::Plain)?;
            found.ok_or_else(|| Fault::new(name, NO_SUCH))
        };
        let (status, live) = table(Slot::Live)?;
        let (waits, inactive) = table(Slot::Inactive)?;
        let access = |read_only| if read_only { Access::ReadOnly } else { Access::ReadWrite };
        Ok(Before {
            name: name.to_owned(),
            live: status.live_present.then(|| (access(status.read_only), live)),
            inactive: waits.inactive_present.then(|| (access(waits.read_only), inactive)),
            suspended: status.suspended,
        })
    }

    fn put_back(self, dm: &mut dyn DeviceMapper) -> Result<(), Fault> {
        let name = &self.name;
        let now = Before::of(dm, name)?;
        match self.live {
            Some((access, live)) if now.live.as_ref() != Some(&(access, live.clone())) => {
                load(dm, name, access, live)?;
                resume(dm, name)?;
            }
            Some(_) if now.suspended && !self.suspended => {
                // What waits would come into use.
                clear(dm, name)?;
                resume(dm, name)?;
            }
            Some(_) | None => {}
        }
        match self.inactive {
            Some((access, inactive)) => load(dm, name, access, inactive)?,
            None => clear(dm, name)?,
        }
        let is_suspended = Before::of(dm, name)?.suspended;
        match (self.suspended, is_suspended) {
            (true, false) => suspend_held(dm, name),
            (true, true) | (false, _) => Ok(()),
        }
    }
}

/// Undoes what was done, the last first. What cannot be is named, and the rest undone all the same.
pub(super) fn undo(dm: &mut dyn DeviceMapper, done: Vec<Done>) -> Result<(), Fault> {
    let mut result = Ok(());
    for done in done.into_iter().rev() {
        let undone = match done {
            Done::File(path) => std::fs::remove_file(&path).about(path.display()),
            Done::Attached(number) => dm.detach(&number),
            Done::Made(name) => {
                remove_patiently(dm, &name, WhenOpen::Refuse).about(mangle::decode(&name))
            }
            Done::Changed(before) => before.put_back(dm),
        };
        result = result.and(undone);
    }
    result
}
