//! The one thread of an image that makes its writes durable; an image in memory needs none.
//!
//! Flushes that are asked for before a sync starts share it. The first error is final: Linux has
//! marked the pages clean, so that the next sync would succeed without having written them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use sim_core::{BlkError, BlkResult, Errno};

use crate::image::health::{Fault, Health};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Makes everything durable that was written before the call.
pub(crate) type SyncFile = Box<dyn FnMut() -> io::Result<()> + Send>;

/// Takes the flushes of one image. Its thread starts with the first, and ends with the flusher.
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    thread: Mutex<Thread>,
    on_the_spot: bool,
}

enum Thread {
    NotStarted(SyncFile),
    Running(JoinHandle<()>),
    /// It could not be started; the image is poisoned.
    None,
}

struct Shared {
    state: Mutex<State>,
    asked: Condvar,
    health: Arc<Health>,
}

/// Syncs are numbered from 1.
#[derive(Default)]
struct State {
    /// The last sync that someone waits for.
    wanted: u64,
    started: u64,
    ended: u64,
    wakers: Vec<Waker>,
    closing: bool,
}

impl Flusher {
    /// Makes the flusher of an image that `sync` makes durable.
    pub(crate) fn new(health: Arc<Health>, sync: SyncFile) -> Flusher {
        let (state, asked) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { state, asked, health });
        Flusher { shared, thread: Mutex::new(Thread::NotStarted(sync)), on_the_spot: false }
    }

    /// Syncs where it is asked for from now on: where that takes no time, waking up a thread for it
    /// would.
    pub(crate) fn sync_on_the_spot(&mut self) {
        self.on_the_spot = true;
    }

    /// Asks for a sync that starts from now on.
    pub(crate) fn flush(&self) -> Flush<'_> {
        if self.on_the_spot {
            return self.sync();
        }
        self.start();
        let mut state = self.shared.state();
        let number = state.started + 1;
        state.wanted = number;
        self.shared.asked.notify_one();
        Flush { shared: &self.shared, number }
    }

    /// Syncs here and now.
    fn sync(&self) -> Flush<'_> {
        // One at a time, as the thread would.
        let mut thread = self.thread();
        if let Thread::NotStarted(sync) = &mut *thread {
            self.shared.sync(sync);
        }
        Flush { shared: &self.shared, number: 0 }
    }

    fn thread(&self) -> MutexGuard<'_, Thread> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) {
        let mut thread = self.thread();
        *thread = match std::mem::replace(&mut *thread, Thread::None) {
            Thread::NotStarted(sync) => {
                let shared = self.shared.clone();
                let work = move || shared.work(sync);
                match thread::Builder::new().name("flush".to_owned()).spawn(work) {
                    Ok(handle) => Thread::Running(handle),
                    Err(error) => {
                        self.shared.health.poison(Fault::Flush(errno_of(&error)));
                        Thread::None
                    }
                }
            }
            other => other,
        };
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.state().closing = true;
        self.shared.asked.notify_one();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Thread::Running(handle) = std::mem::replace(thread, Thread::None) {
            // So that the file is closed, and its lock gone, when the image is. A thread cannot
            // wait for itself, which it would where a waker dropped the image.
            if handle.thread().id() != thread::current().id() {
                let _panicked = handle.join();
            }
        }
    }
}

impl Shared {
    fn work(&self, mut sync: SyncFile) {
        let mut state = self.state();
        loop {
            if state.closing {
                return;
            }
            if state.wanted == state.started {
                state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.started += 1;
            drop(state);
            self.sync(&mut sync);
            state = self.state();
            state.ended = state.started;
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
            state = self.state();
        }
    }

    fn sync(&self, sync: &mut SyncFile) {
        // After an error the answer is known, and syncing again would hide it.
        if self.health.is_good()
            && let Err(error) = sync()
        {
            tracing::error!(%error, "flush");
            self.health.poison(Fault::Flush(errno_of(&error)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when a sync that started after the request has ended.
#[must_use = "a flush has ended when this future has"]
pub(crate) struct Flush<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Future for Flush<'_> {
    type Output = BlkResult;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<BlkResult> {
        let mut state = self.shared.state();
        // Looked at under the lock: a sync that ended well may be followed by one that did not,
        // and then this answer is an error that comes early.
        if !self.shared.health.is_good() {
            return Poll::Ready(Err(BlkError::Io));
        }
        if state.ended >= self.number {
            return Poll::Ready(Ok(()));
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno)
}
