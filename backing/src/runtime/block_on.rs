//! Waits for a future by parking the thread: for front ends, which may block.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Runs a future to its end on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let parker = Parker::new();
    let waker = Waker::from(parker.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        parker.park();
    }
}

/// Runs a future to its end on this thread, or until it is `cancelled`: then it is dropped, and
/// the answer is `None`. A future that is ready at once has ended, cancelled or not.
pub fn block_on_or<F: Future>(future: F, cancelled: &Cancel) -> Option<F::Output> {
    let parker = Parker::new();
    let waker = Waker::from(parker.clone());
    let _registered = cancelled.register(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        if cancelled.is_cancelled() {
            return None;
        }
        parker.park();
    }
}

/// Ends waits from another thread: a client hung up. Clones are the same switch.
#[derive(Clone, Default)]
pub struct Cancel {
    switch: Arc<Switch>,
}

#[derive(Default)]
struct Switch {
    cancelled: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Cancel {
    /// Makes a switch that is off.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Ends every wait on this switch, now and from now on.
    pub fn cancel(&self) {
        self.switch.cancelled.store(true, SeqCst);
        let wakers = std::mem::take(&mut *self.switch.wakers());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.switch.cancelled.load(SeqCst)
    }

    fn register<'a>(&'a self, waker: &'a Waker) -> impl Drop + 'a {
        self.switch.wakers().push(waker.clone());
        Registered { switch: &self.switch, waker }
    }
}

impl Switch {
    fn wakers(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Registered<'a> {
    switch: &'a Switch,
    waker: &'a Waker,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.switch.wakers().retain(|waker| !waker.will_wake(self.waker));
    }
}

struct Parker {
    thread: Thread,
    woken: AtomicBool,
}

impl Parker {
    fn new() -> Arc<Parker> {
        Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false) })
    }

    /// Sleeps until the waker was used since the last call.
    fn park(&self) {
        // A park may end without a reason, and a future may use the thread's token itself.
        while !self.woken.swap(false, SeqCst) {
            thread::park();
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        self.thread.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[test]
    fn a_wait_ends_when_it_is_cancelled_before_or_while_it_lasts() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        let hangs_up = thread::spawn(move || other.cancel());
        assert_eq!(block_on_or(pending::<()>(), &cancel), None);
        hangs_up.join().unwrap();
        assert_eq!(block_on_or(pending::<()>(), &cancel), None);
        assert_eq!(block_on_or(async { 5 }, &cancel), Some(5));
        assert!(cancel.switch.wakers().is_empty());
    }
}
