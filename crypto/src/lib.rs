//! What dm-crypt computes, without any I/O: cipher specifications, initialization vectors, and
//! sectors encrypted and decrypted. The target `crypt` and the key slots of LUKS stand on it.
//!
//! ```text
//! Spec::parse("aes-xts-plain64")?          the words of a table line, in the kernel's order of checks
//!     SectorCipher::new(&spec, key, ...)?  the key, the sector size, what the iv needs
//!         encrypt(sector, data)            any number of units at once
//! ```
//!
//! Formats and texts are those of Linux 6.12's `drivers/md/dm-crypt.c` and crypto API, held to by
//! data recorded from it in `tests/data`.
#![forbid(unsafe_code)]

mod algorithm;
mod block;
mod fault;
pub mod hash;
mod iv;
mod keys;
mod mode;
mod secret;
mod sector;
mod spec;

pub use fault::{Fault, FaultKind};
pub use secret::Secret;
pub use sector::{IvUnit, SectorCipher};
pub use spec::Spec;
