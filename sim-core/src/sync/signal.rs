//! What waiting is made of: a list of those who wait, and things that happen once.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::sync::primitives::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Wakes whoever waits for a condition that others bring about.
///
/// The condition is the user's own; whoever changes what it is made of calls
/// [`notify`](Self::notify) afterwards.
#[derive(Debug, Default)]
pub struct Signal(Mutex<Vec<Waker>>);

impl Signal {
    /// Makes whoever waits look again.
    pub fn notify(&self) {
        let waiting = std::mem::take(&mut *lock(&self.0));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until `ready` returns something; asked again after each
    /// [`notify`](Self::notify).
    pub async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| {
            if let Some(value) = ready() {
                return Poll::Ready(value);
            }
            // Waker first, second look after it: whoever changes things in between finds the
            // waker.
            self.add(cx.waker());
            ready().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn add(&self, waker: &Waker) {
        let mut waiting = lock(&self.0);
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}

/// The result of something that ends once, for any number of those who wait for it.
#[derive(Debug, Default)]
pub struct Outcome<T> {
    value: OnceLock<T>,
    waiting: Signal,
}

impl<T: Copy> Outcome<T> {
    /// Makes one that has not ended.
    pub fn new() -> Outcome<T> {
        Outcome { value: OnceLock::new(), waiting: Signal::default() }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn set(&self, value: T) {
        assert!(self.value.set(value).is_ok(), "what ends once has one outcome");
        self.waiting.notify();
    }

    /// Tells whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.value.get().is_some()
    }

    /// Waits for the end.
    pub async fn wait(&self) -> T {
        self.waiting.until(|| self.value.get().copied()).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
