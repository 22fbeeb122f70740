//! Stacks the limits of everything below a table, and checks its areas against them.

use super::build::Build;
use super::{Entry, Table, TableError};
use crate::{Area, Limits, Misaligned, Op, Sector, Sectors};

impl Table {
    /// Stacks the limits of everything below, with the kernel's checks of each area, and logs
    /// what the kernel logs (`dm_calculate_queue_limits`).
    pub(crate) fn limits(&self, with: &Build<'_>) -> Result<Limits, TableError> {
        let mut limits = Limits::stacking();
        let mut blocks = Vec::with_capacity(self.entries.len());
        for (index, entry) in self.entries.iter().enumerate() {
            let below = entry.limits(with).map_err(|error| error.in_target(index))?;
            blocks.push(below.logical_block());
            if limits.stack(&below, Sector::ZERO) == Misaligned(true) {
                with.log(format_args!(
                    "adding target device (start sect {} len {}) caused an alignment inconsistency",
                    entry.begin, entry.len
                ));
            }
        }
        self.check_alignment(&limits, &blocks, with)?;
        self.restrict(&mut limits);
        Ok(limits)
    }

    /// A target boundary must not cut a logical block of the device in two
    /// (`validate_hardware_logical_block_alignment`). `blocks` are the targets' own block sizes.
    fn check_alignment(
        &self,
        limits: &Limits,
        blocks: &[Sectors],
        with: &Build<'_>,
    ) -> Result<(), TableError> {
        // What the next target has to bring to fill the block that the last one began.
        let mut owed = Sectors::ZERO;
        let begins_within_a_block = |(entry, own): (&Entry, &Sectors)| {
            let cut = owed < entry.len && !owed.0.is_multiple_of(own.0);
            if !cut {
                let end = (entry.begin + entry.len).0;
                owed = Sectors(end.next_multiple_of(limits.logical_block().0) - end);
            }
            cut
        };
        let at = self.entries.iter().zip(blocks).position(begins_within_a_block);
        if at.is_none() && owed.is_zero() {
            return Ok(());
        }
        // The kernel counts one on where the table ends within a block.
        let (line, index) = (at.unwrap_or(self.count()), at.unwrap_or(self.count() - 1));
        let entry = &self.entries[index];
        let text = format!(
            "table line {line} (start sect {} len {}) not aligned to h/w logical block size {}",
            entry.begin, entry.len, limits.logical_block_size
        );
        with.log(format_args!("{text}"));
        Err(TableError::new(text).in_target(index))
    }

    /// Takes away what not every target can do (`dm_table_set_restrictions`).
    fn restrict(&self, limits: &mut Limits) {
        let all = |able: fn(&Entry) -> bool| self.entries.iter().all(able);
        if !all(Entry::supports_discard) {
            limits.max_discard_sectors = 0;
            limits.discard_granularity = 0;
            limits.discard_alignment = 0;
        }
        if !all(|entry| entry.supports(Op::WriteZeroes, |below| below.max_write_zeroes_sectors)) {
            limits.max_write_zeroes_sectors = 0;
        }
        if !all(|entry| entry.supports(Op::SecureErase, |below| below.max_secure_erase_sectors)) {
            limits.max_secure_erase_sectors = 0;
        }
        limits.write_cache |= self
            .entries
            .iter()
            .any(|entry| entry.profile.num_flush_bios > 0 && entry.profile.flush_supported);
        limits.settle();
    }
}

impl Entry {
    /// Stacks the limits of the devices below, and checks each area against them.
    fn limits(&self, with: &Build<'_>) -> Result<Limits, TableError> {
        let mut limits = Limits::stacking();
        self.target.iterate_devices(&mut |area| {
            let below = area.limits();
            if limits.stack(&below, area.start) == Misaligned(true) {
                with.log(format_args!(
                    "adding target device {} caused an alignment inconsistency: \
                     physical_block_size={}, logical_block_size={}, alignment_offset={}, start={}",
                    area.name(),
                    below.physical_block_size,
                    below.logical_block_size,
                    below.alignment_offset,
                    area.start.0.wrapping_mul(512),
                ));
            }
        });
        self.target.io_hints(&mut limits);
        let mut fault = Ok(());
        self.target.iterate_devices(&mut |area| {
            if fault.is_ok() {
                fault = check_area(area, &limits, with);
            }
        });
        fault.map(|()| limits)
    }

    fn supports_discard(&self) -> bool {
        let own = self.profile.discards_supported;
        self.profile.num_discard_bios > 0
            && (own || self.all_devices(|below| below.max_discard_sectors > 0))
    }

    fn supports(&self, op: Op, max: fn(&Limits) -> u32) -> bool {
        self.profile.copies(op) > 0 && self.all_devices(|below| max(below) > 0)
    }

    /// Tells whether the target has devices, and `able` holds for each.
    fn all_devices(&self, able: impl Fn(&Limits) -> bool) -> bool {
        let (mut any, mut all) = (false, true);
        self.target.iterate_devices(&mut |area| {
            any = true;
            all &= able(&area.limits());
        });
        any && all
    }
}

/// Checks an area against its device and against the target's limits
/// (`device_area_is_invalid`).
fn check_area(area: &Area, limits: &Limits, with: &Build<'_>) -> Result<(), TableError> {
    let (device, size) = (area.name(), area.device_size());
    let refuse = |text: String| {
        with.log(format_args!("{text}"));
        Err(TableError::new(text))
    };
    // A device without a size yet cannot be checked.
    if size.is_zero() {
        return Ok(());
    }
    let (start, len) = (area.start, area.size());
    let fits = start.checked_add(len).is_some_and(|end| end.0 <= size.0) && start.0 < size.0;
    if !fits {
        return refuse(format!(
            "{device} too small for target: start={start}, len={len}, dev_size={size}"
        ));
    }
    let (block, bytes) = (limits.logical_block(), limits.logical_block_size);
    for (what, value) in [("start", start.0), ("len", len.0)] {
        if !value.is_multiple_of(block.0) {
            return refuse(format!(
                "{what}={value} not aligned to h/w logical block size {bytes} of {device}"
            ));
        }
    }
    Ok(())
}
