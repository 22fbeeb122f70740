//! What a target does in the background: begun at a resume, told to end at a suspend, waited for
//! before the suspend is over.
//!
//! Tasks belong to the *round* that they began in. [`Background::end`] ends the round: its tasks see
//! that, and come to their end as soon as they can. They are counted until they are gone, however
//! that comes about (at their last line, by a panic, with the runtime), so that nobody waits for
//! ever for a task that is no more.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use sim_core::{Outcome, Runtime, Signal};

use super::lock::lock;

/// The tasks of a target in the background.
#[derive(Clone, Default)]
pub(crate) struct Background(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Given when a round ends or is resumed, and when a task is gone.
    changed: Signal,
}

#[derive(Default)]
struct State {
    /// The round that tasks begin in.
    round: u64,
    /// The last round was ended, and no other has been resumed.
    ended: bool,
    /// How many tasks there are of each round that has some.
    running: BTreeMap<u64, u32>,
}

impl Background {
    /// Says that the target is in use again: whoever waits for the end of its tasks does so no more.
    pub(crate) fn resume(&self) {
        self.0.state().ended = false;
        self.0.changed.notify();
    }

    /// Ends the round: its tasks come to their end as soon as they can.
    pub(crate) fn end(&self) {
        {
            let mut state = self.0.state();
            state.round += 1;
            state.ended = true;
        }
        self.0.changed.notify();
    }

    /// Counts a task, which begins now or a little later.
    pub(crate) fn begin(&self) -> Running {
        let mut state = self.0.state();
        let round = state.round;
        *state.running.entry(round).or_default() += 1;
        Running(Round { shared: self.0.clone(), number: round })
    }

