//! The operations of the control plane, and their answers: the `DM_*` ioctl commands as types.

use serde::{Deserialize, Serialize};

use crate::{
    Access, DevNumber, DeviceStyle, Errno, Fails, FaultPlan, FaultReport, Held, KeyText, Located,
    Params, Refusal, Sector, Sectors, Shows, TableError, TargetSpec,
};

/// Which mapped device an operation is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Id {
    /// By its name, as the kernel has it (mangled).
    Name(String),
    /// By its uuid.
    Uuid(String),
    /// By its number.
    Dev(DevNumber),
}

/// Which of a device's two tables an operation is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slot {
    /// The table in use.
    #[default]
    Live,
    /// The table that the next resume swaps in.
    Inactive,
}

/// What a rename changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewName {
    /// The name.
    Name(String),
    /// The uuid, which can be set once.
    Uuid(String),
}

/// What becomes of a device that is open when it is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenOpen {
    /// The removal fails.
    Refuse,
    /// It is removed when it is closed.
    Defer,
}

/// Which text of a table is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// How the targets are (`dmsetup status`), when they have committed what they have to.
    Status,
    /// How the targets are, as they are (`dmsetup status --noflush`).
    StatusNoFlush,
    /// What the targets were made from (`dmsetup table`).
    Table,
    /// What an integrity measurement takes down of the targets (`dmsetup measure`).
    Measure,
}

/// The file that shows a device: what a device node has besides its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Permission bits.
    pub mode: u32,
    /// Owner; the owner of the mount where none was given.
    pub uid: Option<u32>,
    /// Group; the group of the mount where none was given.
    pub gid: Option<u32>,
}

impl Default for Node {
    fn default() -> Node {
        Node { mode: 0o600, uid: None, gid: None }
    }
}

