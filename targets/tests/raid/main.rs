//! Raid1 and raid10: power cuts, faults, lost legs.
//!
//! `DMSIM_SEARCH_SECONDS=600 cargo test --release -p dmsim-targets --test raid` searches for ten
//! minutes in each of the searches.

mod background;
mod crash;
mod faults;
mod reshape;
mod rig;
#[path = "../data/steps.rs"]
mod steps;
