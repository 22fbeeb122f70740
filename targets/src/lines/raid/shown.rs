//! The parameters as a table shows them: in the kernel's order, whatever order they had.

use std::fmt;

use super::params::{JournalMode, Params, Synchronize};
use crate::raid::layout::Format;

impl<D> Params<D> {
    /// Returns how many words the kernel says that they are.
    pub(super) fn count(&self) -> usize {
        let flags = usize::from(self.synchronize != Synchronize::AsRecorded)
            + usize::from(self.raid10_use_near_sets);
        let pairs = [
            self.daemon_sleep.is_some(),
            self.min_recovery_rate.is_some(),
            self.max_recovery_rate.is_some(),
            self.max_write_behind.is_some(),
            self.stripe_cache.is_some(),
            self.region_size.is_some(),
            self.raid10_copies.is_some(),
            self.raid10_format.is_some(),
            self.delta_disks.is_some(),
            self.data_offset.is_some(),
            self.journal_dev.is_some(),
            self.journal_mode.is_some(),
        ];
        let pairs = pairs.iter().filter(|there| **there).count();
        flags + 2 * (pairs + self.rebuild.len() + self.write_mostly.len())
    }

    /// Puts something else for the device.
    pub(super) fn try_map<E, F>(
        &self,
        device: impl FnMut(&D) -> Result<E, F>,
    ) -> Result<Params<E>, F> {
        Ok(Params {
            synchronize: self.synchronize,
            rebuild: self.rebuild.clone(),
            daemon_sleep: self.daemon_sleep,
            min_recovery_rate: self.min_recovery_rate,
            max_recovery_rate: self.max_recovery_rate,
            write_mostly: self.write_mostly.clone(),
            max_write_behind: self.max_write_behind,
            stripe_cache: self.stripe_cache,
            region_size: self.region_size,
            raid10_copies: self.raid10_copies,
            raid10_format: self.raid10_format,
            raid10_use_near_sets: self.raid10_use_near_sets,
            delta_disks: self.delta_disks,
            data_offset: self.data_offset,
            journal_dev: self.journal_dev.as_ref().map(device).transpose()?,
            journal_mode: self.journal_mode,
        })
    }
}

/// Each with a space before it.
impl<D: fmt::Display> fmt::Display for Params<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.synchronize {
            Synchronize::AsRecorded => "",
            Synchronize::Everything => " sync",
            Synchronize::Nothing => " nosync",
        })?;
        let mut pair = |name: &str, value: Option<&dyn fmt::Display>| match value {
            Some(value) => write!(f, " {name} {value}"),
            None => Ok(()),
        };
        fn shown<T: fmt::Display>(value: &Option<T>) -> Option<&dyn fmt::Display> {
            value.as_ref().map(|value| value as &dyn fmt::Display)
        }
        let format = self.raid10_format.map(|format| match format {
            Format::Near => "near",
            Format::Far => "far",
            Format::Offset => "offset",
        });
        let mode = self.journal_mode.map(|mode| match mode {
            JournalMode::WriteThrough => "writethrough",
            JournalMode::WriteBack => "writeback",
        });
        self.rebuild.iter().try_for_each(|leg| pair("rebuild", Some(leg)))?;
        pair("daemon_sleep", shown(&self.daemon_sleep))?;
        pair("min_recovery_rate", shown(&self.min_recovery_rate))?;
        pair("max_recovery_rate", shown(&self.max_recovery_rate))?;
        self.write_mostly.iter().try_for_each(|leg| pair("write_mostly", Some(leg)))?;
        pair("max_write_behind", shown(&self.max_write_behind))?;
        pair("stripe_cache", shown(&self.stripe_cache))?;
        pair("region_size", shown(&self.region_size))?;
        pair("raid10_copies", shown(&self.raid10_copies))?;
        pair("raid10_format", shown(&format))?;
        pair("delta_disks", shown(&self.delta_disks))?;
        pair("data_offset", shown(&self.data_offset))?;
        pair("journal_dev", shown(&self.journal_dev))?;
        pair("journal_mode", shown(&mode))
    }
}
