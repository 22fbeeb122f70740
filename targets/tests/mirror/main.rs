//! The mirror: power cuts, faults, texts.
//!
//! `DMSIM_SEARCH_SECONDS=600 cargo test --release -p dmsim-targets --test mirror` searches for ten
//! minutes in each of the searches.

mod crash;
mod dropped;
mod faults;
#[path = "../data/images.rs"]
mod images;
mod kernel;
mod maps;
mod pace;
mod rig;
mod says;
#[path = "../data/steps.rs"]
mod steps;
mod threads;
