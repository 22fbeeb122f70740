//! `historical-service-time`: the path that will be ready first, by how long it took before.
//!
//! The time that bios took is averaged, the past with a weight that falls with the time that the last
//! one took. All is in nanoseconds, and where an average is, in 1024ths of them.

use sim_core::Runtime;

use super::order::Order;
use super::{Choice, Choose};

const SHIFT: u32 = 10;
const ONE: u64 = 1 << SHIFT;

/// The longest time that is told from a longer one.
const LONGEST: u64 = u64::MAX >> SHIFT;

/// Times are told apart in steps of about 16 ms, of which there are so many.
const STEP_SHIFT: u32 = 24;
const STEPS: usize = 64;

pub(super) struct HistoricalServiceTime {
    order: Order,
    paths: Vec<History>,
    /// The weight of the past by how long a bio took.
    weights: [u64; STEPS],
    multiplier: u64,
}

#[derive(Clone, Copy)]
struct History {
    /// The average, in 1024ths.
    time: u64,
    in_flight: u64,
    /// When the average is too old to be relied on.
    stale_after: u64,
    last_end: u64,
}

impl HistoricalServiceTime {
    pub(super) fn new(paths: usize, base_weight: u32, multiplier: u32) -> HistoricalServiceTime {
        let mut weights = [0; STEPS];
        // The last one stays 0: what took so long makes all that was forgotten.
        for (power, weight) in (1..).zip(&mut weights[..STEPS - 1]) {
            *weight = to_the_power(base_weight.into(), power);
        }
        let fresh = History { time: ONE, in_flight: 0, stale_after: 0, last_end: 0 };
        HistoricalServiceTime {
            order: Order::new(paths),
            paths: vec![fresh; paths],
            weights,
            multiplier: multiplier.into(),
        }
    }

    fn is_better(&self, one: History, other: History, now: u64) -> bool {
        let (low, high) = (one.time.min(other.time), one.time.max(other.time));
        let fewer = one.in_flight < other.in_flight;
        if high <= self.multiplier.saturating_mul(low) {
            return fewer;
        }
        let is_idle = |path: History| path.in_flight == 0;
        let is_stale = |path: History| path.stale_after < now;
        match (is_idle(one), is_idle(other)) {
            // One that nobody has tried for longer.
            (true, true) => return one.stale_after < other.stale_after,
            (true, false) if is_stale(one) => return other.stale_after > 0,
            (false, true) if is_stale(other) => return false,
            _ => {}
        }
        let ready = |path: History| u128::from(path.time) * (1 + u128::from(path.in_flight));
        let better = ready(one) <= ready(other);
        // One whose time is not known any more gets no more than its share.
        match is_stale(if better { one } else { other }) {
            true => fewer,
            false => better,
        }
    }
}

impl Choose for HistoricalServiceTime {
    fn choose(&mut self, _bytes: u64, runtime: &dyn Runtime) -> Option<Choice> {
        let now = nanoseconds(runtime);
        let mut order = std::mem::replace(&mut self.order, Order::new(0));
        let choice =
            order.take_best(|one, other| self.is_better(self.paths[one], self.paths[other], now));
        self.order = order;
        choice
    }

    fn put_back(&mut self, choice: Choice) {
        self.order.put_back(choice);
    }

    fn fail(&mut self, path: usize) {
        self.order.fail(path);
    }

    fn reinstate(&mut self, path: usize) {
        self.order.add_last(path);
    }

    fn start(&mut self, path: usize, _bytes: u64, runtime: &dyn Runtime) -> u64 {
        self.paths[path].in_flight += 1;
        nanoseconds(runtime)
    }

    fn end(&mut self, path: usize, _bytes: u64, started: Option<u64>, runtime: &dyn Runtime) {
        let live = self.order.len() as u64;
        let path = &mut self.paths[path];
        path.in_flight -= 1;
        let Some(started) = started else { return };
        let now = nanoseconds(runtime);
        // As if it had begun when the one before it ended.
        let took = now.saturating_sub(started.max(path.last_end));
        path.last_end = now;
        let step = ((took >> STEP_SHIFT) as usize).min(STEPS - 1);
        path.time = average(path.time, took.min(LONGEST >> SHIFT) << SHIFT, self.weights[step]);
        path.stale_after = now.saturating_add(live.saturating_mul(path.time >> SHIFT));
    }

    fn info(&self, path: usize) -> Vec<u64> {
        let path = self.paths[path];
        vec![path.time, path.in_flight, path.stale_after]
    }
}

fn nanoseconds(runtime: &dyn Runtime) -> u64 {
    runtime.now().as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Multiplies numbers of which one is 1024, and rounds.
fn times(one: u64, other: u64) -> u64 {
    (one * other + ONE / 2) >> SHIFT
}

fn to_the_power(mut base: u64, mut power: u32) -> u64 {
    let mut result = ONE;
    while power > 0 {
        if power & 1 == 1 {
            result = times(result, base);
        }
        base = times(base, base);
        power >>= 1;
    }
    result
}

fn average(past: u64, now: u64, weight: u64) -> u64 {
    let sum = u128::from(past) * u128::from(weight) + u128::from(now) * u128::from(ONE - weight);
    ((sum + u128::from(ONE / 2)) >> SHIFT) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_what_a_real_linux_shows() {
        // Both were read from one, whose first bio took 303838 and 385409 ns.
        assert_eq!(average(ONE, 303_838 << SHIFT, 972), 15_800_548);
        assert_eq!(average(ONE, 385_409 << SHIFT, 0), 394_658_816);
    }

    #[test]
    fn the_past_counts_less_the_longer_a_bio_took() {
        let paths = HistoricalServiceTime::new(1, 972, 0);
        assert_eq!(paths.weights[0], 972);
        assert!(paths.weights.is_sorted_by(|longer, shorter| longer >= shorter));
        assert_eq!(paths.weights[STEPS - 1], 0);
        assert_eq!(HistoricalServiceTime::new(1, 0, 0).weights, [0; STEPS]);
    }

    #[test]
    fn a_path_that_took_long_is_left_alone_until_it_is_forgotten() {
        let paths = HistoricalServiceTime::new(2, 972, 0);
        let path =
            |time, in_flight, stale_after| History { time, in_flight, stale_after, last_end: 0 };
        // Both in use: by when they will be ready.
        assert!(paths.is_better(path(10, 1, 9), path(100, 1, 9), 5));
        assert!(!paths.is_better(path(100, 1, 9), path(10, 1, 9), 5));
        assert!(!paths.is_better(path(10, 30, 9), path(100, 1, 9), 5));
        // One is idle, and forgotten: it is tried.
        assert!(paths.is_better(path(100, 0, 1), path(10, 1, 9), 5));
        assert!(!paths.is_better(path(10, 1, 9), path(100, 0, 1), 5));
        // A winner whose time is old gets its share.
        assert!(!paths.is_better(path(10, 2, 1), path(1000, 1, 9), 5));
        // Equal as far as the line minds: by what is in flight.
        let paths = HistoricalServiceTime::new(2, 972, 20);
        assert!(paths.is_better(path(100, 0, 9), path(10, 1, 9), 5));
    }
}
