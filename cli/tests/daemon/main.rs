//! The daemon's life: how it starts and ends, what it keeps on record, and whom it survives.
//!
//! Each test has an instance of its own, and needs /dev/fuse; without it, it prints that it was
//! skipped, or fails where `CI` is set.

#![allow(clippy::unwrap_used, reason = "a helper of a test that cannot go on may panic")]

mod clients;
mod events;
mod harness;
mod json;
mod life;
mod merges;
mod messages;
mod overlaps;
mod places;
mod record;
mod seeing;
mod stack;
mod top;
mod tracing;
