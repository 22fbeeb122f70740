//! Who has a device open, and that it is removed: one of the two.

use crate::Errno;
use crate::sync::primitives::atomic::{AtomicU32, Ordering::SeqCst};

/// Set in the count of a device that is removed: nobody opens it any more.
const RETIRED: u32 = 1 << 31;

/// How many users have a device open, and [`RETIRED`]: one word, so that either an open or a
/// removal comes first.
#[derive(Default)]
pub(crate) struct Opens {
    word: AtomicU32,
    /// How many of these only show the device.
    showing: AtomicU32,
}

impl Opens {
    /// Counts one more; [`Errno::NXIO`] where the device is removed.
    pub(crate) fn open(&self) -> Result<(), Errno> {
        let open = |opens| (opens & RETIRED == 0).then_some(opens + 1);
        self.word.fetch_update(SeqCst, SeqCst, open).map(drop).map_err(|_| Errno::NXIO)
    }

    /// Counts one less.
    pub(crate) fn release(&self) {
        self.word.fetch_sub(1, SeqCst);
    }

    /// Returns how many users have the device open.
    pub(crate) fn count(&self) -> u32 {
        self.word.load(SeqCst) & !RETIRED
    }

    /// Says how many of those that are counted only show the device.
    pub(crate) fn set_showing(&self, opens: u32) {
        self.showing.store(opens, SeqCst);
    }

    /// Returns how many users have the device open who do more than to show it.
    pub(crate) fn users(&self) -> u32 {
        self.count().saturating_sub(self.showing.load(SeqCst))
    }

    /// Turns away whoever opens the device from here on; [`Errno::BUSY`] where somebody has it
    /// open.
    pub(crate) fn retire(&self) -> Result<(), Errno> {
        let retired = self.word.compare_exchange(0, RETIRED, SeqCst, SeqCst);
        retired.map(drop).map_err(|_| Errno::BUSY)
    }
}
