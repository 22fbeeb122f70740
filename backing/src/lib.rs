//! What dmsim maps onto in the real world: image files, memory, and the threads and clock that
//! carry bios out.
//!
//! [`Images`] holds the images that are attached to an instance and finds them for its tables;
//! [`Memory`] is a device that lies in RAM; [`Pool`] runs the tasks of the core; [`block_on`]
//! lets a front end wait for one.
//!
//! An image is read through a mapping and written by `pwrite`, so that no page of it is ever
//! dirtied by a store: a full disk is an error of the write, not a signal. What can happen to a
//! mapping behind our back (the image is truncated, its disk fails) is caught by the guard in
//! `guard.rs`. All unsafe code of the crate is there, in `mapping.rs`, and in `fuse_device.rs`,
//! which has the one call to the system that the FUSE front end cannot make without.

#![deny(unsafe_code)]

mod attach;
mod block_on;
mod blocking;
mod flusher;
#[allow(unsafe_code, reason = "an ioctl is asked for by its number")]
mod fuse_device;
#[allow(unsafe_code, reason = "a signal handler is installed, runs, and touches memory")]
mod guard;
mod health;
mod image;
mod images;
mod key_ring;
#[allow(unsafe_code, reason = "memory that may go at any time is copied from")]
mod mapping;
mod memory;
mod numbering;
mod opening;
mod pool;
mod space;
mod sync;
mod task;
#[cfg(test)]
mod tests;
mod timer;

pub use attach::{Attach, AttachError, Attached};
pub use block_on::{Cancel, block_on, block_on_or};
pub use fuse_device::clone_fuse_device;
pub use images::{ImageChange, Images};
pub use memory::Memory;
pub use pool::Pool;
