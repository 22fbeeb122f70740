//! Target types from shared libraries.
//!
//! A plug-in comes in two kinds. One speaks the C interface of `sdk/include/dmsim_target.h`: its
//! blocking callbacks run on threads kept for each target, and a plug-in built for an older minor
//! version keeps working. The other is Rust: a `cdylib` whose author wrote a normal
//! [`Target`](sim_core::Target) and named it in [`export_target!`]; as Rust has no stable ABI, it
//! is taken only when it was built by the same compiler from the same sources of `sim-core`.
//!
//! [`load()`] tells them apart. A library stays loaded for as long as the process runs.
//! [`load_in_turn`] loads it for tests: callbacks run one at a time, as a simulation chooses.

#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "mirrors the C header, and copies structs out of a library")]
mod abi;
mod code;
#[allow(unsafe_code, reason = "calls a plug-in's ctr, and is called back by it")]
mod ctr;
mod in_turn;
#[allow(unsafe_code, reason = "calls a plug-in's callbacks")]
mod instance;
#[allow(unsafe_code, reason = "is called by plug-ins for I/O")]
mod io;
#[allow(unsafe_code, reason = "handles the signals that a plug-in's wild pointers raise")]
mod last_words;
#[allow(unsafe_code, reason = "loads libraries")]
mod load;
#[allow(unsafe_code, reason = "takes types over from a Rust library")]
mod rust;
mod target;
mod workers;

pub use load::{PluginError, load, load_in_turn};
pub use rust::RustPlugin;
pub use sim_core;
