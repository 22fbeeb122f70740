//! Snapshots of devices in use: taken, merged back, given up, compared.

mod cow;
mod diff;
mod finish;
mod give_up;
mod merge;
mod state;
mod steps;
mod store;
mod summary;
mod take;
#[cfg(test)]
mod tests;
mod wait;

pub use diff::{Differences, Run, diff};
pub use give_up::give_up;
pub use merge::mark::{ATTRIBUTE, Unfinished, all_unfinished, unfinished, unfinished_below};
pub use merge::note::{noted, refuse_forgetting};
pub use merge::rebuild::{rebuild, rebuild_noted};
pub use merge::{Merge, WhenOpen, merge};
pub(crate) use state::MADE_BY_US;
pub use store::is_store;
pub use summary::{StoreRun, Summary};
pub use take::{Take, take};
pub use wait::wait;
