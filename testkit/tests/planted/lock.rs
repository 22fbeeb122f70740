//! The lock of a chunk, and one that forgets to wake somebody.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Held across awaits; whoever waits is woken when it is let go.
pub(crate) struct ChunkLock {
    state: Mutex<State>,
    /// Wakes the first who waits and forgets the others.
    forgets: bool,
}

#[derive(Default)]
struct State {
    held: bool,
    waiting: Vec<Waker>,
}

pub(crate) struct Held<'a>(&'a ChunkLock);

impl ChunkLock {
    pub(crate) fn new(forgets: bool) -> ChunkLock {
        ChunkLock { state: Mutex::default(), forgets }
    }

    pub(crate) async fn lock(&self) -> Held<'_> {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.held {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            state.held = true;
            Poll::Ready(Held(self))
        })
        .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.held = false;
        let woken = if self.0.forgets { 1 } else { usize::MAX };
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().take(woken).for_each(Waker::wake);
    }
}
