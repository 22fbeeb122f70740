//! Recordings of devices, as `dmsim crash` makes them: they end with their daemon, and no log is ever begun anew over
//! what it has.

use std::collections::HashSet;
use std::path::PathBuf;

use backing::block_on;
use sim_core::control::{Backing, Command, Failure, Id, Record, RecordedTable};
use sim_core::{
    Access, Bio, BlockDevice, DM_MAJOR, DevNumber, Errno, Held, Params, SECTOR_SIZE, Sector,
    Sectors, TargetSpec,
};

use super::restore::Builder;
use super::state::Daemon;
use crate::family::MADE_FOR_CRASH;
use crate::record::{ImageRecord, Past, PastDevice, PastImage};

/// The target that records.
const LOG_WRITES: &str = "log-writes";

/// What its logs begin with, and their version; the number of entries follows.
const MAGIC: [u8; 16] = *b"rhswfsj\0\x01\0\0\0\0\0\0\0";

/// A recording that has ended with an earlier daemon.
pub(super) struct Ended<'a> {
    /// The device, with the table that it had before it was recorded.
    pub(super) device: PastDevice,
    /// What has that table meanwhile.
    pub(super) below: &'a PastDevice,
    /// Where its log lies.
    pub(super) path: Option<PathBuf>,
    /// The image of the log, where nothing else needs it.
    pub(super) log: Option<&'a PastImage>,
}

impl Ended<'_> {
    /// Finds the recording of a device that was there before.
    pub(super) fn of<'a>(past: &'a Past, device: &PastDevice) -> Option<Ended<'a>> {
        let [line] = &device.device.live.as_ref()?.targets[..] else { return None };
        let (below, log) = numbers(line)?;
        let below = past.devices.iter().find(|past| {
            let uuid = past.device.uuid.as_ref();
            DevNumber::mapped(past.device.minor) == below
                && uuid.is_some_and(|uuid| uuid.starts_with(MADE_FOR_CRASH))
        })?;
        let others = past.devices.iter().filter(|past| past.device.minor != device.device.minor);
        let others: HashSet<DevNumber> = others.flat_map(PastDevice::below).collect();
        let is_alone = |image: &ImageRecord| image.name.is_none() && !others.contains(&log);
        let image = past.images.iter().find(|past| past.image.dev == log);
        let path = image.map(|past| past.image.path.clone());
        let log = image.filter(|past| is_alone(&past.image));
        Some(Ended { device: device.with_table_of(below), below, path, log })
    }
}

/// The two devices of a line of `log-writes`: what is logged, and the log.
fn numbers(line: &TargetSpec) -> Option<(DevNumber, DevNumber)> {
    let text = line.params.to_string();
    let mut words = text.split_whitespace().map(|word| word.parse().ok());
    let (below, log) = (words.next()??, words.next()??);
    (line.target_type == LOG_WRITES).then_some((below, log))
}

/// Reads how many entries a log has by its first block; nothing where it is none.
fn entries(block: &[u8]) -> Option<u64> {
    let count = block.strip_prefix(&MAGIC)?.first_chunk()?;
    Some(u64::from_le_bytes(*count))
}

impl Builder<'_> {
    /// Refuses to load a table that would begin a log anew which has entries.
    pub(super) fn refuse_overwriting(&self, record: &Record) -> Result<(), Failure> {
        let tables = record.live.iter().chain(&record.inactive);
        for (_, log) in tables.flat_map(|table| &table.targets).filter_map(numbers) {
            let Some(entries) = self.entries(log).filter(|entries| *entries > 0) else { continue };
            let path = self.images.attached(log).map(|image| image.path.display().to_string());
            let path = path.unwrap_or_else(|| log.to_string());
            let entries =
                if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
            let why = format!(
                "its log, {path}, has {entries}, and a new one would begin over them: copy it, and write zeros over \
                 its first 4 KiB, or drop the device with `dmsim restore --forget`"
            );
            return Err(Failure { errno: Errno::EXIST, table: None, why: Some(why) });
        }
        Ok(())
    }

    /// Returns how many entries a device has as a log; nothing where it is none.
    fn entries(&self, log: DevNumber) -> Option<u64> {
        let device: std::sync::Arc<dyn BlockDevice> = match log.major {
            DM_MAJOR => self.control.device(&Id::Dev(log)).ok()?,
            _ => self.images.by_number(log).ok()?,
        };
        let mut block =
            vec![0; device.limits().logical_block_size.max(SECTOR_SIZE as u32) as usize];
        block_on(device.submit(Bio::read(Sector::ZERO, &mut block))).ok()?;
        entries(&block)
    }
}

impl Daemon {
    /// Ends the logs of all devices, for good: what came too late for them was told so, or is held.
    pub(super) fn end_logs(&self) {
        for record in self.control.records() {
            let logs = |table: &RecordedTable| {
                table.targets.iter().any(|line| line.target_type == LOG_WRITES)
            };
            if !record.live.as_ref().is_some_and(logs) {
                continue;
            }
            let id = Id::Dev(DevNumber::mapped(record.minor));
            let len: Sectors =
                record.live.iter().flat_map(|table| &table.targets).map(|line| line.len).sum();
            let error = TargetSpec {
                start: Sector::ZERO,
                len,
                target_type: "error".to_owned(),
                params: Params::default(),
            };
            let (access, base) = (Access::ReadWrite, String::new());
            // A log is ended by the table's going.
            let load = Command::TableLoad { id: id.clone(), access, targets: vec![error], base };
            let resume = Command::DevResume { id, held: Held::NoFlush };
            for command in [load, resume] {
                if let Err(failure) = block_on(self.control.perform(command)) {
                    tracing::error!(device = record.name, ?failure, "while its log was ended");
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use targets::log_writes::format::{MAGIC as THEIRS, Superblock};

    use super::*;

    #[test]
    fn a_log_is_known_by_its_first_block() {
        let mut block = [0; 512];
        assert_eq!(entries(&block), None);
        Superblock { entries: 1 << 40, unit: 512 }.write(&mut block);
        assert_eq!((entries(&block), entries(&block[..20])), (Some(1 << 40), None));
        assert_eq!(MAGIC[..8], THEIRS.to_le_bytes());
    }
}
