//! The bodies of the fuzz targets.
//!
//! Each takes bytes, and panics when something does not hold that must. cargo-fuzz makes the
//! bytes; on a stable toolchain the tests of this crate replay the seeds in `seeds/`, and then
//! inputs made from them by chance. [`metadata`] is one for any target: give it your registry.

#![forbid(unsafe_code)]

mod bios;
mod bytes;
mod container;
mod control;
mod disks;
mod file;
mod frames;
mod ioctl;
mod log_writes;
mod metadata;
mod partitions;
mod requests;
mod signatures;
mod table;
mod threads;
mod whole;

pub use bios::bios;
pub use container::container;
pub use control::control_plane;
pub use disks::Disks;
pub use file::file;
pub use frames::frames;
pub use ioctl::ioctl;
pub use log_writes::log_writes;
pub use metadata::{metadata, metadata_of_ours};
pub use partitions::partitions;
pub use requests::requests;
pub use signatures::signatures;
pub use table::{table_parse, table_text};
pub use threads::control_threads;
pub use whole::{devices, image, opened, whole};
