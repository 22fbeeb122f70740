//! Snapshots, their origin, and merges, over simulated disks.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without")]

mod below;
mod crash;
mod damage;
#[path = "../data/images.rs"]
mod images;
mod kernel;
mod merge;
mod sizes;
mod stack;
mod threads;
mod work;
