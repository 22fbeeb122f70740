//! Targets that are made for tests, beyond what the conformance suite asks of all: what their clocks,
//! messages and logs do.

#[path = "../data/images.rs"]
mod images;

mod blocks;
mod clocks;
mod logs;
mod rig;
