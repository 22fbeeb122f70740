//! Threads for what may wait for long: as many as there are calls under way.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How many there are at most.
pub(super) const MOST: usize = 1024;

/// How many of them one group of callers has at most: so that none keeps all others out.
pub(super) const EACH: usize = MOST / 8 * 3;

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
    /// How many jobs each group has, those that have not begun too.
    by: HashMap<u64, usize>,
}

impl Threads {
    /// Runs a job of a group on a thread that does nothing else meanwhile. Where there are too many already, of the
    /// group or in all, or no more can be had, it is dropped, with what it holds.
    pub(super) fn run(self: &Arc<Threads>, group: u64, job: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        if state.by.get(&group).is_some_and(|jobs| *jobs >= EACH) {
            tracing::warn!(EACH, "too many calls of one mount namespace wait: one is refused");
            return;
        }
        let (is_idle, all) = (state.jobs.len() < state.idle, state.all);
        if !is_idle && all >= MOST {
            tracing::warn!(all, "too many calls wait: one is refused");
            return;
        }
        *state.by.entry(group).or_default() += 1;
        let counted = Counted(self.clone(), group);
        let job = move || {
            let _until_it_ends = counted;
            job();
        };
        if is_idle {
            state.jobs.push_back(Box::new(job));
            self.more.notify_one();
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

/// A job that counts for its group, until this is dropped.
struct Counted(Arc<Threads>, u64);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some(jobs) = state.by.get_mut(&self.1) {
            *jobs -= 1;
            if *jobs == 0 {
                state.by.remove(&self.1);
            }
        }
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
        threads.run(0, {
            let tell = tell.clone();
            move || tell.send(wait.recv().map(|()| 0)).expect("it is heard")
        });
        for nr in 1..100 {
            let tell = tell.clone();
            threads.run(0, move || tell.send(Ok(nr)).expect("it is heard"));
            assert_eq!(told.recv().expect("it is run"), Ok(nr));
        }
        go.send(()).expect("it waits");
        assert_eq!(told.recv().expect("it is run"), Ok(0));
        assert!(threads.state().all < 10, "threads are used again");
    }

    #[test]
    fn one_group_keeps_no_other_out() {
        let threads = Arc::<Threads>::default();
        let (go, wait) = channel::<()>();
        let (wait, (tell, told)) = (Arc::new(Mutex::new(wait)), channel());
        for _ in 0..=EACH {
            let (wait, tell) = (wait.clone(), tell.clone());
            threads.run(1, move || {
                drop(wait.lock().map(|wait| wait.recv()));
                tell.send(1).expect("it is heard");
            });
        }
        let other = tell.clone();
        threads.run(2, move || other.send(2).expect("it is heard"));
        assert_eq!(told.recv(), Ok(2));
        drop(go);
        drop(tell);
        // All but the one that was too many.
        assert_eq!(told.iter().count(), EACH);
        while !threads.state().by.is_empty() {
            thread::yield_now();
        }
    }
}
