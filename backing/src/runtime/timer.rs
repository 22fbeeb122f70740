//! One thread that ends sleeps when their time has come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

/// Ends sleeps. Its thread ends with it.
pub(crate) struct Timer {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    sleeps: BinaryHeap<Reverse<Entry>>,
    closing: bool,
}

/// A sleep that has not ended. Ordered by its deadline alone.
struct Entry {
    deadline: Instant,
    slot: Arc<Mutex<Slot>>,
}

#[derive(Default)]
struct Slot {
    over: bool,
    waker: Option<Waker>,
}

impl Timer {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Timer> {
        let shared = Arc::new(Shared::default());
        let work = shared.clone();
        thread::Builder::new().name("timer".to_owned()).spawn(move || work.work())?;
        Ok(Timer { shared })
    }

    /// Sleeps until the deadline, counted from now and not from the first poll.
    pub(crate) fn sleep_until(&self, deadline: Instant) -> Sleep {
        let slot = Arc::new(Mutex::default());
        let entry = Entry { deadline, slot: Arc::clone(&slot) };
        let mut state = lock(&self.shared.state);
        let first = state.sleeps.peek().is_none_or(|Reverse(first)| deadline < first.deadline);
        state.sleeps.push(Reverse(entry));
        if first {
            self.shared.changed.notify_one();
        }
        Sleep { slot }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        lock(&self.shared.state).closing = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = lock(&self.state);
        while !state.closing {
            let now = Instant::now();
            let due = state.sleeps.peek().map(|Reverse(first)| first.deadline);
            state = match due {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) if deadline > now => {
                    let waited = self.changed.wait_timeout(state, deadline - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    let ended = state.sleeps.pop();
                    drop(state);
                    if let Some(Reverse(entry)) = ended {
                        entry.end();
                    }
                    lock(&self.state)
                }
            };
        }
    }
}

impl Entry {
    fn end(self) {
        let mut slot = lock(&self.slot);
        slot.over = true;
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.deadline == other.deadline
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.deadline.cmp(&other.deadline)
    }
}

/// Ends at its deadline.
pub(crate) struct Sleep {
    slot: Arc<Mutex<Slot>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut slot = lock(&self.slot);
        if slot.over {
            return Poll::Ready(());
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // The entry stays until its time; it need not keep the task alive.
        let waker = lock(&self.slot).waker.take();
        drop(waker);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
