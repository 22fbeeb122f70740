//! A gate that bios pass: counts those inside, can be closed, and tells when it is empty.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::Signal;

/// Set while nobody may enter.
const CLOSED: u64 = 1 << 63;
/// Set when nobody will ever enter again.
const GONE: u64 = 1 << 62;
const COUNT: u64 = GONE - 1;

/// Counts who is inside, and keeps others out while it is closed.
///
/// The order of a close and an enter is decided by one atomic word, so a closer that has seen
/// the gate empty knows that nobody is inside.
#[derive(Debug, Default)]
pub struct Gate {
    word: AtomicU64,
    waiting: Signal,
}

/// The right to be inside a [`Gate`]; leaves it when dropped.
#[derive(Debug)]
#[must_use]
pub struct Pass<'a>(&'a Gate);

/// The gate will never open again.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

impl Gate {
    /// Enters, unless the gate is closed.
    pub fn try_enter(&self) -> Option<Pass<'_>> {
        // Look first: to step in and out of a closed gate wakes those who wait for it, and one
        // who waits to enter would wake itself for ever.
        if self.word.load(SeqCst) & (CLOSED | GONE) != 0 {
            return None;
        }
        if self.word.fetch_add(1, SeqCst) & (CLOSED | GONE) == 0 {
            return Some(Pass(self));
        }
        self.leave();
        None
    }

    /// Enters as soon as the gate is open.
    pub async fn enter(&self) -> Result<Pass<'_>, Gone> {
        self.until(|word| if word & GONE != 0 { Some(Err(Gone)) } else { self.try_enter().map(Ok) })
            .await
    }

    /// Keeps everybody out from now on; those inside stay.
    pub fn close(&self) {
        self.word.fetch_or(CLOSED, SeqCst);
    }

    /// Lets everybody in who waits.
    pub fn open(&self) {
        self.word.fetch_and(!CLOSED, SeqCst);
        self.wake();
    }

    /// Turns everybody away who waits or comes.
    pub fn demolish(&self) {
        self.word.fetch_or(GONE, SeqCst);
        self.wake();
    }

    /// Tells whether the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.word.load(SeqCst) & CLOSED != 0
    }

    /// Returns how many are inside.
    pub fn inside(&self) -> u64 {
        self.word.load(SeqCst) & COUNT
    }

    /// Waits until nobody is inside.
    pub async fn drained(&self) {
        self.until(|word| (word & COUNT == 0).then_some(())).await;
    }

    async fn until<T>(&self, mut ready: impl FnMut(u64) -> Option<T>) -> T {
        self.waiting.until(|| ready(self.word.load(SeqCst))).await
    }

    fn leave(&self) {
        let before = self.word.fetch_sub(1, SeqCst);
        // Only a gate that is closed has someone who waits for it to be empty.
        if before & COUNT == 1 && before & (CLOSED | GONE) != 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        self.waiting.notify();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn a_closed_gate_lets_nobody_in_and_those_inside_out() {
        let gate = Gate::default();
        let pass = gate.try_enter().expect("an open gate");
        gate.close();
        assert!(gate.try_enter().is_none());
        assert!(gate.drained().now_or_never().is_none());
        drop(pass);
        assert!(gate.drained().now_or_never().is_some());
        gate.open();
        assert!(gate.try_enter().is_some());
    }

    #[test]
    fn whoever_waits_at_a_gate_that_goes_is_turned_away() {
        let gate = Gate::default();
        gate.close();
        assert!(gate.enter().now_or_never().is_none());
        gate.demolish();
        assert_eq!(gate.enter().now_or_never().map(|entered| entered.err()), Some(Some(Gone)));
    }

    #[test]
    fn whoever_waits_at_a_closed_gate_sleeps_until_it_opens() {
        let gate = Gate::default();
        gate.close();
        let (waker, woken) = counting_waker();
        let mut enter = std::pin::pin!(gate.enter());
        let mut cx = Context::from_waker(&waker);
        assert!(enter.as_mut().poll(&mut cx).is_pending());
        assert!(gate.try_enter().is_none());
        assert_eq!(woken.load(SeqCst), 0);
        gate.open();
        assert_eq!(woken.load(SeqCst), 1);
        assert!(enter.as_mut().poll(&mut cx).is_ready());
    }

    /// A waker that counts how often it is called.
    fn counting_waker() -> (Waker, std::sync::Arc<AtomicU64>) {
        struct Count(std::sync::Arc<AtomicU64>);
        impl std::task::Wake for Count {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let count = std::sync::Arc::new(AtomicU64::new(0));
        (std::sync::Arc::new(Count(count.clone())).into(), count)
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        let gate = Gate::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        drop(gate.try_enter());
                    }
                });
            }
            for _ in 0..2_000 {
                gate.close();
                futures_util::future::poll_fn(|_| {
                    if gate.inside() == 0 { Poll::Ready(()) } else { Poll::Pending }
                })
                .now_or_never();
                gate.open();
            }
        });
        assert_eq!(gate.inside(), 0);
    }
}
