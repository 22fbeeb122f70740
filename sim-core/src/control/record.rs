//! What is needed to build devices again, and whoever writes it down.

use serde::{Deserialize, Serialize};

use super::cell::Cell;
use super::command::{Node, Slot};
use crate::table::TextStyle;
use crate::{
    Access, BoxFuture, DevNumber, DeviceStyle, KeyText, Sectors, StatusKind, Table, TargetSpec,
};

/// Everything that is needed to build a device again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name, mangled.
    pub name: String,
    /// The uuid, if it has one.
    pub uuid: Option<String>,
    /// The minor number.
    pub minor: u32,
    /// The live table.
    pub live: Option<RecordedTable>,
    /// The inactive table.
    pub inactive: Option<RecordedTable>,
    /// It was suspended.
    pub suspended: bool,
    /// The read-ahead, where it was set.
    pub read_ahead: Option<Sectors>,
    /// Mode and owner of its file.
    pub node: Node,
}

/// A table as it is kept to be loaded again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedTable {
    /// Whether it was loaded read-only.
    pub access: Access,
    /// Its lines.
    pub targets: Vec<TargetSpec>,
    /// Keys were left out of the lines ([`KeyText::LeftOut`]), and have to be asked for again.
    #[serde(default)]
    pub without_keys: bool,
    /// The devices that it maps onto, which have to be built before it.
    #[serde(default)]
    pub below: Vec<DevNumber>,
    /// A target of it changes the devices below by itself: it is built after all others.
    #[serde(default)]
    pub changes_below: bool,
}

impl RecordedTable {
    /// Nothing where a target panics.
    fn of(table: &Table) -> Option<RecordedTable> {
        let text = TextStyle { devices: DeviceStyle::Number, keys: KeyText::LeftOut };
        let (targets, without_keys) = table.status(StatusKind::Table, text).ok()?;
        Some(RecordedTable {
            access: table.access(),
            targets,
            without_keys,
            below: table.devices().map(|open| open.number()).collect(),
            changes_below: table.changes_below(),
        })
    }
}

/// Writes down what the control plane changes, so that it can be built again.
pub trait Recorder: Send + Sync {
    /// Takes note of a device as it is now, or that the one with this minor is gone.
    ///
    /// Called in the order of the changes, with the control plane's lock held: it must neither
    /// wait nor ask the control plane for anything.
    fn note(&self, minor: u32, device: Option<Noted<'_>>);

    /// Makes durable what was noted before the call. The error says what could not be done; the
    /// changes are made all the same.
    fn commit(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// A recorder that keeps nothing.
pub struct NoRecord;

impl Recorder for NoRecord {
    fn note(&self, _minor: u32, _device: Option<Noted<'_>>) {}
    fn commit(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A device as a [`Recorder`] is shown it.
pub struct Noted<'a> {
    /// The name, mangled.
    pub name: &'a str,
    /// The uuid, if it has one.
    pub uuid: Option<&'a str>,
    /// The live table.
    pub live: Option<NotedTable<'a>>,
    /// The inactive table.
    pub inactive: Option<NotedTable<'a>>,
    /// It is suspended.
    pub suspended: bool,
    /// The read-ahead, where it was set.
    pub read_ahead: Option<Sectors>,
    /// Mode and owner of its file.
    pub node: Node,
}

/// A table as a [`Recorder`] is shown it.
#[derive(Clone, Copy)]
pub struct NotedTable<'a>(&'a Table);

impl NotedTable<'_> {
    /// Returns a number that no other table of this process has, and that the table changes
    /// together with its text: what was written under it is good for as long as it stays.
    pub fn revision(&self) -> u64 {
        self.0.revision()
    }

    /// Writes the table's text, at the cost of its length; nothing where a target panics.
    pub fn record(&self) -> Option<RecordedTable> {
        RecordedTable::of(self.0)
    }
}

impl Cell {
    /// Shows the device to a recorder.
    pub(super) fn note(&self, recorder: &dyn Recorder) {
        let live = self.device.live();
        recorder.note(
            self.device.minor(),
            Some(Noted {
                name: &self.name,
                uuid: self.uuid.as_deref(),
                live: live.as_deref().map(NotedTable),
                inactive: self.inactive.as_deref().map(NotedTable),
                suspended: self.device.is_suspended(),
                read_ahead: self.read_ahead,
                node: self.node,
            }),
        );
    }

    pub(super) fn record(&self) -> Record {
        let table = |slot| self.table(slot).and_then(|table| RecordedTable::of(&table));
        Record {
            name: self.name.clone(),
            uuid: self.uuid.clone(),
            minor: self.device.minor(),
            live: table(Slot::Live),
            inactive: table(Slot::Inactive),
            suspended: self.device.is_suspended(),
            read_ahead: self.read_ahead,
            node: self.node,
        }
    }
}
