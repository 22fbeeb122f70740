//! A task: a future, and whether it waits, is queued or runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use sim_core::{BoxFuture, panic_text};

use crate::sync::atomic::{AtomicU8, Ordering::SeqCst};
use crate::sync::{Mutex, PoisonError};

/// Waits for its waker.
const IDLE: u8 = 0;
/// Waits for a thread.
const QUEUED: u8 = 1;
/// Is being polled.
const RUNNING: u8 = 2;
/// Is being polled, and was woken since the poll began.
const WOKEN: u8 = 3;

/// Where tasks wait for a thread.
pub(crate) trait Queue: Send + Sync + Sized + 'static {
    /// Has the task [run](Task::run) by some thread.
    fn push(&self, task: Arc<Task<Self>>);
}

/// A future that runs whenever it is woken, and never on two threads at once.
pub(crate) struct Task<Q> {
    /// `None` when it has ended.
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    state: AtomicU8,
    queue: Q,
}

impl<Q: Queue> Wake for Task<Q> {
    fn wake(self: Arc<Self>) {
        let woken = |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(WOKEN),
            _ => None,
        };
        if self.state.fetch_update(SeqCst, SeqCst, woken) == Ok(IDLE) {
            self.queue();
        }
    }
}

impl<Q: Queue> Task<Q> {
    /// Makes a task that is about to run: it is queued, or run by whoever made it.
    pub(crate) fn new(future: BoxFuture<'static, ()>, queue: Q) -> Arc<Task<Q>> {
        Arc::new(Task { future: Mutex::new(Some(future)), state: AtomicU8::new(QUEUED), queue })
    }

    /// Has some thread run the task.
    pub(crate) fn queue(self: Arc<Self>) {
        self.queue.push(self.clone());
    }

    /// Polls the task, which waits for its waker then or has ended.
    pub(crate) fn run(self: Arc<Self>) {
        self.state.store(RUNNING, SeqCst);
        let waker = Waker::from(self.clone());
        let mut slot = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(future) = slot.as_mut() else { return };
        let mut context = Context::from_waker(&waker);
        // A task that panics is gone, and takes nothing else with it.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => return end(slot.take()),
            Err(panic) => {
                tracing::error!(panic = panic_text(&panic), "a background task panicked");
                return end(slot.take());
            }
        }
        drop(slot);
        if self.state.compare_exchange(RUNNING, IDLE, SeqCst, SeqCst).is_err() {
            self.state.store(QUEUED, SeqCst);
            self.queue();
        }
    }
}

/// Drops a task: what it held is given back, and may be half changed.
fn end(task: Option<BoxFuture<'static, ()>>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(task))) {
        tracing::error!(panic = panic_text(&panic), "a background task panicked at its end");
    }
}
