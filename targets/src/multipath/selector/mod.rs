//! How a group chooses a path.

mod historical_service_time;
mod io_affinity;
mod order;
mod queue_length;
mod round_robin;
mod service_time;

use std::sync::Arc;

use sim_core::{OpenDevice, Runtime};

use self::historical_service_time::HistoricalServiceTime;
use self::io_affinity::IoAffinity;
use self::queue_length::QueueLength;
use self::round_robin::RoundRobin;
use self::service_time::ServiceTime;
use crate::lines::multipath::{Group, Selector};

/// Chooses among the paths of a group, which are counted from 0.
pub(super) trait Choose: Send {
    /// Chooses a path for a bio of so many bytes; none where all have failed.
    fn choose(&mut self, bytes: u64, runtime: &dyn Runtime) -> Option<Choice>;

    /// Takes a choice back, as if it had not been made.
    fn put_back(&mut self, choice: Choice);

    /// Leaves a path out that has failed.
    fn fail(&mut self, path: usize);

    /// Takes a path in again.
    fn reinstate(&mut self, path: usize);

    /// Counts a bio that goes by a path; returns the time, where that matters.
    fn start(&mut self, _path: usize, _bytes: u64, _runtime: &dyn Runtime) -> u64 {
        0
    }

    /// Counts the end of a bio. `started` is what [`start`](Self::start) returned; none for one that
    /// was not carried out.
    fn end(&mut self, _path: usize, _bytes: u64, _started: Option<u64>, _runtime: &dyn Runtime) {}

    /// Returns what a status says of a path.
    fn info(&self, path: usize) -> Vec<u64>;
}

/// A path that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) path: usize,
    /// What the selector needs to take it back.
    mark: usize,
}

/// Makes the selector of a group.
pub(super) fn selector(group: &Group<Arc<OpenDevice>>) -> Box<dyn Choose> {
    let count = group.paths.len();
    match group.selector {
        Selector::RoundRobin => Box::new(RoundRobin::new(count)),
        Selector::QueueLength => Box::new(QueueLength::new(count)),
        Selector::ServiceTime => {
            let throughputs = group.paths.iter().map(|path| path.args.relative_throughput);
            Box::new(ServiceTime::new(throughputs))
        }
        Selector::HistoricalServiceTime { base_weight, threshold_multiplier } => {
            Box::new(HistoricalServiceTime::new(count, base_weight, threshold_multiplier))
        }
        Selector::IoAffinity => {
            Box::new(IoAffinity::new(group.paths.iter().map(|path| &path.args.processors)))
        }
    }
}