/// One operation of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// `DM_VERSION`.
    Version,
    /// `DM_REMOVE_ALL`: removes every device that is not open, until none is left.
    RemoveAll {
        /// What becomes of those that are open.
        open: WhenOpen,
    },
    /// `DM_LIST_DEVICES`.
    ListDevices,
    /// `DM_DEV_CREATE`: a device without a table.
    DevCreate {
        /// The name, mangled.
        name: String,
        /// The uuid, if it is to have one.
        uuid: Option<String>,
        /// The minor number; the lowest free one where none is given.
        minor: Option<u32>,
    },
    /// `DM_DEV_REMOVE`.
    DevRemove {
        /// The device.
        id: Id,
        /// What becomes of it if it is open.
        open: WhenOpen,
    },
    /// `DM_DEV_RENAME`.
    DevRename {
        /// The device.
        id: Id,
        /// What it is to be called.
        new: NewName,
    },
    /// `DM_DEV_SUSPEND` with the suspend flag set.
    DevSuspend {
        /// The device.
        id: Id,
        /// How bios that targets hold are treated.
        held: Held,
    },
    /// `DM_DEV_SUSPEND` with the suspend flag clear: swaps the inactive table in, if there is
    /// one, and resumes.
    DevResume {
        /// The device.
        id: Id,
        /// How bios that targets hold are treated, should it have to be suspended for the swap.
        held: Held,
    },
    /// `DM_DEV_STATUS`.
    DevStatus {
        /// The device.
        id: Id,
        /// Which table the target count and the read-only flag are of.
        slot: Slot,
    },
    /// `DM_DEV_WAIT`: waits until the event number is another than this.
    DevWait {
        /// The device.
        id: Id,
        /// The event number that is known already.
        event_nr: u32,
    },
    /// `DM_TABLE_LOAD`: fills the inactive slot.
    TableLoad {
        /// The device.
        id: Id,
        /// Whether the device may be written to with this table.
        access: Access,
        /// The table.
        targets: Vec<TargetSpec>,
        /// The directory that relative paths of images start from.
        base: String,
    },
    /// `DM_TABLE_CLEAR`: empties the inactive slot.
    TableClear {
        /// The device.
        id: Id,
    },
    /// `DM_TABLE_DEPS`.
    TableDeps {
        /// The device.
        id: Id,
        /// Which table.
        slot: Slot,
    },
    /// `DM_TABLE_STATUS`.
    TableStatus {
        /// The device.
        id: Id,
        /// Which text.
        report: Report,
        /// Which table.
        slot: Slot,
        /// Print devices by name instead of by number.
        device_names: bool,
        /// Print keys, or zeros in their place.
        keys: KeyText,
    },
    /// `DM_LIST_VERSIONS`.
    ListVersions,
    /// `DM_TARGET_MSG`.
    TargetMsg {
        /// The device.
        id: Id,
        /// A sector of the target that the message is for.
        sector: Sector,
        /// The message's words, in one text.
        message: Params,
        /// Which table's target; the kernel knows the live one alone.
        slot: Slot,
    },
    /// `DM_DEV_SET_GEOMETRY`.
    SetGeometry {
        /// The device.
        id: Id,
        /// Cylinders, heads, sectors and start, in one text.
        geometry: String,
    },
    /// `DM_DEV_ARM_POLL`: returns the number of events of all devices, to wait for the next.
    ArmPoll,
    /// `DM_GET_TARGET_VERSION`.
    GetTargetVersion {
        /// The target type.
        name: String,
    },
    /// Sets the read-ahead, in sectors (`BLKRASET` on a kernel device).
    SetReadAhead {
        /// The device.
        id: Id,
        /// The read-ahead.
        sectors: Sectors,
    },
    /// Makes what the tables of a device send to a device below fail, or no more (the kernel has
    /// nothing of the kind). It is not part of any table, and gone with the last of them.
    SetFails {
        /// The device whose tables are meant.
        id: Id,
        /// The device below.
        below: DevNumber,
        /// What fails from now on.
        fails: Fails,
    },
    /// Arms a plan of faults, or takes one away; answers with the one that is armed then, or was taken. As with
    /// [`SetFails`](Self::SetFails), it is not part of any table. One for a device below is gone with the last
    /// table that maps there, one for the users of the device with the device.
    SetFaults {
        /// The device.
        id: Id,
        /// The device below that its tables send to; none for what its users send to it.
        below: Option<DevNumber>,
        /// The plan; none takes the one away that is armed.
        plan: Option<FaultPlan>,
        /// Whether a plan that is armed may go for this one.
        replaces: bool,
    },
    /// Tells which plans of faults are armed, and what they have done.
    Faults {
        /// The device.
        id: Id,
    },
    /// Tells where a sector of the device lies, by its live table (the kernel has nothing of the kind).
    Locate {
        /// The device.
        id: Id,
        /// The sector.
        sector: Sector,
    },
    /// Tells which sectors of the device lie at a sector of a device below, by its live table.
    Shows {
        /// The device.
        id: Id,
        /// The device below.
        below: DevNumber,
        /// The sector there.
        sector: Sector,
    },
    /// Sets the mode and the owner of the device's file (`chmod` and `chown` of a kernel
    /// device's node).
    SetNode {
        /// The device.
        id: Id,
        /// What they are to be.
        node: Node,
    },
}

impl Command {
    /// Tells whether the operation changes what a [`Recorder`](super::Recorder) writes down.
    pub fn changes(&self) -> bool {
        match self {
            Command::RemoveAll { .. }
            | Command::DevCreate { .. }
            | Command::DevRemove { .. }
            | Command::DevRename { .. }
            | Command::DevSuspend { .. }
            | Command::DevResume { .. }
            | Command::TableLoad { .. }
            | Command::TableClear { .. }
            | Command::TargetMsg { .. }
            | Command::SetReadAhead { .. }
            | Command::SetNode { .. } => true,
            Command::Version
            | Command::ListDevices
            | Command::DevStatus { .. }
            | Command::DevWait { .. }
            | Command::TableDeps { .. }
            | Command::TableStatus { .. }
            | Command::ListVersions
            // A restart heals: nothing of it is on record.
            | Command::SetFails { .. }
            | Command::SetFaults { .. }
            | Command::Faults { .. }
            | Command::Locate { .. }
            | Command::Shows { .. }
            | Command::SetGeometry { .. }
            | Command::ArmPoll
            | Command::GetTargetVersion { .. } => false,
        }
    }
}

