//! What threads meet at, under a scheduler that tries interleavings.
//!
//! The sources are those of the library, compiled a second time: `crate::sync::primitives` is the
//! folder's own here, and has the scheduler behind it. Where a scene fails, or nobody in it can go
//! on, the scheduler prints the interleaving; `shuttle::replay` repeats it.

#![forbid(unsafe_code)]
#![allow(dead_code, unreachable_pub, reason = "those who use the rest of the sources are not here")]

use shuttle::thread::JoinHandle;
use sim_core::Errno;

use crate::sync::signal::Signal;

#[path = "../../src/graph.rs"]
mod graph;
#[path = "../../src/mapped/opens.rs"]
mod opens;
#[path = "../../src/mapped/slot.rs"]
mod slot;
mod sync;

mod folding;
mod opening;
mod passing;
mod stacking;
mod waiting;

/// A flattened map that knows no more than which tables it was folded of.
mod mapped {
    pub(crate) mod flat_map {
        pub(crate) struct FlatMap {
            pub(crate) gate: crate::sync::gate::Gate,
            pub(crate) folded_of: [u32; 2],
        }
    }
}

/// Tries a scene: with the next thread chosen at random, and with few changes of threads.
fn try_interleavings(scene: fn()) {
    shuttle::check_random(scene, 20000);
    shuttle::check_pct(scene, 20000, 3);
}

/// Waits for threads, and returns what they return.
fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("a panic has ended the scene")).collect()
}
