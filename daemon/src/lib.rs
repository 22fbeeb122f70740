//! The daemon of an instance: one process that holds its devices, shows them, answers on a socket,
//! and keeps on record what there is; and the client's end of all that.
//!
//! [`run`] is the daemon. [`Client`] asks it, in the words of [`protocol`]; [`Instance`] says where
//! it lives, and [`launch`] starts it from another program. Whatever changes is on record before it
//! is answered, whichever way it came.

#![forbid(unsafe_code)]

mod above;
pub mod client;
pub mod describe;
pub mod family;
pub mod fault;
pub mod folders;
pub mod instance;
pub mod launch;
mod loops;
pub mod mangle;
mod options;
pub mod plugins;
mod process;
pub mod protocol;
mod record;
mod server;

pub use above::{above, all_above};
pub use client::Client;
pub use describe::{Description, Failing};
pub use fault::{About, Fault};
pub use fuse_frontend::{NO_FUSE, NO_FUSERMOUNT};
pub use instance::Instance;
pub use loops::{LoopDevice, refuse_looped};
pub use options::Options;
pub use process::{allow_most_files, keep_out_of_core_dumps};
pub use server::{guard, run};
