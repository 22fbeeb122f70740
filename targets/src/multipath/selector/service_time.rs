//! `service-time`: the path that will have carried what is in flight, and this bio, first.

use sim_core::Runtime;

use super::order::Order;
use super::{Choice, Choose};

pub(super) struct ServiceTime {
    order: Order,
    paths: Vec<Load>,
}

#[derive(Clone, Copy)]
struct Load {
    /// Bytes in flight.
    bytes: u64,
    /// What the path carries next to others.
    throughput: u32,
}

impl ServiceTime {
    pub(super) fn new(throughputs: impl Iterator<Item = u32>) -> ServiceTime {
        let paths: Vec<Load> =
            throughputs.map(|throughput| Load { bytes: 0, throughput }).collect();
        ServiceTime { order: Order::new(paths.len()), paths }
    }
}

impl Load {
    /// Tells whether a bio of so many bytes is done earlier by this path than by another.
    fn is_better(self, other: Load, bytes: u64) -> bool {
        if self.throughput == other.throughput {
            return self.bytes < other.bytes;
        }
        let has_more = self.throughput > other.throughput;
        if self.bytes == other.bytes || self.throughput == 0 || other.throughput == 0 {
            return has_more;
        }
        // Both times the product of the throughputs, so that nothing is divided.
        let time = |load: Load, by: Load| {
            (u128::from(load.bytes) + u128::from(bytes)) * u128::from(by.throughput)
        };
        let (own, others) = (time(self, other), time(other, self));
        own < others || own == others && has_more
    }
}

impl Choose for ServiceTime {
    fn choose(&mut self, bytes: u64, _runtime: &dyn Runtime) -> Option<Choice> {
        let paths = &self.paths;
        self.order.take_best(|one, other| paths[one].is_better(paths[other], bytes))
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

    fn start(&mut self, path: usize, bytes: u64, _runtime: &dyn Runtime) -> u64 {
        self.paths[path].bytes += bytes;
        0
    }

    fn end(&mut self, path: usize, bytes: u64, _started: Option<u64>, _runtime: &dyn Runtime) {
        self.paths[path].bytes -= bytes;
    }

    fn info(&self, path: usize) -> Vec<u64> {
        let Load { bytes, throughput } = self.paths[path];
        vec![bytes, throughput.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_path_takes_more_before_a_slow_one_is_better() {
        let load = |bytes, throughput| Load { bytes, throughput };
        assert!(load(4096, 10).is_better(load(0, 1), 4096));
        assert!(!load(40960, 10).is_better(load(0, 1), 4096));
        // As soon: the faster one.
        assert!(load(36864, 10).is_better(load(0, 1), 4096));
        assert!(!load(0, 0).is_better(load(1 << 40, 1), 4096));
        assert!(load(u64::MAX, 99).is_better(load(u64::MAX, 98), u64::MAX));
    }
}
