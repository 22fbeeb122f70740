//! RAID sets over images: made, put together again, looked at, checked and repaired, given another leg.
//!
//! Each leg is one image. Its first MiB is the leg's metadata (superblock and bitmap), the rest its
//! data: two `linear` devices, `NAME_rmeta_0` and `NAME_rimage_0` as LVM calls them, which the table
//! of the set names.

mod advice;
mod assemble;
mod belongs;
mod bios;
mod create;
mod fail;
mod grow;
mod leg;
mod level;
mod md;
mod remove;
mod replace;
mod scrub;
mod state;
mod status;
mod steps;
#[cfg(test)]
mod tests;
mod wait;

pub use assemble::{Assemble, Assembled, Writes, assemble};
pub(crate) use belongs::{Belongs, belongs};
pub(crate) use bios::volumes;
pub use create::{Create, create};
pub use fail::{fail, heal};
pub use grow::{Grow, Grown, grow};
pub use level::LEVELS;
pub use remove::{Rest, remove, rest};
pub use replace::{Replace, replace};
pub use scrub::{Checked, Source, check, repair};
pub use state::is_set;
pub use status::{Going, Journal, JournalState, Leg, LegState, Set, status};
pub(crate) use steps::MADE_BY_US;
pub use targets::raid::layout::Format;
pub use wait::wait;
