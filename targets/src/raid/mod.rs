//! `raid`: several legs as one device that outlives some of them, as dm-raid makes it of md.
//!
//! Without any I/O there are what lies where, the superblock and the write-intent bitmap of a metadata
//! device, and how a set starts from what its superblocks say. `set` is a set in use.
//!
//! The formats are those of dm-raid 1.15.1, on each metadata device by itself: a superblock in the
//! first logical block, a bitmap from byte 4096 on. A journal has a device of its own.

pub mod bitmap;
pub mod journal;
pub mod layout;
#[cfg(test)]
mod recorded;
mod set;
pub mod start;
pub mod superblock;

pub use set::Raid;
