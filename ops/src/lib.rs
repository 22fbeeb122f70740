//! What people do with device-mapper and what takes several of its operations, in an order that
//! matters and with a way back from each: snapshots, merges, mirrors, paths, RAID sets, containers, file systems.
//!
//! Each is a function of a [`DeviceMapper`]: an instance's daemon (`daemon::Client` is one), or a
//! control plane in this process. Nothing here prints, or asks on a terminal: results are values,
//! [`Watch`] is shown how far something is, [`open::KeyHolder`] knows passphrases.

#![forbid(unsafe_code)]

mod commands;
pub mod crash;
mod device_mapper;
mod devices;
pub mod disk;
pub mod faults;
mod files;
pub mod mirror;
pub mod mount;
pub mod multipath;
pub mod open;
pub mod partitions;
mod parts;
pub mod raid;
#[cfg(test)]
mod rig;
pub mod see;
pub mod size;
pub mod snapshot;
pub mod stack;
mod turn;
mod watch;
mod words;

pub use device_mapper::{DeviceMapper, Turn};
pub use devices::{behind, holders, is_part, overlap_text, way_to_unmount, ways_to_unmount};
pub use stack::{Node, NodeKind, stack};
pub use watch::{INTERRUPTED, Progress, Watch, unless_interrupted};