/// What most operations answer: what `struct dm_ioctl` carries back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevStatus {
    /// The name, mangled.
    pub name: String,
    /// The uuid, if it has one.
    pub uuid: Option<String>,
    /// The number.
    pub dev: DevNumber,
    /// How many users have it open.
    pub open_count: u32,
    /// The number of the last event.
    pub event_nr: u32,
    /// Targets in the table that was asked for.
    pub target_count: usize,
    /// `DM_SUSPEND_FLAG`.
    pub suspended: bool,
    /// `DM_READONLY_FLAG`.
    pub read_only: bool,
    /// `DM_ACTIVE_PRESENT_FLAG`.
    pub live_present: bool,
    /// `DM_INACTIVE_PRESENT_FLAG`.
    pub inactive_present: bool,
    /// `DM_DEFERRED_REMOVE`.
    pub deferred_remove: bool,
    /// The read-ahead; none before a table was loaded first, as there is no disk until then.
    pub read_ahead: Option<Sectors>,
    /// Where the device writes to what another one in use writes to as well: told once, by the resume
    /// that brings the second into use.
    pub overlap: Option<Overlap>,
    /// Rules of faults that are armed for its users, and for what its live table sends below. Nothing of the
    /// kernel's.
    pub fault_rules: usize,
}

/// Sectors that two mapped devices write to. That is legal, as it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// The other device's name, mangled.
    pub other: String,
    /// The device below that both map onto.
    pub below: DevNumber,
    /// What kernel messages call that.
    pub below_name: String,
    /// The first of the sectors there that both write to; there may be more after a gap.
    pub start: Sector,
    /// How many.
    pub len: Sectors,
}

/// One device of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The name, mangled.
    pub name: String,
    /// The uuid, if it has one.
    pub uuid: Option<String>,
    /// The number.
    pub dev: DevNumber,
    /// The number of the last event.
    pub event_nr: u32,
}

/// A target type and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetVersion {
    /// The word in table lines.
    pub name: String,
    /// Major, minor and patch level.
    pub version: [u32; 3],
}

/// What an operation answers when it succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing to say.
    Done,
    /// The version of the interface.
    Version([u32; 3]),
    /// The devices, by name.
    Devices(Vec<Listed>),
    /// The device as it is now.
    Status(DevStatus),
    /// The devices that a table has open.
    Deps(Vec<DevNumber>),
    /// The device, and the lines of the table that was asked for.
    Table(DevStatus, Vec<TargetSpec>),
    /// Target types.
    Versions(Vec<TargetVersion>),
    /// What a target answered to a message; none where it has nothing to say.
    Text(Option<String>),
    /// The number of events of all devices.
    Events(u32),
    /// Plans of faults, the one for the device's users first.
    Faults(Vec<FaultReport>),
    /// Where a sector lies.
    Located(Located),
    /// What lies at a sector below.
    Shows(Shows),
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What the ioctl would return.
    pub errno: Errno,
    /// What is wrong with the table, where that is why.
    pub table: Option<TableError>,
    /// The kernel's text for the fault, where it has one besides the errno.
    pub why: Option<String>,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure { errno, table: None, why: None }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure { errno: refusal.errno, table: None, why: refusal.why }
    }
}

impl From<TableError> for Failure {
    fn from(table: TableError) -> Failure {
        Failure { errno: table.errno, table: Some(table), why: None }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.table, &self.why) {
            (Some(table), _) => table.fmt(f),
            (None, Some(why)) => f.write_str(why),
            (None, None) => self.errno.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl Report {
    /// Which text of a target it is; none for a measurement, which is no status.
    pub(crate) fn kind(self) -> Option<crate::StatusKind> {
        match self {
            Report::Status | Report::StatusNoFlush => Some(crate::StatusKind::Info),
            Report::Table => Some(crate::StatusKind::Table),
            Report::Measure => None,
        }
    }
}

pub(crate) fn style(device_names: bool) -> DeviceStyle {
    if device_names { DeviceStyle::Name } else { DeviceStyle::Number }
}
