//! A dirty log: which regions of several copies may differ, in memory or on a device of its own.
//!
//! Marks and clean bits are collected, and committed together. A commit writes the blocks that
//! changed, and flushes the device where there is a mark among the changes; it serves whoever came
//! before it began. A region becomes clean only when the copies were flushed after the last write
//! of it, and its bit is a hint: nobody waits for it to be durable.
//!
//! What is known of the log lies in the state of its [`Keeper`], under the one lock that this has
//! for its regions: whether a write is to wait for a commit is decided together with the rest.

mod commit;
mod device;
mod health;
mod image;
mod load;
mod log;
#[cfg(test)]
mod tests;

pub(crate) use commit::{commit, commit_changes};
pub use health::LogHealth;
pub(crate) use image::bytes;
pub use load::InitialSync;
pub(crate) use load::{Loaded, load};
pub(crate) use log::{DirtyLog, Keeper};

/// The module that the kernel's log names before lines about a dirty log.
pub(crate) const LOG_MODULE: &str = "dirty region log";
