//! Lines of the kernel's log that repeat: so many in some time, and no more.

use std::sync::Mutex;
use std::time::Duration;

use crate::parts::lock::lock;

/// So many lines of a kind are let through in this time, as with the kernel's `printk_ratelimit`.
const BURST: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(5);

/// The kinds of lines that are limited, each on its own.
#[derive(Clone, Copy)]
pub(super) enum Repeated {
    ReadFailed,
    ReadFailure,
    RecoveryRead,
    RecoveryWrite,
}

/// How many lines of each kind there were, and since when.
#[derive(Default)]
pub(super) struct LineLimits(Mutex<[(Duration, u32); 4]>);

impl LineLimits {
    /// Counts a line, and tells whether it is one of the few that are let through.
    pub(super) fn lets_through(&self, line: Repeated, now: Duration) -> bool {
        let mut counts = lock(&self.0);
        let (since, count) = &mut counts[line as usize];
        if now >= *since + INTERVAL {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= BURST
    }
}
