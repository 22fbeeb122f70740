//! The record: what is attached and loaded, so that `restore` can build it again.
//!
//! `record.log` has one line for each change, in the order of the changes; a change costs what it
//! changes. Before a client is answered, what its command changed is flushed, once a command, and
//! once for a batch of commands. After a power cut the record is that of a moment between two
//! changes, none earlier than the last flush.
//!
//! A daemon that starts over a record does not build anything, and does not drop anything
//! either: what it finds is *past*, which stays on record beside what is new until a `restore`
//! has brought it back, piece by piece, or `restore --forget` drops it.
//!
//! `entry.rs` has what a line says, `line.rs` how it is written, `contents.rs` which lines count,
//! `scan.rs` how a file is read: none of them does I/O. `folder.rs` is the I/O, `log.rs` the file.
//! `present.rs` knows what was noted, `keeper.rs` takes the notes and has them written, `past.rs`
//! reads what is to be restored.

mod contents;
mod convert;
mod entry;
mod folder;
mod keeper;
mod line;
mod log;
mod past;
mod present;
mod scan;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

pub(crate) use entry::ImageRecord;
pub(crate) use keeper::{Change, Keeper};
pub(crate) use past::{Meant, Past, PastDevice, PastImage};
