//! Has states judged, several at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::plan::States;
use crate::state::State;

/// A state that was found wanting, and what was said of it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The state.
    pub state: State,
    /// Why.
    pub why: String,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// How many states were judged.
    pub checked: u64,
    /// Those that failed, in the order of the plan.
    pub failures: Vec<Failure>,
    /// It was broken off.
    pub stopped: bool,
}

/// Tells how far it is, and takes the word to stop.
#[derive(Debug, Default)]
pub struct Progress {
    checked: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// How many states were judged.
    pub fn checked(&self) -> u64 {
        self.checked.load(Relaxed)
    }

    /// Breaks it off.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Tells whether it was broken off.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// Gives each state to one of `jobs` workers, which says why it is wrong, or [`None`] where it cannot tell, as it was
/// broken off; ends with so many failures.
///
/// `judge` is called with the number of the worker, from 0, and a state.
pub fn check_all(
    states: &mut States,
    jobs: usize,
    failures: usize,
    progress: &Progress,
    judge: impl Fn(usize, &State) -> Option<Result<(), String>> + Sync,
) -> Found {
    let queue = Mutex::new((states, 0_u64));
    let found: Mutex<Vec<(u64, Failure)>> = Mutex::default();
    let enough = AtomicBool::new(false);
    let work = |worker: usize| {
        while !progress.is_stopped() && !enough.load(Relaxed) {
            let next = {
                let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.1 += 1;
                let turn = queue.1;
                queue.0.next().map(|state| (turn, state))
            };
            let Some((turn, state)) = next else { return };
            let Some(result) = judge(worker, &state) else { return };
            progress.checked.fetch_add(1, Relaxed);
            let Err(why) = result else { continue };
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.push((turn, Failure { state, why }));
            enough.store(found.len() >= failures, Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for worker in 1..jobs {
            let work = &work;
            scope.spawn(move || work(worker));
        }
        work(0);
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(turn, _)| *turn);
    found.truncate(failures);
    Found {
        checked: progress.checked(),
        failures: found.into_iter().map(|(_, failure)| failure).collect(),
        stopped: progress.is_stopped(),
    }
}
