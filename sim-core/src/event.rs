//! A counter that can be waited for: a device's event number.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// Counts events, and wakes whoever waits for the next.
#[derive(Debug, Default)]
pub struct Events {
    number: AtomicU32,
    waiting: Mutex<Vec<Waker>>,
}

impl Events {
    /// Returns the number of the last event; zero before the first. Wraps around.
    pub fn number(&self) -> u32 {
        self.number.load(SeqCst)
    }

    /// Counts one more event.
    pub fn raise(&self) {
        self.number.fetch_add(1, SeqCst);
        self.wake();
    }

    /// Makes whoever waits look again.
    pub(crate) fn wake(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        for waker in waiting {
            waker.wake();
        }
    }

    /// Waits until `done` says so; asked again at each event.
    pub(crate) async fn until(&self, mut done: impl FnMut(u32) -> bool) {
        std::future::poll_fn(|cx| {
            if done(self.number()) {
                return Poll::Ready(());
            }
            // Waker first, second look after it, so that no event falls in between.
            self.lock().push(cx.waker().clone());
            if done(self.number()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a target counts the events of its device (`dm_table_event`).
#[derive(Clone, Debug, Default)]
pub struct TargetEvents {
    device: Arc<Events>,
    all: Arc<Events>,
}

impl TargetEvents {
    pub(crate) fn new(device: Arc<Events>, all: Arc<Events>) -> TargetEvents {
        TargetEvents { device, all }
    }

    /// Counts one more event, and wakes whoever waits for one.
    pub fn raise(&self) {
        self.device.raise();
        self.all.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn an_event_ends_the_wait_for_it() {
        let events = Events::default();
        assert!(events.until(|number| number != 0).now_or_never().is_none());
        events.raise();
        assert!(events.until(|number| number != 0).now_or_never().is_some());
    }
}
