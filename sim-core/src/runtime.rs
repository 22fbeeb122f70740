//! What a driver gives the core and its targets: tasks, time and randomness.

use std::time::Duration;

use futures_util::future::BoxFuture;

/// Runs tasks. The one thing that differs between production and simulation.
pub trait Runtime: Send + Sync {
    /// Runs a task to its end, or until the runtime goes.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Returns the time since the runtime started.
    fn now(&self) -> Duration;

    /// Waits.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Returns a random number.
    fn random(&self) -> u64;
}

/// Takes the lines that the kernel would log, each without its newline.
pub trait KernelLog: Send + Sync {
    /// Logs one line.
    fn line(&self, line: &str);
}

/// Drops every line.
pub struct NoLog;

impl KernelLog for NoLog {
    fn line(&self, _line: &str) {}
}
