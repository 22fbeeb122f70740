//! The whole program against the real world: real images, a real mount, real file systems.
//!
//! Each test has an instance of its own. One that lacks a tool prints what it skipped; where `CI`
//! is set it fails instead.

mod article;
mod containers;
mod crash;
mod cryptsetup;
mod disks;
mod faults;
mod filesystems;
mod fio;
mod harness;
mod hostile;
#[path = "../../../targets/tests/data/images.rs"]
mod images;
mod keys;
mod mirrors;
mod mounts;
mod multipath;
mod openings;
mod power_cuts;
mod raid;
mod refusals;
mod snapshots;
mod stacks;
mod stores;
mod users;
