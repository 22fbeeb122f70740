//! `round-robin`: one path after the other.

use sim_core::Runtime;

use super::order::Order;
use super::{Choice, Choose};

pub(super) struct RoundRobin(Order);

impl RoundRobin {
    pub(super) fn new(paths: usize) -> RoundRobin {
        RoundRobin(Order::new(paths))
    }
}

impl Choose for RoundRobin {
    fn choose(&mut self, _bytes: u64, _runtime: &dyn Runtime) -> Option<Choice> {
        self.0.take_best(|_, _| false)
    }

    fn put_back(&mut self, choice: Choice) {
        self.0.put_back(choice);
    }

    fn fail(&mut self, path: usize) {
        self.0.fail(path);
    }

    /// It is the next, where other selectors have it last.
    fn reinstate(&mut self, path: usize) {
        self.0.add_first(path);
    }

    fn info(&self, _path: usize) -> Vec<u64> {
        Vec::new()
    }
}
