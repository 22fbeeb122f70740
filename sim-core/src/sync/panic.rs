//! What a panic carries, and what it leaves half changed.

use std::any::Any;
use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a panic carries.
pub type Panic = Box<dyn Any + Send>;

/// Says what a panic was about.
pub fn panic_text(panic: &Panic) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let half_changed = panic.is::<HalfChanged>().then_some(HALF_CHANGED);
    text.or(half_changed).unwrap_or("a panic without words")
}

const HALF_CHANGED: &str =
    "what a panic before this one left half changed is not used until the table is loaded anew";

/// What [`Locked::lock`] panics with.
struct HalfChanged;

/// What a target changes under a lock that is never held across an await.
///
/// A panic while it is locked may leave it half changed. From then on whoever locks it panics
/// too, which the barrier around each bio and command makes an I/O error of: the target fails
/// until its table is loaded anew.
#[derive(Debug, Default)]
pub struct Locked<T>(Mutex<T>);

impl<T> Locked<T> {
    /// Makes one that nobody has locked.
    pub fn new(value: T) -> Locked<T> {
        Locked(Mutex::new(value))
    }

    /// Locks it.
    ///
    /// # Panics
    /// When a panic has left it half changed, without a word on standard error: the first one
    /// has been told. Not while a panic unwinds.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|half_changed| {
            if !std::thread::panicking() {
                resume_unwind(Box::new(HalfChanged));
            }
            half_changed.into_inner()
        })
    }

    /// Locks it in a `drop`, which must not panic. Nothing where a panic has left it half changed:
    /// nobody uses it any more, and nobody misses what was to be given back.
    pub fn lock_if_whole(&self) -> Option<MutexGuard<'_, T>> {
        self.0.lock().ok()
    }

    /// Returns the value to whoever has it alone.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn what_a_panic_left_half_changed_is_not_used_again() {
        let mut state = Locked::new(1);
        assert_eq!(state.lock_if_whole().as_deref(), Some(&1));
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let mut held = state.lock();
            *held = 2;
            panic!("planted");
        }))
        .unwrap_err();
        assert_eq!(panic_text(&panic), "planted");
        let again = catch_unwind(AssertUnwindSafe(|| *state.lock())).unwrap_err();
        assert_eq!(panic_text(&again), HALF_CHANGED);
        assert!(state.lock_if_whole().is_none());
        assert_eq!(*state.get_mut(), 2);
    }
}
