//! Who has a device open, and that it is removed: one of the two.

use crate::Errno;
use crate::sync::primitives::atomic::{AtomicU32, Ordering::SeqCst};

/// Set in the count of a device that is removed: nobody opens it any more.
const RETIRED: u32 = 1 << 31;

/// How many users have a device open, and [`RETIRED`]: one word, so that either an open or a
/// removal comes first.
#[derive(Default)]
pub(crate) struct Opens(AtomicU32);

impl Opens {
    /// Counts one more; [`Errno::NXIO`] where the device is removed.
    pub(crate) fn open(&self) -> Result<(), Errno> {
        let open = |opens| (opens & RETIRED == 0).then_some(opens + 1);
        self.0.fetch_update(SeqCst, SeqCst, open).map(drop).map_err(|_| Errno::NXIO)
    }

    /// Counts one less.
    pub(crate) fn release(&self) {
        self.0.fetch_sub(1, SeqCst);
    }

    /// Returns how many users have the device open.
    pub(crate) fn count(&self) -> u32 {
        self.0.load(SeqCst) & !RETIRED
    }

    /// Turns away whoever opens the device from here on; [`Errno::BUSY`] where somebody has it
    /// open.
    pub(crate) fn retire(&self) -> Result<(), Errno> {
        let retired = self.0.compare_exchange(0, RETIRED, SeqCst, SeqCst);
        retired.map(drop).map_err(|_| Errno::BUSY)
    }
}
