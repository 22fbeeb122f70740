//! What went wrong with an image last, for people who look later.

use std::sync::{Mutex, PoisonError};

use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// The last error of an image, and whether its end was told.
#[derive(Default)]
pub(crate) struct Trouble {
    last: Mutex<Option<String>>,
    told: AtomicBool,
    told_lost: AtomicBool,
}

impl Trouble {
    /// Keeps an error, in place of the one before.
    pub(crate) fn keep(&self, error: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Returns the last error.
    pub(crate) fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells whether nobody was told yet that the image fails; the first who asks tells.
    pub(crate) fn is_news(&self) -> bool {
        !self.told.swap(true, SeqCst)
    }

    /// Tells whether nobody was told yet that the path leads to it no more; the first who asks tells.
    pub(crate) fn is_first_lost(&self) -> bool {
        !self.told_lost.swap(true, SeqCst)
    }

    /// The image can be used again.
    pub(crate) fn is_over(&self) {
        self.told.store(false, SeqCst);
    }
}
