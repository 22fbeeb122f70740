//! The target types of dmsim: one file each, its table syntax on top.
//!
//! A target owns no file, thread, clock or random source: what it needs comes from `sim-core`, and
//! what `crypt` computes from `crypto`.

#![forbid(unsafe_code)]

pub mod bios;
mod crypt;
mod delay;
mod dust;
mod ebs;
mod error;
mod flakey;
mod linear;
pub mod lines;
pub mod log_writes;
pub mod md;
mod mirror;
mod multipath;
mod parts;
pub mod raid;
pub mod snapshot;
mod striped;
mod switch;
mod unstriped;
mod zero;

pub use crypt::Crypt;
pub use delay::Delay;
pub use dust::Dust;
pub use ebs::Ebs;
pub use error::Error;
pub use flakey::Flakey;
pub use linear::Linear;
pub use log_writes::LogWrites;
pub use mirror::Mirror;
pub use multipath::Multipath;
pub use parts::bytes;
pub use raid::{Md, Raid};
pub use snapshot::{Snapshot, SnapshotMerge, SnapshotOrigin};
pub use striped::Striped;
pub use switch::Switch;
pub use unstriped::Unstriped;
pub use zero::Zero;

use sim_core::Registry;

/// Returns a registry with every type of this crate.
pub fn registry() -> Registry {
    // The order in which the kernel registers them: `targets` lists the last one first.
    Registry::new()
        .with::<Error>()
        .with::<Linear>()
        .with::<Striped>()
        .with::<Zero>()
        .with::<Crypt>()
        .with::<Mirror>()
        .with::<SnapshotOrigin>()
        .with::<Snapshot>()
        .with::<SnapshotMerge>()
        .with::<Raid>()
        .with::<Md>()
        .with::<Multipath>()
        .with::<Unstriped>()
        .with::<Switch>()
        .with::<Delay>()
        .with::<Flakey>()
        .with::<Dust>()
        .with::<LogWrites>()
        .with::<Ebs>()
}
