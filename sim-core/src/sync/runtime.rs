//! What a driver gives the core and its targets: tasks, time and randomness.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use crate::{Errno, Panic, Refusal};

/// Half of a computation: what [`Runtime::join`] runs, once.
pub type Half<'a> = &'a mut (dyn FnMut() + Send);

/// Runs tasks. The one thing that differs between production and simulation.
pub trait Runtime: Send + Sync {
    /// Runs a task to its end, or until the runtime goes.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// As `spawn`, for a task whose end the caller is about to wait for: it may
    /// run right here, up to where it waits for the first time.
    fn spawn_here(&self, task: BoxFuture<'static, ()>) {
        self.spawn(task);
    }

    /// Runs two halves of a computation, side by side where there are processors for it, and
    /// returns when both have ended. Neither may wait for anything.
    fn join(&self, one: Half<'_>, other: Half<'_>);

    /// Returns the payload of a key from the kernel's key ring, where the driver has one to ask.
    ///
    /// [`Errno::NOKEY`] where there is no such key, [`Errno::ACCES`] where there is and it cannot
    /// be read, [`Errno::INVAL`] for a type that is not known.
    fn key(&self, _kind: &str, _description: &str) -> Result<Zeroizing<Vec<u8>>, Errno> {
        Err(Errno::NOKEY)
    }

    /// Returns the time since the runtime started.
    fn now(&self) -> Duration;

    /// Returns the time by a clock that costs less to read, and moves in steps of some
    /// milliseconds; since when it counts is its own.
    fn coarse_now(&self) -> Duration {
        self.now()
    }

    /// Waits.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Returns a random number.
    fn random(&self) -> u64;

    /// Returns how many processors the machine may have: their numbers are less.
    fn processors(&self) -> u32 {
        1
    }

    /// Returns the number of the processor that this runs on.
    fn processor(&self) -> u32 {
        0
    }

    /// Is told of a panic in a bio, a command or a task, and where it happened. Whatever it
    /// happened in has failed, and all else goes on, unless this panics again: a driver that runs
    /// tests lets it spread.
    fn caught(&self, place: &str, panic: Panic);
}

/// Takes the lines that the kernel would log, each without its newline.
pub trait KernelLog: Send + Sync {
    /// Logs one line.
    fn line(&self, line: &str);
}

/// Where a target's own lines go.
#[derive(Clone)]
pub struct TargetLog {
    log: Arc<dyn KernelLog>,
    name: String,
}

impl TargetLog {
    pub(crate) fn new(log: Arc<dyn KernelLog>, name: &str) -> TargetLog {
        TargetLog { log, name: name.to_owned() }
    }

    /// Returns the log of another module: in the kernel a line bears the name of the module that
    /// wrote it, which need not be the target type's.
    #[must_use]
    pub fn of_module(&self, name: &str) -> TargetLog {
        TargetLog::new(self.log.clone(), name)
    }

    /// Logs a line as the kernel's `DMWARN` and `DMERR` do: `device-mapper: <type>: <text>`.
    pub fn line(&self, text: impl fmt::Display) {
        self.line_with("", text);
    }

    /// Logs a line with something before the `device-mapper:`.
    pub fn line_with(&self, prefix: &str, text: impl fmt::Display) {
        self.log.line(&format!("{prefix}device-mapper: {}: {text}", self.name));
    }

    /// Logs a line of what lies below a target and is no part of the device-mapper, with whatever that has in
    /// front: md's, of a set.
    pub fn line_of_another(&self, line: impl fmt::Display) {
        self.log.line(&line.to_string());
    }

    /// Logs why something is refused, which its caller is told too.
    pub fn refusal(&self, errno: Errno, why: &str) -> Refusal {
        self.line(why);
        Refusal::because(errno, why)
    }
}

/// Drops every line.
pub struct NoLog;

impl KernelLog for NoLog {
    fn line(&self, _line: &str) {}
}
