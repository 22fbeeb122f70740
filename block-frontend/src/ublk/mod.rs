//! Block nodes by the ublk driver: this process is asked for each request, and hands it to a [`Content`].
//!
//! What is relied on, as Linux 6.12 does it:
//!
//! - A disk's size cannot be changed. So each is as long as a table can be, and the node is a partition of
//!   it, made by BLKPG, which is resized in use.
//! - A disk whose queue was begun by a thread without CAP_SYS_ADMIN is never looked at for partitions
//!   (GD_SUPPRESS_PART_SCAN), as a loop device is not: nothing is read when it is shown, and BLKRRPART does
//!   not take our partition away.
//! - A queue's commands are taken from the thread that has begun it, and no other ([`lane`]).
//! - A character device can be open once (EBUSY): whoever has it is the server, or takes the disk away.
//! - When a server is gone, its disks stay, quiesced; what was asked waits in the kernel, what had no answer
//!   too (USER_RECOVERY_REISSUE), until another server takes them over. A request may have been carried out
//!   already then: to write the same once more does no harm, as nothing that the asker ordered behind it has
//!   been begun.
//! - STOP_DEV waits until each request has been answered, so that those which may never be are failed first.
//!   DEL_DEV would wait for whoever has the disk open; its other form does not.
//!
//! The driver has no word for a read-only disk that can become writable, nor for a block size that changes:
//! the partition is made read-only (BLKROSET), and a [`Content`] takes requests of sectors, whatever
//! blocks it has.

mod content;
mod control;
mod disk;
mod format;
mod lane;
mod orphans;
mod queue;
mod record;
#[allow(unsafe_code, reason = "io_uring and mmap take memory by its address")]
mod ring;

pub use content::{Asker, Content, Io, Reply};
pub use disk::Ublk;
pub(crate) use orphans::Left;
pub use orphans::{ORPHANS_LAST, Orphans};
pub use record::Owner;

/// Tells whether a folder has disks on record that a daemon has left, which was killed.
pub fn has_left(dir: &std::path::Path) -> bool {
    record::Record::has_entries(dir)
}
