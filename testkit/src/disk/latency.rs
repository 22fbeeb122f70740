//! How long the I/O of a simulated disk takes, in virtual time.

use std::time::Duration;

use sim_core::{Bio, Op, Rng};

/// How long each bio of a disk takes; by chance, as far as the seed has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// What each bio takes.
    pub base: Duration,
    /// What it takes besides for the way from where the bio before it ended, across the whole disk.
    pub seek: Duration,
    /// The most that chance adds.
    pub jitter: Duration,
    /// What a flush takes besides.
    pub flush: Duration,
    /// One bio of so many takes this long besides; none where the number is zero.
    pub stalls: (u32, Duration),
}

impl Latency {
    /// A disk of flash.
    pub const FLASH: Latency = Latency {
        base: Duration::from_micros(60),
        seek: Duration::ZERO,
        jitter: Duration::from_micros(40),
        flush: Duration::from_micros(300),
        stalls: (200, Duration::from_millis(8)),
    };

    /// A disk that turns.
    pub const TURNING: Latency = Latency {
        base: Duration::from_micros(500),
        seek: Duration::from_millis(9),
        jitter: Duration::from_millis(8),
        flush: Duration::from_millis(12),
        stalls: (0, Duration::ZERO),
    };

    /// A disk that tries a bad sector again and again, now and then.
    pub const STALLING: Latency = Latency {
        base: Duration::from_millis(2),
        seek: Duration::ZERO,
        jitter: Duration::from_millis(1),
        flush: Duration::from_millis(5),
        stalls: (12, Duration::from_secs(7)),
    };

    /// Returns how long a bio takes, and where the next one starts from.
    pub(crate) fn of(&self, bio: &Bio<'_>, from: u64, size: u64, random: u64) -> (Duration, u64) {
        let mut rng = Rng::new(random);
        let part = |whole: Duration, of: u64| whole.mul_f64(of as f64 / u32::MAX as f64);
        let mut time = self.base + part(self.jitter, rng.number() >> 32);
        let mut to = from;
        match bio.op() {
            Op::Flush => time += self.flush,
            Op::Read | Op::Write | Op::Discard | Op::WriteZeroes | Op::SecureErase => {
                let way = bio.sector.0.abs_diff(from).min(size);
                time += part(self.seek, way * u64::from(u32::MAX) / size.max(1));
                to = bio.sector.0.saturating_add(bio.len().0);
            }
        }
        let (one_of, stall) = self.stalls;
        if one_of > 0 && rng.number().is_multiple_of(u64::from(one_of)) {
            time += stall;
        }
        (time, to)
    }
}
