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

mod block;
pub mod control;
mod ctr;
mod error;
mod fault;
mod graph;
mod mapped;
mod numbers;
mod registry;
mod rng;
mod spots;
mod stats;
mod sync;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod trace;

pub use block::area::Area;
pub use block::bio::{Bio, Flags, Op};
pub use block::buffer::Buffer;
pub use block::device::{
    Access, Allocation, BlockDevice, DM_MAJOR, DevNumber, LOOP_MAJOR, MAX_MINORS, MINOR_BITS,
};
pub use block::limits::{Limits, Misaligned};
pub use block::open::{Fails, OpenDevice, Submission};
pub use block::sector::{SECTOR_SHIFT, SECTOR_SIZE, Sector, Sectors};
pub use control::{Backing, Control, Found};
pub use ctr::args::Args;
pub use ctr::error::CtrError;
pub use ctr::routes::Routes;
pub use ctr::words::{Arg, Words, is_space, split_words};
pub use error::{BlkError, BlkResult, Errno, Refusal};
pub use fault::{
    Fate, FaultKind, FaultOp, FaultPlan, FaultRate, FaultReport, FaultRule, MAX_BITS, MAX_DELAY_MS,
    MAX_FAULT_RULES, MAX_STRIKES, RuleCount, RuleError, Seconds, Strike, Struck,
};
pub use futures_util::future::BoxFuture;
pub use graph::MAX_DEPTH;
pub use mapped::{Held, MappedDevice};
pub use numbers::FreeNumbers;
pub use registry::{AnyTargetType, Features, Registry, TargetType};
pub use rng::Rng;
pub use spots::{Located, Shown, Shows, Spot, Spots};
pub use sync::event::{Events, TargetEvents};
pub use sync::gate::{Gate, Gone, Pass};
pub use sync::panic::{Locked, Panic, panic_text};
pub use sync::runtime::{Half, KernelLog, NoLog, Runtime, TargetLog};
pub use sync::signal::{Outcome, Signal};
pub use table::{
    BadLine, MAX_TABLE_LEN, MAX_TARGETS, Params, Table, TableError, TableType, TargetSpec,
    TextStyle, hide_keys, parse_table,
};
pub use target::{
    DeviceStyle, Discarded, End, Flat, KeyText, Mapped, Profile, Reply, StatusKind, StatusWriter,
    Target, reply,
};
pub use trace::{MAX_TRACED, Step, Traced, TracedPage, Tracing};
