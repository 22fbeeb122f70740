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
//! `image/guard.rs`. All unsafe code of the crate is there, in `mapping.rs` beside it, and in two files of
//! calls to the system that nobody offers a safe face of: `fuse_device.rs`, the one that the FUSE front
//! end cannot make without, and `semaphores.rs`, by which programs tell each other that udev is done.

#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "an ioctl is asked for by its number")]
mod fuse_device;
mod image;
mod images;
mod runtime;
#[allow(unsafe_code, reason = "the C library's calls about semaphores, and its local time")]
mod semaphores;
mod sync;
#[cfg(test)]
mod tests;

pub use fuse_device::clone_fuse_device;
pub use image::attach::{Attach, AttachError, Attached, NotFlushed};
pub use image::memory::Memory;
pub use image::path::Lost;
pub use images::{ImageChange, Images, machine_has, mount_number};
pub use runtime::block_on::{Cancel, block_on, block_on_or};
pub use runtime::pool::Pool;
pub use semaphores::{ListedSemaphore, Semaphore, local_time};
