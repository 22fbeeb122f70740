//! What lies on what.

use std::collections::{BTreeMap, BTreeSet};

use backing::{Attached, Lost};
use daemon::describe::{FaultSummary, Tables};
use daemon::{Description, Failing, Fault};
use serde::Serialize;
use sim_core::control::{Answer, Command, Id, Report, Slot};
use sim_core::{DevNumber, Fails, KeyText};

use crate::device_mapper::DeviceMapper;
use crate::size::in_bytes;
use daemon::mangle;

/// A device, and what it maps onto.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its number.
    #[serde(flatten)]
    pub dev: DevNumber,
    /// In sectors; as JSON in bytes.
    #[serde(rename = "size_bytes", serialize_with = "in_bytes")]
    pub size: u64,
    /// A mapped device, or an image.
    #[serde(flatten)]
    pub kind: NodeKind,
    /// What of it is made to fail for the device above, if anything is.
    pub fails: Option<Fails>,
    /// The faults that are armed for its users, if any are.
    pub faults: Option<FaultSummary>,
    /// What the live table has open, in its order.
    pub below: Vec<Node>,
}

/// What a device is.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NodeKind {
    /// A mapped device.
    #[serde(rename = "device")]
    Targets {
        /// Types of the live table's targets, each once.
        #[serde(rename = "target_types")]
        targets: Vec<String>,
        /// Whether it is suspended.
        suspended: bool,
        /// Which of its tables are there.
        tables: Tables,
    },
    /// An image.
    #[serde(rename = "image")]
    File {
        /// The file behind it.
        file: String,
        /// Whether writes are refused.
        read_only: bool,
        /// Why it fails all I/O, if it does.
        fault: Option<String>,
        /// Why its path leads to the file no more, if so.
        #[serde(rename = "file_lost")]
        lost: Option<Lost>,
    },
}

/// Lays everything out from the tops down. A device under two others comes twice.
///
/// # Errors
/// Where the device-mapper cannot be asked.
pub fn stack(dm: &mut dyn DeviceMapper) -> Result<Vec<Node>, Fault> {
    let (images, devices) = (dm.images()?, dm.describe()?);
    let mut parts = Parts { images, mapped: BTreeMap::new() };
    for device in devices {
        let dev = DevNumber { major: device.major, minor: device.minor };
        let deps = Command::TableDeps { id: Id::Dev(dev), slot: Slot::Live };
        let table = Command::TableStatus {
            id: Id::Dev(dev),
            report: Report::Table,
            slot: Slot::Live,
            device_names: false,
            keys: KeyText::Zeros,
        };
        // One that is removed meanwhile is left out.
        if let (Ok(Answer::Deps(below)), Ok(Answer::Table(_, lines))) =
            (dm.control(deps)?, dm.control(table)?)
        {
            let mut targets: Vec<String> = Vec::new();
            for line in lines {
                if !targets.contains(&line.target_type) {
                    targets.push(line.target_type);
                }
            }
            parts.mapped.insert(dev, Mapped { device, targets, below });
        }
    }
    Ok(parts.roots())
}

struct Parts {
    images: Vec<Attached>,
    mapped: BTreeMap<DevNumber, Mapped>,
}

struct Mapped {
    device: Description,
    targets: Vec<String>,
    below: Vec<DevNumber>,
}

impl Parts {
    /// Mapped devices that no other maps onto, then images that none maps onto.
    fn roots(&self) -> Vec<Node> {
        let used: BTreeSet<DevNumber> =
            self.mapped.values().flat_map(|mapped| mapped.below.iter().copied()).collect();
        let tops = self.mapped.keys().chain(self.images.iter().map(|image| &image.number));
        tops.filter(|dev| !used.contains(dev)).map(|dev| self.node(*dev)).collect()
    }

    fn node(&self, dev: DevNumber) -> Node {
        if let Some(Mapped { device, targets, below }) = self.mapped.get(&dev) {
            return Node {
                name: mangle::decode(&device.name),
                dev,
                size: device.size,
                kind: NodeKind::Targets {
                    targets: targets.clone(),
                    suspended: device.suspended,
                    tables: device.tables.clone(),
                },
                fails: None,
                faults: device.faults,
                below: below.iter().map(|dev| self.node_below(device, *dev)).collect(),
            };
        }
        let image = self.images.iter().find(|image| image.number == dev);
        Node {
            name: image.map_or("?".to_owned(), |i| i.name.clone().unwrap_or(i.kernel_name.clone())),
            dev,
            size: image.map_or(0, |image| image.size.0),
            kind: NodeKind::File {
                file: image.map_or(String::new(), |image| image.path.display().to_string()),
                read_only: image.is_some_and(|image| image.access.is_read_only()),
                fault: image.and_then(|image| image.fault.clone()),
                lost: image.and_then(|image| image.lost),
            },
            fails: None,
            faults: None,
            below: Vec::new(),
        }
    }

    fn node_below(&self, above: &Description, dev: DevNumber) -> Node {
        Node { fails: Failing::of(&above.failing, dev), ..self.node(dev) }
    }
}
