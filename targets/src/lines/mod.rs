//! The lines of each target as values, both ways: the words of its table line, and its status.
//!
//! A table line is read by the `parse` of its type, in the order of the kernel's checks and with
//! its texts, and printed by `Display`. The devices in it are what [`Devices`] makes of their words:
//! the targets open them there and then, as the kernel does, so that an error comes in its turn; a
//! tool takes the words as they are, and needs no device for that:
//!
//! ```
//! use targets::lines::mirror::Line;
//!
//! let mut line = Line::from_text("core 1 1024 2 7:0 0 7:1 8", sim_core::Sectors(4096)).unwrap();
//! line.legs.swap(0, 1);
//! assert_eq!(line.to_string(), "core 1 1024 2 7:1 8 7:0 0");
//! ```
//!
//! The status of `linear`, `zero`, `error`, `crypt`, `snapshot-origin`, `unstriped`, `switch`, `flakey` and
//! `ebs` has no words.
//!
//! What is printed is read as the same value again, but for what the kernel itself does not print, or
//! prints as another: the words of `error`; of `raid` `raid10_use_near_sets` (counted, and not printed)
//! and `max_write_behind` (halved); of `multipath` a first group that is not there, and
//! a handler's arguments.

pub mod crypt;
pub mod error;
mod faults;
pub mod md;
pub mod mirror;
mod mirror_status;
pub mod multipath;
mod opening;
mod place;
pub mod raid;
mod remap;
pub mod snapshot;
pub mod snapshot_origin;
#[cfg(test)]
mod tests;
mod words;
pub mod zero;

pub use faults::{delay, dust, ebs, flakey, log_writes};
pub(crate) use opening::{device_word, parse};
pub use place::Place;
pub use remap::{linear, striped, switch, unstriped};
pub use words::{AsWritten, DeviceFacts, DeviceWord, Devices, from_text};

/// How a measurement says whether something is so.
pub(crate) fn y_or_n(is: bool) -> char {
    if is { 'y' } else { 'n' }
}
