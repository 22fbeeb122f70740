//! How fast work in the background goes: as fast as it can, or at a rate that is set; and where the
//! target is used meanwhile, half of the time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sim_core::Sectors;

/// The longest that such work stands back for others at a time.
const MOST: Duration = Duration::from_millis(100);

const NANOS: u128 = 1_000_000_000;

/// Says when the next step of the work may begin.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Sectors a second; zero: no limit.
    rate: AtomicU64,
    /// When the next step may begin, in nanoseconds of the runtime's time.
    next: AtomicU64,
    /// Bios that came from above.
    used: AtomicU64,
}

impl Pace {
    pub(crate) fn rate(&self) -> u64 {
        self.rate.load(Relaxed)
    }

    pub(crate) fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Relaxed);
        self.next.store(0, Relaxed);
    }

    /// Counts one bio from above.
    pub(crate) fn count(&self) {
        self.used.fetch_add(1, Relaxed);
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Takes the time for `len` sectors, and returns how long it is until then.
    pub(crate) fn reserve(&self, now: Duration, len: Sectors) -> Duration {
        let Some(nanos) = (u128::from(len.0) * NANOS).checked_div(self.rate().into()) else {
            return Duration::ZERO;
        };
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let begin = |next: u64| next.max(now);
        let next = self
            .next
            .fetch_update(Relaxed, Relaxed, |next| Some(begin(next).saturating_add(nanos)));
        let next = next.unwrap_or_else(|next| next);
        Duration::from_nanos(begin(next) - now)
    }

    /// Returns how long to wait before a step of `len` sectors, after one that took this long; `used`
    /// is what was known of the bios from above then.
    pub(crate) fn wait(
        &self,
        used: &mut u64,
        took: Duration,
        now: Duration,
        len: Sectors,
    ) -> Duration {
        let before = std::mem::replace(used, self.used());
        let stand_back = if *used == before { Duration::ZERO } else { Pace::stand_back(took) };
        stand_back.max(self.reserve(now, len))
    }

    /// Returns how long to stand back after a step that took this long, while others came.
    fn stand_back(took: Duration) -> Duration {
        took.min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spaces_regions_out_and_zero_does_not() {
        let pace = Pace::default();
        let now = Duration::from_secs(5);
        assert_eq!(pace.reserve(now, Sectors(1024)), Duration::ZERO);
        pace.set_rate(2048);
        let half = Duration::from_millis(500);
        assert_eq!(pace.reserve(now, Sectors(1024)), Duration::ZERO);
        assert_eq!(pace.reserve(now, Sectors(1024)), half);
        assert_eq!(pace.reserve(now + half, Sectors(1024)), half);
        // What was not used is not saved up.
        assert_eq!(pace.reserve(now * 2, Sectors(1024)), Duration::ZERO);
        pace.set_rate(0);
        assert_eq!(pace.reserve(now * 2, Sectors(1024)), Duration::ZERO);
    }
}
