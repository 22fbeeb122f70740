//! What keeps a panic from spreading: it ends the bio or the command that it happened in, and
//! nothing else.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;

use crate::{Panic, Runtime};

/// Runs what may panic, and tells the runtime where it happened.
pub(crate) struct Barrier {
    runtime: Arc<dyn Runtime>,
    place: String,
}

impl Barrier {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, place: String) -> Barrier {
        Barrier { runtime, place }
    }

    /// Runs `act`; what it panics with ends here, and `instead` is its result.
    pub(crate) fn run<T>(&self, instead: T, act: impl FnOnce() -> T) -> T {
        // What is half changed by a panic is under a lock that knows (`Locked`), or a guard's.
        catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
            self.caught(panic);
            instead
        })
    }

    /// As [`run`](Self::run), for a future.
    pub(crate) async fn wait<T>(&self, instead: T, act: impl Future<Output = T>) -> T {
        AssertUnwindSafe(act).catch_unwind().await.unwrap_or_else(|panic| {
            self.caught(panic);
            instead
        })
    }

    fn caught(&self, panic: Panic) {
        self.runtime.caught(&self.place, panic);
    }
}
