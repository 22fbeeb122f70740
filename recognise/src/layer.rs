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
    /// Whether it is there for people, and not as a part of another.
    pub shown: bool,
}
