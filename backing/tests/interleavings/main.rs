//! What threads meet at, under a scheduler that tries interleavings.
//!
//! The sources are those of the library, compiled a second time: `crate::sync` is the folder's
//! own here, and has the scheduler behind it. Where a scene fails, or nobody in it can go on, the
//! scheduler prints the interleaving; `shuttle::replay` repeats it.

#![forbid(unsafe_code)]
#![allow(dead_code, unreachable_pub, reason = "those who use the rest of the sources are not here")]

use shuttle::thread::JoinHandle;

#[path = "../../src/runtime/flusher.rs"]
mod flusher;
#[path = "../../src/image/health.rs"]
mod health;
#[path = "../../src/runtime/task.rs"]
mod task;

/// The folders of the library.
mod image {
    pub(crate) use crate::health;
}
mod runtime {
    pub(crate) use crate::{flusher, task};
}

mod flushing;
mod running;

/// What threads meet at, with the scheduler behind it.
mod sync {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, PoisonError, atomic};
    pub(crate) use shuttle::thread;
}

/// Tries a scene: with the next thread chosen at random, and with few changes of threads.
fn try_interleavings(scene: fn()) {
    shuttle::check_random(scene, 5000);
    shuttle::check_pct(scene, 5000, 3);
}

/// Waits for threads, and returns what they return.
fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("a panic has ended the scene")).collect()
}
