//! Threads for what may wait for long: as many as there are calls under way.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How many there are at most.
pub(super) const MOST: usize = 1024;

/// How long one waits for more to do before it ends.
const PATIENCE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// A set of threads.
#[derive(Default)]
pub(super) struct Threads {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    all: usize,
}

impl Threads {
    /// Runs a job on a thread that does nothing else meanwhile. Where there are too many already, or
    /// no more can be had, it is dropped, with what it holds.
    pub(super) fn run(self: &Arc<Threads>, job: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        if state.jobs.len() < state.idle {
            state.jobs.push_back(Box::new(job));
            self.more.notify_one();
            return;
        }
        if state.all >= MOST {
            tracing::warn!(all = state.all, "too many calls wait: one is refused");
            return;
        }
        state.all += 1;
        drop(state);
        let threads = self.clone();
        let started = thread::Builder::new().name("call".to_owned()).spawn(move || {
            job();
            threads.go_on();
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread for a call: it is refused");
            self.state().all -= 1;
        }
    }

    /// Runs what comes, until nothing does.
    fn go_on(&self) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.state();
                continue;
            }
            state.idle += 1;
            let waited =
                self.more.wait_timeout_while(state, PATIENCE, |state| state.jobs.is_empty());
            let (after, end) = waited.unwrap_or_else(PoisonError::into_inner);
            state = after;
            state.idle -= 1;
            if end.timed_out() && state.jobs.is_empty() {
                state.all -= 1;
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn who_waits_holds_up_nobody() {
        let threads = Arc::<Threads>::default();
        let (go, wait) = channel::<()>();
        let (tell, told) = channel();
        threads.run({
            let tell = tell.clone();
            move || tell.send(wait.recv().map(|()| 0)).expect("it is heard")
        });
        for nr in 1..100 {
            let tell = tell.clone();
            threads.run(move || tell.send(Ok(nr)).expect("it is heard"));
            assert_eq!(told.recv().expect("it is run"), Ok(nr));
        }
        go.send(()).expect("it waits");
        assert_eq!(told.recv().expect("it is run"), Ok(0));
        assert!(threads.state().all < 10, "threads are used again");
    }
}
