//! The executor: one thread, virtual time, and a seed that makes every choice.

pub(crate) mod core;
pub(crate) mod handle;
pub(crate) mod schedule;
mod trace;

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use sim_core::Runtime;

use self::core::{Core, MAIN, MAX_STEPS, Next, Stuck, lock};
use crate::{Choice, Handle, Schedule, watch};

/// A single-thread executor that chooses by its seed.
///
/// At each step it picks one of what could happen next: a task that is ready runs, or a pending
/// I/O ends. Time is virtual, and moves when nothing else can. The same seed gives the same run,
/// on every machine, in debug and in release; [`trace_digest`](Self::trace_digest) shows it.
///
/// Tasks are dropped with the executor.
pub struct Sim {
    core: Arc<Core>,
}

/// A task that was started, and what it returned.
pub struct Started<T>(Arc<Mutex<Option<T>>>);

impl<T> Started<T> {
    /// Returns what the task returned; `None` while it runs, and after the first call.
    pub fn take(&self) -> Option<T> {
        lock(&self.0).take()
    }

    /// Tells whether the task has ended, and its result was not taken yet.
    pub fn is_done(&self) -> bool {
        lock(&self.0).is_some()
    }
}

impl Sim {
    /// Makes an executor that chooses at random, by the seed.
    pub fn new(seed: u64) -> Sim {
        Sim::with(&Schedule::Random(seed))
    }

    /// Makes an executor that chooses by the schedule.
    pub fn with(schedule: &Schedule) -> Sim {
        Sim { core: Arc::new(Core::new(schedule)) }
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.core.seed()
    }

    /// Keeps panics from spreading from here on, as production does: see [`panics`](Self::panics).
    pub fn catch_panics(&self) {
        self.core.state().caught = Some(Vec::new());
    }

    /// Returns what has panicked since the last call, each with where it did.
    pub fn panics(&self) -> Vec<String> {
        self.core.state().caught.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Returns the choices made so far: as an exact schedule they repeat the run.
    pub fn choices(&self) -> Vec<Choice> {
        self.core.state().choices()
    }

    /// Returns a handle for devices and targets.
    pub fn handle(&self) -> Handle {
        Handle::new(self.core.clone())
    }

    /// Returns the runtime to make a [`Control`](sim_core::Control) with.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.handle())
    }

    /// Starts a task; its name shows in the trace, and in the report of a deadlock.
    pub fn start<T: Send + 'static>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Started<T> {
        let result = Arc::new(Mutex::new(None));
        let to = result.clone();
        let task = async move { *lock(&to) = Some(task.await) };
        Core::spawn(&self.core, name.into(), Box::pin(task));
        Started(result)
    }

    /// Runs `future` to its end, and the tasks with it as far as the seed has it.
    ///
    /// # Panics
    /// When the future waits for what never comes, with the seed and the tasks that wait.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.try_block_on(future).unwrap_or_else(|stuck| panic!("{stuck}"))
    }

    /// As [`block_on`](Self::block_on), for whoever expects a deadlock.
    pub fn try_block_on<T>(&self, future: impl Future<Output = T>) -> Result<T, Stuck> {
        let mut future = pin!(future);
        let waker = Core::add(&self.core, MAIN, "main".to_owned(), None);
        let mut cx = Context::from_waker(&waker);
        let result = self.run(|| match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        });
        self.core.remove_main();
        result.and_then(|value| value.ok_or_else(|| self.core.stuck("main", false)))
    }

    /// Runs until no task is ready, no I/O pending and no timer set: what is left waits for
    /// somebody else. Fails only where there is no end to it.
    pub fn run_until_idle(&self) -> Result<(), Stuck> {
        self.run(|| None::<()>).map(|_| ())
    }

    /// Lists the tasks that have not ended, by name.
    pub fn waiting(&self) -> Vec<String> {
        self.core.state().names()
    }

    /// Keeps the text of the trace from now on.
    pub fn keep_trace(&self) {
        self.core.state().trace.keep_lines();
    }

    /// Returns the lines of the trace, from [`keep_trace`](Self::keep_trace) on.
    pub fn trace(&self) -> Vec<String> {
        self.core.state().trace.lines().to_vec()
    }

    /// Returns a digest of the whole trace, kept or not: equal for equal runs.
    pub fn trace_digest(&self) -> u64 {
        self.core.state().trace.digest()
    }

    /// Takes steps until `main`, polled when its turn comes, returns something, or until
    /// nothing is left that could happen.
    fn run<T>(&self, mut main: impl FnMut() -> Option<T>) -> Result<Option<T>, Stuck> {
        watch::runs(&self.core);
        for _ in 0..MAX_STEPS {
            self.core.step();
            // The lock is let go of before anything runs.
            let next = self.core.state().choose();
            match next {
                Next::Task(MAIN) => {
                    if let Some(value) = main() {
                        return Ok(Some(value));
                    }
                }
                Next::Task(id) => self.core.run_task(id),
                Next::Wake(wakers) => wakers.into_iter().for_each(Waker::wake),
                Next::Nothing => return Ok(None),
            }
        }
        Err(self.core.stuck("", true))
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Tasks hold handles on the executor, and it holds them: let go of them, and do it
        // outside of the lock, as what they hold may wake others when it goes.
        let tasks = self.core.state().take_tasks();
        drop(tasks);
    }
}
