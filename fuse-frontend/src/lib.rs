//! Shows the mapped devices of a control plane as regular files in a FUSE mount.
//!
//! One flat directory with one file for each device, as large as the device's table. A
//! [`Frontend`] is such a mount. The parts, from the kernel inwards: `mount` makes and ends the
//! mount, `fs` translates what the kernel asks, `files` knows which inode and which open file is
//! which device, and [`request`] carries out one request on a device.
//!
//! # What a client sees
//! - A read or a write may begin and end at any byte. What does not fill whole logical blocks is
//!   read, changed and written back, with whole-block writes to the same device kept out
//!   meanwhile, so that neither undoes the other. Requests by another way to the same sectors (a
//!   second device over the same image) are not kept out, as on block devices.
//! - Reading past the end gives what there is; writing past it, [`NOSPC`](sim_core::Errno::NOSPC)
//!   or a short write. A device without write access opens for writing, and refuses each write
//!   with [`PERM`](sim_core::Errno::PERM), as a block device does.
//! - The size is the table's. `O_TRUNC` is ignored, and so is `truncate(2)` to no bytes, which
//!   cannot be told from it; any other change of the size is refused. A program that reads by
//!   asynchronous direct I/O sees a device that has grown when somebody has asked for its size.
//! - A suspended device holds its requests, and nothing else waits for them. The client sleeps in
//!   the kernel until the resume and cannot be killed before it: `fuser` answers FUSE_INTERRUPT
//!   with ENOSYS, after which Linux waits for the reply whatever the signal, as a reader of a
//!   suspended `/dev/dm-0` does. [`MappedDevice::fail_held`](sim_core::MappedDevice::fail_held)
//!   ends the wait.
//! - A file of a device that is removed stays the file of that device: it fails with
//!   [`NODEV`](sim_core::Errno::NODEV), also when another device has its number by then.
//! - A file is at most [`request::MAX_SIZE`] bytes long, which is as long as a table can be.

#![forbid(unsafe_code)]

mod files;
mod frontend;
mod fs;
mod invalidate;
mod mount;
mod ranges;
mod reply;
pub mod request;
mod task;

pub use files::User;
pub use frontend::{Busy, Frontend, Options};
pub use mount::{MountError, clean_dead_mount};
pub use task::Tasks;
