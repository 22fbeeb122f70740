//! The threads of one target, which run a plug-in's blocking callbacks.
//!
//! Each target has threads of its own: a callback that waits for a device below waits for the
//! threads of another target, so a stack of plug-ins cannot run out of threads to go on with.
//! They start when there is work, and end when there has been none for a while.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use sim_core::{Outcome, Runtime};

use crate::in_turn;

/// How long a thread waits for more to do.
const IDLE: Duration = Duration::from_secs(2);

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Threads, at most so many at a time.
pub(crate) struct Workers {
    max: usize,
    state: Mutex<State>,
    work: Condvar,
    /// Jobs run one at a time, as tasks of this simulation, and not side by side.
    in_turn: Option<Arc<dyn Runtime>>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Jobs that are queued or run.
    pending: usize,
    /// Whoever waits until there are none.
    waiting: Vec<Waker>,
    closed: bool,
}

impl Workers {
    /// Makes workers without a thread yet.
    pub(crate) fn new(max: usize) -> Arc<Workers> {
        Arc::new(Workers { max, state: Mutex::default(), work: Condvar::new(), in_turn: None })
    }

    /// Makes workers whose jobs run one at a time, as the simulation of this runtime chooses.
    pub(crate) fn in_turn(runtime: Arc<dyn Runtime>) -> Arc<Workers> {
        let (state, work) = (Mutex::default(), Condvar::new());
        Arc::new(Workers { max: 0, state, work, in_turn: Some(runtime) })
    }

    /// Runs `act` on one of the threads. It begins with the call, and goes on to its end also
    /// when the future is dropped. `None` when no thread could be started, or `act` panicked.
    pub(crate) fn run<T, F>(
        self: &Arc<Workers>,
        act: F,
    ) -> impl Future<Output = Option<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let answer = Arc::new(Mutex::new(Answer { value: None, ended: false, waker: None }));
        let waits = Waits(Arc::default());
        let given_up = waits.0.clone();
        // Tells of the end when it is dropped, also by a queue that nobody serves.
        let mut end = End { slot: answer.clone(), value: None, _pending: Pending::new(self) };
        let job: Job = Box::new(move || {
            end.value = catch_unwind(AssertUnwindSafe(act)).ok();
            drop(end);
        });
        self.push(job, given_up);
        std::future::poll_fn(move |cx| {
            let _until_dropped = &waits;
            let mut answer = lock(&answer);
            if answer.ended {
                return Poll::Ready(answer.value.take());
            }
            answer.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// Waits until nothing runs.
    pub(crate) async fn idle(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            if state.pending == 0 {
                return Poll::Ready(());
            }
            state.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Lets the threads end when they have done what there is.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.work.notify_all();
    }

    fn push(self: &Arc<Workers>, job: Job, given_up: Arc<Outcome<()>>) {
        if let Some(runtime) = &self.in_turn {
            return runtime.spawn(Box::pin(in_turn::run(job, given_up)));
        }
        let mut state = self.state();
        state.queue.push_back(job);
        if state.idle >= state.queue.len() || state.threads >= self.max {
            drop(state);
            self.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let workers = self.clone();
        let started =
            thread::Builder::new().name("plugin".to_owned()).spawn(move || workers.serve());
        if let Err(error) = started {
            tracing::error!(%error, "no thread for a plug-in");
            let mut state = self.state();
            state.threads -= 1;
            // The threads that there are do it later; without any, nobody would.
            let stranded = (state.threads == 0).then(|| std::mem::take(&mut state.queue));
            drop(state);
            drop(stranded);
        }
    }

    fn serve(&self) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                job();
                state = self.state();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, IDLE);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Tells when nobody waits for a job any more, be it that it has ended.
struct Waits(Arc<Outcome<()>>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.set(());
    }
}

/// Counts a job until it has ended.
struct Pending(Arc<Workers>);

impl Pending {
    fn new(workers: &Arc<Workers>) -> Pending {
        workers.state().pending += 1;
        Pending(workers.clone())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.state();
            state.pending -= 1;
            match state.pending {
                0 => std::mem::take(&mut state.waiting),
                _ => Vec::new(),
            }
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

struct Answer<T> {
    value: Option<T>,
    ended: bool,
    waker: Option<Waker>,
}

/// Tells of a job's end, however it comes.
struct End<T> {
    slot: Arc<Mutex<Answer<T>>>,
    value: Option<T>,
    _pending: Pending,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        let waker = {
            let mut answer = lock(&self.slot);
            (answer.value, answer.ended) = (self.value.take(), true);
            answer.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn jobs_run_side_by_side_up_to_the_limit() {
        let (workers, barrier) = (Workers::new(4), Arc::new(Barrier::new(4)));
        let running = Arc::new(AtomicUsize::new(0));
        let jobs: Vec<_> = (0..16)
            .map(|n| {
                let (barrier, running) = (barrier.clone(), running.clone());
                workers.run(move || {
                    assert!(running.fetch_add(1, SeqCst) < 4);
                    // Ends only when four are here.
                    barrier.wait();
                    running.fetch_sub(1, SeqCst);
                    n
                })
            })
            .collect();
        let ends: Vec<_> = jobs.into_iter().map(pollster::block_on).collect();
        assert_eq!(ends, (0..16).map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_whose_future_is_dropped_is_waited_for() {
        let workers = Workers::new(2);
        let done = Arc::new(AtomicUsize::new(0));
        let job = done.clone();
        drop(workers.run(move || {
            thread::sleep(Duration::from_millis(50));
            job.store(1, SeqCst);
        }));
        pollster::block_on(workers.idle());
        assert_eq!(done.load(SeqCst), 1);
    }

    #[test]
    fn a_job_that_panics_ends_without_a_value() {
        let workers = Workers::new(1);
        assert_eq!(pollster::block_on(workers.run(|| panic!("on purpose"))), None::<()>);
        assert_eq!(pollster::block_on(workers.run(|| 5)), Some(5));
        workers.close();
    }
}
