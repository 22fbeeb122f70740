//! `queue-length`: the path with the fewest bios in flight.

use sim_core::Runtime;

use super::order::Order;
use super::{Choice, Choose};

pub(super) struct QueueLength {
    order: Order,
    in_flight: Vec<u64>,
}

impl QueueLength {
    pub(super) fn new(paths: usize) -> QueueLength {
        QueueLength { order: Order::new(paths), in_flight: vec![0; paths] }
    }
}

impl Choose for QueueLength {
    fn choose(&mut self, _bytes: u64, _runtime: &dyn Runtime) -> Option<Choice> {
        let in_flight = &self.in_flight;
        self.order.take_best(|one, other| in_flight[one] < in_flight[other])
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

    fn start(&mut self, path: usize, _bytes: u64, _runtime: &dyn Runtime) -> u64 {
        self.in_flight[path] += 1;
        0
    }

    fn end(&mut self, path: usize, _bytes: u64, _started: Option<u64>, _runtime: &dyn Runtime) {
        self.in_flight[path] -= 1;
    }

    fn info(&self, path: usize) -> Vec<u64> {
        vec![self.in_flight[path]]
    }
}
