//! What is to be made: devices, each with its table.

use sim_core::TargetSpec;

/// A device that is to be made over others.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its name, as people write it.
    pub name: String,
    /// Its uuid, as libdevmapper's users write it: who made it, what it is.
    pub uuid: String,
    /// Its table.
    pub lines: Vec<TargetSpec>,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Devices without which it must not be written: the snapshots of an origin.
    pub read_only_without: Vec<String>,
    /// Whether it is there for people, and not as a part of another.
    pub shown: bool,
}

impl Layer {
    /// Lists the names of the mapped devices that it lies on, as far as they need no escapes.
    pub fn lies_on(&self) -> impl Iterator<Item = &str> {
        let words = self.lines.iter().flat_map(|line| line.params.split(' '));
        words.filter_map(|word| word.strip_prefix("/dev/mapper/"))
    }
}
