//! Multipath: paths that fail, hang and come back, and which one is chosen.
//!
//! `DMSIM_SEARCH_SECONDS=600 cargo test --release -p dmsim-targets --test multipath` searches for ten
//! minutes in each of the searches.

mod changes;
mod choice;
mod faults;
mod model;
mod port;
mod queueing;
mod rig;
#[path = "../data/steps.rs"]
mod steps;
