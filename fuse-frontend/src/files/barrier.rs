//! The barrier between requests: one that panics fails alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sim_core::panic_text;

/// Does a step of a request. Where that panics, says so in the log and returns nothing: the
/// request then fails with an I/O error, and whoever carries it out goes on.
///
/// What was in use is left as it was at that moment. Nothing here keeps a lock or a promise in
/// that: passes, buffers and replies are guards, and a poisoned lock is taken all the same.
pub fn barred<T>(what: &str, step: impl FnOnce() -> T) -> Option<T> {
    let panic = match catch_unwind(AssertUnwindSafe(step)) {
        Ok(done) => return Some(done),
        Err(panic) => panic,
    };
    tracing::error!(panic = panic_text(&panic), "{what} panicked, and fails");
    None
}
