//! Shows the mapped devices of an instance as block nodes, for programs that know nothing of
//! dmsim.
//!
//! A block node is the first partition of a disk, as the node's number has to be known before there is
//! a table, so before the disk holds anything: a partition keeps its number while its disk comes to hold
//! something else. [`Nodes`] reserves, shows and removes such nodes. There are two providers:
//!
//! - [`Ublk`], where the kernel has that driver: this process is asked for each request, and hands it
//!   to the mapped device ([`Content`]).
//! - Loop devices elsewhere, over the mapped device's file in the instance's FUSE mount.
//!
//! All that opens a disk or a file of the mount is done by a helper process, which runs [`serve`]:
//! whoever serves one must never open it, as it would wait for itself, and could not be killed.
//!
//! [`Tree`] is what programs see of these nodes: a `/dev`, a `/sys/dev/block`, a `/sys/block` and a
//! `/proc/devices` of their own, to be bound over those of the host in a private mount namespace.

#![deny(unsafe_code)]

mod client;
mod helper;
#[allow(unsafe_code, reason = "an ioctl is asked for by its number")]
mod ioctls;
mod node;
mod special;
mod tree;
mod ublk;
mod wire;
mod within;

/// The first loop device that is tried, `N` of `loopN`: none of those that programs ask for, as the
/// kernel gives them the lowest number.
pub const FIRST_DISK: u32 = 1 << 16;

/// The partition's number on its disk.
const PARTITION: u32 = 1;

pub use client::{ANSWER_WITHIN, Nodes, SYNCED_WITHIN};
pub use helper::serve;
pub use node::{Error, Node, Shown, Whole};
pub use tree::{Facts, OLD_NAME_LASTS, Tree};
pub use ublk::{Asker, Content, Io, ORPHANS_LAST, Orphans, Owner, Reply, Ublk, has_left};
pub use within::{Ids, Within, held};
