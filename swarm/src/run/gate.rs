//! Where the end of all tasks of a wave is waited for.

use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

/// Opens when so many have come to their end, or when one of them ends it for all.
pub(super) struct Gate(Mutex<State>);

struct State {
    left: usize,
    waker: Option<Waker>,
}

impl Gate {
    pub(super) fn new(left: usize) -> Gate {
        Gate(Mutex::new(State { left, waker: None }))
    }

    /// Counts one that has come to its end.
    pub(super) fn count(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.left = state.left.saturating_sub(1);
        if state.left == 0
            && let Some(waker) = state.waker.take()
        {
            waker.wake();
        }
    }

    /// Opens it at once.
    pub(super) fn open(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).left = 0;
        self.count();
    }

    pub(super) async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.waker = Some(cx.waker().clone());
            if state.left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
