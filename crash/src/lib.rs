//! The states that a power cut can leave on a disk, out of a recording of what was written to it.
//!
//! A disk has a volatile cache: a write that has ended can be lost until a flush that was sent after its end has
//! ended, or unless it had FUA; till then each of its atomic units, for itself, is there or not, in any order. A
//! [`Recording`] is a log of dm-log-writes and the content from before. A [`State`] says where the power went and
//! what is missing; [`States`] lists those that matter under a [`Plan`], no two of the same content; a [`Disk`]
//! shows one as a block device that may be written; [`check_all`] has each of them judged, and [`shrink`] takes from one
//! that fails what it does not need.
//!
//! No state is ever copied: a sector is looked up in the log when it is read. A recording takes 24 bytes of memory
//! for each sector that was written.

#![forbid(unsafe_code)]

mod check;
mod disk;
mod extents;
pub mod log;
mod plan;
mod recording;
mod shrink;
mod state;
mod window;
mod write;

pub use check::{Failure, Found, Progress, check_all};
pub use disk::{Disk, MAX_SCRATCH};
pub use plan::{Coverage, Plan, States};
pub use recording::{Flushes, Promises, Recording};
pub use shrink::shrink;
pub use state::{Kept, Loss, NoState, State};
pub use window::Window;
pub use write::write_log;
