//! Shows the mapped devices of an instance as block nodes, for programs that know nothing of
//! dmsim.
//!
//! A mapped device is a regular file of the instance's FUSE mount. Its block node is the first
//! partition of a loop device over that file, as the node's number has to be known before there is
//! a table, so before the file holds anything: a partition keeps its number while its loop device
//! is put over another file. [`Nodes`] reserves, shows and removes such nodes. All of it is done by
//! a helper process, which runs [`serve`]: whoever serves a FUSE mount must never open a file of
//! it, as it would wait for itself, and could not be killed.
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
mod wire;

/// The first loop device that is tried, `N` of `loopN`: none of those that programs ask for, as the
/// kernel gives them the lowest number.
pub const FIRST_DISK: u32 = 1 << 16;

/// The partition's number on its disk.
const PARTITION: u32 = 1;

pub use client::{ANSWER_WITHIN, Nodes, SYNCED_WITHIN};
pub use helper::serve;
pub use node::{Error, Node, Shown};
pub use tree::{Facts, OLD_NAME_LASTS, Tree};
