//! The core of dmsim: what device-mapper is, without anything that runs it.
//!
//! A [`Target`] says where a [`Bio`] goes; a [`Table`] puts targets in their places; a
//! [`MappedDevice`] has a live table and lets bios through it; [`Control`] holds the devices of an
//! instance and carries out the operations of the device-mapper ioctl interface on them.
//!
//! This crate opens no file, starts no thread, reads no clock and has no unsafe code. What it
//! needs of the world comes through [`BlockDevice`], [`Runtime`], [`Backing`] and [`KernelLog`];
//! production and simulation differ in nothing else.

#![forbid(unsafe_code)]

mod area;
mod args;
mod barrier;
mod bio;
mod buffer;
pub mod control;
mod device;
mod error;
mod event;
mod extent;
mod gate;
mod graph;
mod limits;
mod mapped;
mod numbers;
mod open;
mod routes;
mod runtime;
mod sector;
mod shared;
mod signal;
mod sync;
mod table;
mod target;
#[cfg(test)]
mod tests;

pub use area::{Area, Submission};
pub use args::{Arg, Args, CtrError, split_words};
pub use barrier::{Locked, Panic, panic_text};
pub use bio::{Bio, Flags, Op};
pub use buffer::Buffer;
pub use control::{Backing, Control};
pub use device::{Access, Allocation, BlockDevice, DM_MAJOR, DevNumber};
pub use error::{BlkError, BlkResult, Errno};
pub use event::{Events, TargetEvents};
pub use futures_util::future::BoxFuture;
pub use gate::{Gate, Gone, Pass};
pub use limits::{Limits, Misaligned};
pub use mapped::{Held, MappedDevice};
pub use numbers::FreeNumbers;
pub use open::{Fails, OpenDevice};
pub use routes::Routes;
pub use runtime::{Half, KernelLog, NoLog, Runtime, TargetLog};
pub use sector::{SECTOR_SHIFT, SECTOR_SIZE, Sector, Sectors};
pub use signal::{Outcome, Signal};
pub use table::{
    BadLine, MAX_DEPTH, MAX_TABLE_LEN, MAX_TARGETS, Params, Table, TableError, TargetSpec,
    TextStyle, hide_keys, parse_table,
};
pub use target::{
    AnyTargetType, DeviceStyle, End, Features, Flat, KeyText, Mapped, Profile, Registry, Reply,
    StatusKind, StatusWriter, Target, TargetType, reply,
};