    /// Waits until every task is gone, or the target is in use again.
    pub(crate) async fn settled(&self) {
        let settled = || {
            let state = self.0.state();
            (state.running.is_empty() || !state.ended).then_some(())
        };
        self.0.changed.until(settled).await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A task in the background; counted until this is dropped.
#[must_use]
pub(crate) struct Running(Round);

impl Running {
    /// Starts the task. What it holds is dropped before it is counted as gone: whoever has waited
    /// for that may take its devices away.
    pub(crate) fn spawn<F>(self, runtime: &dyn Runtime, task: impl FnOnce(Round) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = task(self.0.clone());
        runtime.spawn(Box::pin(async move {
            let _running = self;
            task.await;
        }));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Round { shared, number } = &self.0;
        {
            let mut state = shared.state();
            let count = state.running.get_mut(number).expect("a task that runs is counted");
            *count -= 1;
            if *count == 0 {
                state.running.remove(number);
            }
        }
        shared.changed.notify();
    }
}

/// What a task knows of the round that it began in.
#[derive(Clone)]
pub(crate) struct Round {
    shared: Arc<Shared>,
    number: u64,
}

impl Round {
    /// Tells whether the tasks of this round are to go on.
    pub(crate) fn goes_on(&self) -> bool {
        self.shared.state().round == self.number
    }

    /// Waits for some time, or until the round ends.
    pub(crate) async fn sleep(&self, runtime: &dyn Runtime, time: Duration) {
        let ended = self.shared.changed.until(|| (!self.goes_on()).then_some(()));
        match select(runtime.sleep(time), Box::pin(ended)).await {
            Either::Left(((), _)) | Either::Right(((), _)) => {}
        }
    }

    /// Waits until the tasks of earlier rounds are gone: those that were told to end, and may be at
    /// work yet when the target is in use again.
    pub(crate) async fn earlier_are_gone(&self) {
        let gone = || {
            let state = self.shared.state();
            state.running.range(..self.number).next().is_none().then_some(())
        };
        self.shared.changed.until(gone).await;
    }
}

/// Lets others run.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs a task of its own to its end, and waits for that: whoever drops this waits no more, and the
/// task goes on.
pub(crate) async fn finish(runtime: &dyn Runtime, task: impl Future<Output = ()> + Send + 'static) {
    let ended = Arc::new(Outcome::new());
    let ends = EndOnDrop::new(ended.clone(), ());
    runtime.spawn_here(Box::pin(async move {
        let _ends = ends;
        task.await;
    }));
    ended.wait().await;
}

/// Ends an outcome when it is dropped, unless it was ended before. Held by a task, which is dropped
/// however it comes to its end: at its last line, by a panic, or with the runtime. Nobody waits for
/// ever for a task that is gone.
pub(crate) struct EndOnDrop<T: Copy> {
    outcome: Arc<Outcome<T>>,
    otherwise: T,
}

impl<T: Copy> EndOnDrop<T> {
    /// Ends an outcome, with `otherwise` where nobody says anything else.
    pub(crate) fn new(outcome: Arc<Outcome<T>>, otherwise: T) -> EndOnDrop<T> {
        EndOnDrop { outcome, otherwise }
    }

    pub(crate) fn with(self, value: T) {
        self.outcome.set(value);
    }
}

impl<T: Copy> Drop for EndOnDrop<T> {
    fn drop(&mut self) {
        if !self.outcome.has_ended() {
            self.outcome.set(self.otherwise);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

    use futures_util::FutureExt;
    use testkit::World;

    use super::*;

    fn world() -> World {
        World::new(1, sim_core::Registry::new())
    }

    /// Starts a task that waits for the end of its round, and counts itself when it has seen it.
    fn start(world: &World, background: &Background, ended: &Arc<AtomicU32>) {
        let (runtime, ended) = (world.sim.runtime(), ended.clone());
        let sleeps = runtime.clone();
        background.begin().spawn(&*runtime, |round| async move {
            while round.goes_on() {
                round.sleep(&*sleeps, Duration::from_secs(3600)).await;
            }
            ended.fetch_add(1, SeqCst);
        });
    }

    #[test]
    fn the_tasks_of_a_round_end_with_it_and_are_waited_for() {
        let (world, background) = (world(), Background::default());
        let ended = Arc::new(AtomicU32::new(0));
        start(&world, &background, &ended);
        start(&world, &background, &ended);
        assert_eq!(background.settled().now_or_never(), Some(()), "the round goes on");
        background.end();
        assert_eq!(background.settled().now_or_never(), None, "two tasks are there yet");
        let (waits, begun) = (background.clone(), world.sim.runtime().now());
        world.sim.block_on(async move { waits.settled().await });
        assert_eq!(ended.load(SeqCst), 2);
        assert!(world.sim.runtime().now() - begun < Duration::from_secs(1), "nobody slept on");
    }

    #[test]
    fn a_suspend_that_is_given_up_waits_for_nobody_and_the_next_round_begins() {
        let (world, background) = (world(), Background::default());
        let ended = Arc::new(AtomicU32::new(0));
        start(&world, &background, &ended);
        background.end();
        background.resume();
        assert_eq!(background.settled().now_or_never(), Some(()));
        let second = background.begin();
        assert_eq!(
            second.0.earlier_are_gone().now_or_never(),
            None,
            "one of the first round is at work"
        );
        let round = second.0.clone();
        world.sim.block_on(async move { round.earlier_are_gone().await });
        assert_eq!((ended.load(SeqCst), second.0.goes_on()), (1, true));
    }

    #[test]
    fn a_task_that_is_dropped_or_panics_is_not_waited_for() {
        let (world, background) = (world(), Background::default());
        world.sim.catch_panics();
        let never = background.begin();
        background.begin().spawn(&*world.sim.runtime(), |_| async { panic!("planted") });
        background.end();
        let dropped = async move {
            let _never = never;
            std::future::pending::<()>().await;
        };
        drop(dropped);
        let waits = background.clone();
        world.sim.block_on(async move { waits.settled().await });
        background.end();
        assert_eq!(background.settled().now_or_never(), Some(()));
    }

    #[test]
    fn a_task_goes_on_when_nobody_waits_for_it_any_more() {
        let world = world();
        let (runtime, handle) = (world.sim.runtime(), world.handle());
        let over = Arc::new(AtomicBool::new(false));
        let says = over.clone();
        let mut waits = Box::pin(finish(&*runtime, async move {
            handle.turn().await;
            says.store(true, SeqCst);
        }));
        assert!((&mut waits).now_or_never().is_none());
        drop(waits);
        world.sim.run_until_idle().expect("an end");
        assert!(over.load(SeqCst));
    }

    #[test]
    fn who_waits_for_a_task_that_is_dropped_waits_no_more() {
        let ended = Arc::new(Outcome::new());
        let ends = EndOnDrop::new(ended.clone(), ());
        let task = async move {
            let _ends = ends;
            std::future::pending::<()>().await;
        };
        drop(task);
        assert!(ended.has_ended());
    }
}
