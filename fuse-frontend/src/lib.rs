//! Shows the mapped devices of a control plane as regular files in a FUSE mount.
//!
//! One flat directory with one file for each device, as large as the device's table. A
//! [`Frontend`] is such a mount. The parts, from the kernel inwards: `mount` makes and ends the
//! mount, `dev_fuse` carries requests between the kernel and the files, [`wire`] is their form on
//! the way, [`files`] carries them out and knows nothing of the other three, and
//! [`request`] is the part of that which does one request on one device.
//!
//! A second transport calls [`files::Service`] with what [`wire`] decodes, as `dev_fuse` does, and
//! changes nothing of the files.
//!
//! # What a client sees
//! - A read or a write may begin and end at any byte. What does not fill whole logical blocks is
//!   read, changed and written back, with whole-block writes to the same device kept out
//!   meanwhile, so that neither undoes the other. Requests by another way to the same sectors (a
//!   second device over the same image) are not kept out, as on block devices.
//! - Reading past the end gives what there is; writing past it, [`NOSPC`](sim_core::Errno::NOSPC)
//!   or a short write. A device without write access opens for writing, and refuses each write
//!   with [`PERM`](sim_core::Errno::PERM), as a block device does.
//! - The size is the table's. A truncation sets a virtual end for the open file that made it: where
//!   that file then writes behind it, is truncated to more, or has room allocated, the gap reads as
//!   zeros first. Reads, other open files and shared mappings never meet that end, and what lies
//!   behind it stays as it is. Past the device's end it is [`FBIG`](sim_core::Errno::FBIG).
//!   `truncate(2)` is refused, as it belongs to no open file. A program that reads by asynchronous
//!   direct I/O sees a device that has grown when somebody has asked for its size.
//! - With `O_DIRECT`, reads and writes are of whole sectors, as on a block device.
//! - A suspended device holds its requests, and nothing else waits for them. A client that is
//!   killed while it waits dies: its request is given up where nothing of it can have reached an
//!   image, that is where the device itself is suspended, or only remaps onto devices that are.
//!   Deeper in a stack it waits for the resume, or for
//!   [`MappedDevice::fail_held`](sim_core::MappedDevice::fail_held), as what was begun must not
//!   write to an image when others have come after it. Signals that do not kill break nothing
//!   off, as with any regular file; nor does any signal of a client in a process namespace that
//!   cannot be seen from here.
//! - A request that panics here fails with an I/O error and a line in the log, and alone.
//! - A file of a device that is removed stays the file of that device: it fails with
//!   [`NODEV`](sim_core::Errno::NODEV), also when another device has its number by then.
//! - A file is at most [`request::MAX_SIZE`] bytes long, which is as long as a table can be.

#![forbid(unsafe_code)]

mod dev_fuse;
pub mod files;
mod frontend;
mod invalidate;
mod mount;
pub mod node;
mod options;
mod served;
pub mod wire;

pub use files::{Tasks, User, request};
pub use frontend::Frontend;
pub use mount::{MountError, NO_FUSE, NO_FUSERMOUNT, clean_dead_mount};
pub use options::{Busy, Options};
