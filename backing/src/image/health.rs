//! Whether an image can still be trusted. Once it cannot, that stays so.

use sim_core::Errno;

use crate::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Why an image fails all I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A page of the image is gone, or its end has moved to the front.
    Unreadable,
    /// A flush failed: Linux has marked the pages clean and will not write them again.
    Flush(Errno),
}

impl Fault {
    /// Says what happened, for `list` and the log.
    pub(crate) fn text(self) -> String {
        match self {
            Fault::Unreadable => {
                "image was truncated or cannot be read; `dmsim resize` takes it up again as it is then"
                    .to_owned()
            },
            Fault::Flush(errno) => format!(
                "flush failed ({errno}): what was written since the last good flush may be lost"
            ),
        }
    }

    fn code(self) -> u32 {
        match self {
            Fault::Unreadable => 1,
            Fault::Flush(errno) => errno.0.unsigned_abs() << 8 | 2,
        }
    }

    fn from_code(code: u32) -> Option<Fault> {
        match code & 0xff {
            0 => None,
            1 => Some(Fault::Unreadable),
            _ => Some(Fault::Flush(Errno((code >> 8) as i32))),
        }
    }
}

/// The state of an image that readers, the flusher and the signal handler share.
#[derive(Default)]
pub(crate) struct Health {
    fault: AtomicU32,
    /// How many replies hold pages of the mapping right now.
    lenders: AtomicU32,
}

impl Health {
    /// Returns why the image fails, if it does.
    pub(crate) fn fault(&self) -> Option<Fault> {
        Fault::from_code(self.fault.load(SeqCst))
    }

    /// Tells whether the image can be used: one load, for the read path.
    pub(crate) fn is_good(&self) -> bool {
        self.fault.load(SeqCst) == 0
    }

    /// Fails the image for good; the first reason stays. Safe in a signal handler.
    pub(crate) fn poison(&self, fault: Fault) {
        let _earlier_stays = self.fault.compare_exchange(0, fault.code(), SeqCst, SeqCst);
    }

    /// Registers a reply that reads the mapped pages by itself; `None` on a bad image.
    pub(crate) fn lend(&self) -> Option<Lender<'_>> {
        // Count first, look second: the signal handler does the reverse, so that either it sees
        // the reply and waits, or the reply sees the fault.
        self.lenders.fetch_add(1, SeqCst);
        let lender = Lender(self);
        self.is_good().then_some(lender)
    }

    /// Tells whether some reply holds pages. Safe in a signal handler.
    pub(crate) fn is_lent(&self) -> bool {
        self.lenders.load(SeqCst) != 0
    }
}

/// A reply under way.
pub(crate) struct Lender<'a>(&'a Health);

impl Drop for Lender<'_> {
    fn drop(&mut self) {
        self.0.lenders.fetch_sub(1, SeqCst);
    }
}
