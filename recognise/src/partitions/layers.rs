//! The devices that partitions become.

use sim_core::{Sector, TargetSpec};
use targets::lines::{DeviceWord, Place, linear};

use super::{Partition, Table};
use crate::Layer;

/// Returns a device for each partition that holds data, over `on`, which is what the table lies on. They are
/// named as the kernel names partitions: `base` and the number, with a `p` between two digits.
pub fn layers(table: &Table, on: &DeviceWord, base: &str) -> Vec<Layer> {
    let with_data = table.partitions.iter().filter(|partition| partition.holds_data());
    with_data.map(|partition| layer(partition, on, base)).collect()
}

fn layer(partition: &Partition, on: &DeviceWord, base: &str) -> Layer {
    let number = partition.number;
    let between = if base.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    let line = linear::Line { place: Place { device: on.clone(), start: partition.start } };
    let spec = TargetSpec {
        start: Sector(0),
        len: partition.sectors,
        target_type: "linear".to_owned(),
        params: line.to_string().into(),
    };
    Layer {
        name: format!("{base}{between}{number}"),
        uuid: format!("DMSIM-PART{number}-{base}"),
        lines: vec![spec],
        read_only: partition.is_cut,
        read_only_without: Vec::new(),
        shown: true,
    }
}
