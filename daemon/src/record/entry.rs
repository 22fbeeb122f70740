//! What the record says: one entry a line.

use std::path::PathBuf;

use backing::{Attach, Attached};
use serde::{Deserialize, Serialize};
use sim_core::control::{Node, RecordedTable};
use sim_core::{Access, DevNumber, Sectors, TargetSpec};

/// The number of a table, a device or an image in one record: never given twice.
pub(super) type EntryId = u64;

/// One entry: what changed. It makes sense after all those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The text of a table, which devices name by its id.
    Table(TableEntry),
    /// A device as it is from now on.
    Device(DeviceEntry),
    /// An image that is attached.
    Image(ImageEntry),
    /// The device or the image with this id is gone.
    Gone(EntryId),
    /// A daemon started: what was there is past from here on.
    Started(Started),
    /// All that is past was dropped from the record.
    Forgotten(Forgotten),
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableEntry {
    pub(super) id: EntryId,
    access: Access,
    targets: Vec<TargetSpec>,
    #[serde(default, skip_serializing_if = "is_false")]
    without_keys: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    below: Vec<DevNumber>,
    #[serde(default, skip_serializing_if = "is_false")]
    changes_below: bool,
}

impl TableEntry {
    pub(super) fn new(id: EntryId, table: RecordedTable) -> TableEntry {
        let RecordedTable { access, targets, without_keys, below, changes_below } = table;
        TableEntry { id, access, targets, without_keys, below, changes_below }
    }

    pub(super) fn table(self) -> RecordedTable {
        let TableEntry { id: _, access, targets, without_keys, below, changes_below } = self;
        RecordedTable { access, targets, without_keys, below, changes_below }
    }
}

/// A device, its tables by their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeviceEntry {
    pub(super) id: EntryId,
    pub(super) minor: u32,
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) uuid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) live: Option<EntryId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inactive: Option<EntryId>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) suspended: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) read_ahead: Option<Sectors>,
    pub(super) node: Node,
    /// It is not there: it is what a restore has left of a device from before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) past: bool,
}

/// An image, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageEntry {
    pub(super) id: EntryId,
    #[serde(flatten)]
    pub(super) image: ImageRecord,
    /// It is not there: it is from before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) past: bool,
}

/// The start of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    /// Its process.
    pub(super) pid: u32,
}

/// What is past was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Forgotten {}

fn is_false(value: &bool) -> bool {
    !value
}

/// An attached image, as it can be attached again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// The file, from the root on.
    pub(crate) path: PathBuf,
    /// The number.
    pub(crate) dev: DevNumber,
    /// The name that table lines use, if it was given one.
    pub(crate) name: Option<String>,
    /// Whether it may be written to.
    pub(crate) access: Access,
    /// The size of a logical block, in bytes.
    pub(crate) sector_size: u32,
    /// Whether it is a block device of the machine, and was asked for as one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) host_device: bool,
}

impl ImageRecord {
    /// Returns what to ask for to have it again.
    pub(crate) fn attach(&self) -> Attach {
        Attach {
            path: self.path.clone(),
            name: self.name.clone(),
            number: Some(self.dev),
            access: self.access,
            sector_size: self.sector_size,
            create: None,
            preallocate: false,
            host_device: self.host_device,
        }
    }
}

impl From<&Attached> for ImageRecord {
    fn from(image: &Attached) -> ImageRecord {
        ImageRecord {
            path: image.path.clone(),
            dev: image.number,
            name: image.name.clone(),
            access: image.access,
            sector_size: image.sector_size,
            host_device: image.host_device,
        }
    }
}

impl Entry {
    /// Writes the entry as a member of a JSON object: its kind, and what is said of it.
    pub(super) fn body(&self) -> serde_json::Result<String> {
        fn member(kind: &str, value: &impl Serialize) -> serde_json::Result<String> {
            Ok(format!("\"{kind}\":{}", serde_json::to_string(value)?))
        }
        match self {
            Entry::Table(table) => member("table", table),
            Entry::Device(device) => member("device", device),
            Entry::Image(image) => member("image", image),
            Entry::Gone(id) => member("gone", id),
            Entry::Started(started) => member("started", started),
            Entry::Forgotten(forgotten) => member("forgotten", forgotten),
        }
    }

    /// Reads what [`body`](Self::body) writes. The error says what is wrong with it.
    pub(super) fn read(body: &str) -> Result<Entry, String> {
        let split = body.strip_prefix('"').and_then(|rest| rest.split_once("\":"));
        let (kind, value) = split.ok_or("expected an entry")?;
        let entry = match kind {
            "table" => serde_json::from_str(value).map(Entry::Table),
            "device" => serde_json::from_str(value).map(Entry::Device),
            "image" => serde_json::from_str(value).map(Entry::Image),
            "gone" => serde_json::from_str(value).map(Entry::Gone),
            "started" => serde_json::from_str(value).map(Entry::Started),
            "forgotten" => serde_json::from_str(value).map(Entry::Forgotten),
            _ => return Err(format!("unknown entry `{kind}`")),
        };
        entry.map_err(|error| format!("{kind}: {error}"))
    }
}
