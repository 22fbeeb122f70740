//! What threads meet at, each with the scheduler behind it.

use std::ops::Deref;
use std::sync::Arc;

pub(crate) use shuttle::sync::{Mutex, MutexGuard, PoisonError, atomic};

/// A cell that is set once. Other threads run before each look at it.
#[derive(Debug, Default)]
pub(crate) struct OnceLock<T> {
    looks: atomic::AtomicU32,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> OnceLock<T> {
        OnceLock { looks: atomic::AtomicU32::new(0), value: std::sync::OnceLock::new() }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.meet();
        self.value.set(value)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.meet();
        self.value.get()
    }

    fn meet(&self) {
        self.looks.fetch_add(1, atomic::Ordering::SeqCst);
    }
}

/// A pointer that is swapped while others follow it.
pub(crate) struct ArcSwapOption<T>(Mutex<Option<Arc<T>>>);

/// What a pointer pointed at.
pub(crate) struct Guard<T>(T);

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> ArcSwapOption<T> {
        ArcSwapOption(Mutex::new(None))
    }

    pub(crate) fn load(&self) -> Guard<Option<Arc<T>>> {
        Guard(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.pointer().clone()
    }

    pub(crate) fn store(&self, to: Option<Arc<T>>) {
        drop(self.swap(to));
    }

    pub(crate) fn swap(&self, to: Option<Arc<T>>) -> Option<Arc<T>> {
        std::mem::replace(&mut *self.pointer(), to)
    }

    fn pointer(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.0.lock().expect("no scene goes on after a panic")
    }
}

impl<T> Deref for Guard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
