//! Random stacks of all target types, under everything that can happen to them, for as long as one
//! lets it.
//!
//! A seed makes a [`Case`](case::Case): disks that take their time, a stack of mapped devices of any
//! types over them, and what is done to it: bios from several tasks, reloads, messages, I/O that
//! fails, power cuts and restarts. [`run`](run()) runs one under the seeded executor of `testkit`, and
//! holds it against what must be: what was written reads back, as far as faults and cuts allow; no
//! bio fails by itself, nothing waits for ever, no I/O is in flight below a suspended device, the
//! text of a table loads to itself, and what is removed leaves nothing open. A case that fails is
//! made smaller and written down; the file repeats it:
//!
//! ```
//! let case = "schedule random 1
//! tasks 1
//! folding off
//! disk 64 waits
//! device bytes durable well faults faults-and-cut
//! table
//!   0 16 linear 7:0 8
//! bio 0 Write 3+2 fua
//! cut 1000 nothing
//! bio 0 Read 0+16
//! ";
//! assert_eq!(swarm::repeat(case, &targets::registry()), swarm::Verdict::Held);
//! ```
//!
//! The program `dmsim-swarm` runs cases in several processes through the night. Whoever has target
//! types of their own gives them as plug-ins (`--plugin`), or makes a program of two lines:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     swarm::main(targets::registry() /* .with::<MyTarget>() */)
//! }
//! ```
//!
//! Stacks with a type that is not one of ours are made of its
//! [`EXAMPLE`](sim_core::TargetType::EXAMPLE), or where there is none, of the first line of a few
//! usual shapes that it takes.

#![forbid(unsafe_code)]

mod args;
pub mod case;
mod make;
mod night;
mod run;
mod shrink;

use std::process::ExitCode;

use sim_core::Registry;

pub use make::make;
pub use run::{Counts, Coverage, Verdict, run, trace};
pub use shrink::{kind, shrink};

/// Is the program `dmsim-swarm`, for the types of this registry.
pub fn main(registry: Registry) -> ExitCode {
    args::main(registry)
}

/// Runs the case of a file's text: what a test calls that keeps a case which failed once.
///
/// # Panics
/// When the text is no case.
pub fn repeat(text: &str, registry: &Registry) -> Verdict {
    let case = text.parse().unwrap_or_else(|error| panic!("{error}"));
    run(&case, registry).0
}
