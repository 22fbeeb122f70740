//! Sets of `raid`: power cuts, faults, lost legs, reshapes.
//!
//! `DMSIM_SEARCH_SECONDS=600 cargo test --release -p dmsim-targets --test raid` searches for ten
//! minutes in each of the searches.

mod background;
mod crash;
mod faults;
#[path = "../data/images.rs"]
mod images;
mod kernel;
mod neighbours;
mod reshape;
mod rig;
#[path = "../data/steps.rs"]
mod steps;
mod writeback;
