//! What a mapped device is like, for a client to say.

use serde::{Deserialize, Serialize};
use sim_core::control::{Answer, Command, Control, Failure, Id, Slot};
use sim_core::{
    BlockDevice, DevNumber, Errno, Fails, FaultReport, Limits, MappedDevice, SECTOR_SIZE,
};

/// One mapped device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The name, mangled.
    pub name: String,
    /// The uuid; empty where it has none.
    pub uuid: String,
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// How many users have it open.
    pub open_count: u32,
    /// The number of the last event.
    pub event_nr: u32,
    /// `ACTIVE`, or `SUSPENDED`.
    pub state: String,
    /// The same as a truth value.
    pub suspended: bool,
    /// Writes are refused.
    pub read_only: bool,
    /// In sectors; none before a table was loaded first.
    pub read_ahead: Option<u64>,
    /// In sectors.
    pub size: u64,
    /// Targets in the live table.
    pub targets: usize,
    /// Which tables are present.
    pub tables: Tables,
    /// In bytes; -1 where the devices below could not be brought into line.
    pub alignment_offset: i64,
    /// The limits of its queue.
    pub limits: QueueLimits,
    /// The devices below that are made to fail for it, on purpose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<Failing>,
    /// The faults that are armed for whoever uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultSummary>,
}

/// A plan of faults in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSummary {
    /// How many rules it has.
    pub rule_count: usize,
    /// How many bios they have struck.
    pub struck_count: u64,
}

impl FaultSummary {
    fn of(report: &FaultReport) -> FaultSummary {
        let struck_count = report.rules.iter().map(|rule| rule.struck_count).sum();
        FaultSummary { rule_count: report.rules.len(), struck_count }
    }
}

/// A device below that is made to fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// What fails: `reads`, `writes` or `all`; `by_plan` where a plan says what.
    pub fails: Fails,
}

impl Failing {
    /// Returns what fails of the device with this number, if it is one of these.
    pub fn of(failing: &[Failing], dev: DevNumber) -> Option<Fails> {
        let here = failing.iter().find(|at| (at.major, at.minor) == (dev.major, dev.minor))?;
        Some(here.fails).filter(|fails| *fails != Fails::Nothing)
    }

    /// Says so.
    pub fn text(fails: Fails) -> &'static str {
        match fails {
            Fails::Nothing => "does not fail",
            Fails::Reads => "reads fail, on purpose",
            Fails::Writes => "writes fail, on purpose",
            Fails::All => "fails, on purpose",
            Fails::ByPlan => "has faults, on purpose",
        }
    }
}

/// Which tables a device has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// The table in use.
    pub live: bool,
    /// The table that the next resume swaps in.
    pub inactive: bool,
}

/// The limits of a queue, by the names that `/sys/block/*/queue` has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the kernel's sysfs-block(5)")]
pub struct QueueLimits {
    pub logical_block_size: u32,
    pub physical_block_size: u32,
    pub minimum_io_size: u32,
    pub optimal_io_size: u32,
    pub discard_granularity: u32,
    pub discard_max_bytes: u64,
    pub write_zeroes_max_bytes: u64,
    pub max_sectors_kb: u32,
    pub max_segment_size: u32,
    pub dma_alignment: u32,
}

impl From<&Limits> for QueueLimits {
    fn from(limits: &Limits) -> QueueLimits {
        QueueLimits {
            logical_block_size: limits.logical_block_size,
            physical_block_size: limits.physical_block_size,
            minimum_io_size: limits.io_min,
            optimal_io_size: limits.io_opt,
            discard_granularity: limits.discard_granularity,
            discard_max_bytes: u64::from(limits.max_discard_sectors) * SECTOR_SIZE,
            write_zeroes_max_bytes: u64::from(limits.max_write_zeroes_sectors) * SECTOR_SIZE,
            max_sectors_kb: limits.max_sectors() / 2,
            max_segment_size: limits.max_segment_size,
            dma_alignment: limits.dma_alignment,
        }
    }
}

/// Describes one device, or all of them by name.
pub async fn describe(control: &Control, id: Option<Id>) -> Result<Vec<Description>, Failure> {
    let Some(id) = id else {
        let Answer::Devices(devices) = control.execute(Command::ListDevices).await? else {
            unreachable!("a list is answered with a list");
        };
        let mut found = Vec::new();
        for device in devices {
            // One that is removed meanwhile is left out.
            found.extend(describe_one(control, Id::Dev(device.dev)).await.ok());
        }
        return Ok(found);
    };
    Ok(vec![describe_one(control, id).await?])
}

async fn describe_one(control: &Control, id: Id) -> Result<Description, Failure> {
    let device = control.device(&id)?;
    let status = Command::DevStatus { id, slot: Slot::Live };
    let Answer::Status(status) = control.execute(status).await? else {
        return Err(Errno::INVAL.into());
    };
    let limits = device.limits();
    Ok(Description {
        name: status.name,
        uuid: status.uuid.unwrap_or_default(),
        major: status.dev.major,
        minor: status.dev.minor,
        open_count: status.open_count,
        event_nr: status.event_nr,
        state: if status.suspended { "SUSPENDED" } else { "ACTIVE" }.to_owned(),
        suspended: status.suspended,
        read_only: status.read_only,
        read_ahead: status.read_ahead.map(|sectors| sectors.0),
        size: device.size().0,
        targets: status.target_count,
        tables: Tables { live: status.live_present, inactive: status.inactive_present },
        alignment_offset: if limits.misaligned { -1 } else { limits.alignment_offset.into() },
        limits: QueueLimits::from(&limits),
        failing: failing(&device),
        faults: device.fault_report().as_ref().map(FaultSummary::of),
    })
}

fn failing(device: &MappedDevice) -> Vec<Failing> {
    let live = device.live();
    let devices = live.iter().flat_map(|table| table.devices());
    let failing = devices.filter(|open| open.fails() != Fails::Nothing).map(|open| {
        let DevNumber { major, minor } = open.number();
        Failing { major, minor, fails: open.fails() }
    });
    failing.collect()
}
