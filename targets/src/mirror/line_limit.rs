//! Lines of the kernel's log that repeat: so many in some time, and no more.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use super::mirror_set::MirrorSet;
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
    fn lets_through(&self, line: Repeated, now: Duration) -> bool {
        let mut said = lock(&self.0);
        let (since, count) = &mut said[line as usize];
        if now >= *since + INTERVAL {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= BURST
    }
}

impl MirrorSet {
    /// Logs a line, unless there were many of its kind.
    pub(super) fn say(&self, line: Repeated, text: impl fmt::Display) {
        if self.line_limits.lets_through(line, self.runtime.now()) {
            self.log.line(text);
        }
    }
}
