//! Ranges that somebody uses, and that others wait to be free: regions that are written, sectors
//! that are discarded, chunks that are read where a copy is about to end.
//!
//! The ranges lie in the state of whoever has them, under its one lock: whether a range is free is
//! decided together with what the state says besides, and holding one takes no lock of its own. A
//! [`Hold`] gives its range back when dropped, and wakes those that wait; which of them comes first
//! is the executor's choice. There are as many ranges as bios are under way.
//!
//! This is not for what has a result that others wait for, as the copy of a chunk has: each of these
//! is an `Outcome`, which tells also whether it went well. Nor is it what a region of the mirror is
//! to those who come to it, which lasts longer than any of them.

use std::ops::Range;

use sim_core::Signal;

/// Ranges in use. Two may be the same: they are told apart by nobody.
#[derive(Debug)]
pub(crate) struct HeldRanges<T>(Vec<Range<T>>);

impl<T> Default for HeldRanges<T> {
    fn default() -> HeldRanges<T> {
        HeldRanges(Vec::new())
    }
}

impl<T: Copy + Ord> HeldRanges<T> {
    pub(crate) fn add(&mut self, range: Range<T>) {
        self.0.push(range);
    }

    /// Takes out a range that was added.
    ///
    /// # Panics
    /// When it is not there.
    pub(crate) fn remove(&mut self, range: &Range<T>) {
        let at = self.0.iter().position(|held| held == range);
        self.0.swap_remove(at.expect("a range that is held is in the list"));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether nobody uses a part of a range.
    pub(crate) fn leave_free(&self, range: &Range<T>) -> bool {
        !self.0.iter().any(|held| overlap(held, range))
    }
}

/// Tells whether two ranges have something in common.
pub(crate) fn overlap<T: Ord>(one: &Range<T>, other: &Range<T>) -> bool {
    one.start < other.end && other.start < one.end
}

/// What has ranges in its state.
pub(crate) trait Holder {
    /// What the ranges are of.
    type At: Copy + Ord;

    /// Locks the state for a `drop`, which must not panic: `change` is not called where a panic has
    /// left it half changed.
    fn if_whole(&self, change: impl FnOnce(&mut HeldRanges<Self::At>));

    /// Returns what is to be given when a range was given back.
    fn freed(&self) -> &Signal;
}

/// A range in use; given back when dropped.
#[must_use]
pub(crate) struct Hold<'a, H: Holder> {
    holder: &'a H,
    range: Range<H::At>,
}

impl<'a, H: Holder> Hold<'a, H> {
    /// Adds a range to those of a holder, whose lock the caller has.
    pub(crate) fn new(holder: &'a H, held: &mut HeldRanges<H::At>, range: Range<H::At>) -> Self {
        held.add(range.clone());
        Hold { holder, range }
    }
}

impl<H: Holder> Drop for Hold<'_, H> {
    fn drop(&mut self) {
        self.holder.if_whole(|held| held.remove(&self.range));
        self.holder.freed().notify();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use sim_core::Locked;

    use super::*;

    #[derive(Default)]
    struct Shelf {
        held: Locked<HeldRanges<u64>>,
        freed: Signal,
    }

    impl Holder for Shelf {
        type At = u64;

        fn if_whole(&self, change: impl FnOnce(&mut HeldRanges<u64>)) {
            if let Some(mut held) = self.held.lock_if_whole() {
                change(&mut held);
            }
        }

        fn freed(&self) -> &Signal {
            &self.freed
        }
    }

    impl Shelf {
        fn hold(&self, range: Range<u64>) -> Hold<'_, Shelf> {
            Hold::new(self, &mut self.held.lock(), range)
        }

        async fn free(&self, range: Range<u64>) {
            self.freed.until(|| self.held.lock().leave_free(&range).then_some(())).await;
        }
    }

    #[test]
    fn a_range_is_free_when_nobody_uses_a_part_of_it() {
        let shelf = Shelf::default();
        let _low = shelf.hold(0..4);
        let high = shelf.hold(6..8);
        let free = |range: Range<u64>| shelf.held.lock().leave_free(&range);
        assert!(free(4..6) && free(8..9) && !free(3..5) && !free(5..7) && !free(0..9));
        drop(high);
        assert!(free(4..9));
    }

    #[test]
    fn who_waits_goes_on_when_the_last_of_those_before_is_gone() {
        let shelf = Shelf::default();
        let (one, other) = (shelf.hold(2..6), shelf.hold(2..6));
        let (mut waits, given_up) = (Box::pin(shelf.free(5..9)), Box::pin(shelf.free(0..3)));
        assert_eq!((&mut waits).now_or_never(), None);
        assert_eq!(given_up.now_or_never(), None);
        drop(one);
        assert_eq!((&mut waits).now_or_never(), None, "the same range is held once more");
        let woken = std::sync::Arc::new(Wakes::default());
        let waker = futures_util::task::waker(woken.clone());
        let poll = waits.as_mut().poll(&mut std::task::Context::from_waker(&waker));
        assert!(poll.is_pending());
        drop(other);
        assert!(woken.0.load(std::sync::atomic::Ordering::SeqCst), "nobody was woken");
        assert_eq!(waits.now_or_never(), Some(()));
        assert!(shelf.held.lock().is_empty());
    }

    #[derive(Default)]
    struct Wakes(std::sync::atomic::AtomicBool);

    impl futures_util::task::ArcWake for Wakes {
        fn wake_by_ref(wakes: &std::sync::Arc<Wakes>) {
            wakes.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    #[test]
    fn a_panic_of_the_holder_lets_holds_go() {
        let shelf = Shelf::default();
        let hold = shelf.hold(0..1);
        let panics = std::panic::AssertUnwindSafe(|| {
            let _held = shelf.held.lock();
            panic!("planted");
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        drop(hold);
    }
}
