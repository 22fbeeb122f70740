//! What the executor, its tasks and their handles share.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sim_core::{Panic, panic_text};

use super::schedule::Chooser;
use super::trace::Trace;
use crate::{Choice, Rng, Schedule};

/// The most steps of one run. Far above what one takes: a run that gets here goes in circles.
pub const MAX_STEPS: u64 = 1_000_000;

/// What the caller of [`Sim::block_on`](crate::Sim::block_on) waits for, among the tasks.
pub(super) const MAIN: u64 = 0;

/// The executor, as its tasks and their handles share it.
pub(crate) struct Core {
    seed: u64,
    /// How many steps were taken.
    steps: AtomicU64,
    state: Mutex<State>,
}

/// What could happen next, and what did.
pub(crate) struct State {
    chooser: Chooser,
    /// What targets and disks take at random: apart from the choices, which another schedule may
    /// make in another way.
    pub(crate) rng: Rng,
    pub(crate) now: Duration,
    /// A key ring: payloads by type and description.
    pub(crate) keys: BTreeMap<(String, String), Vec<u8>>,
    /// What panicked; none where panics spread.
    pub(crate) caught: Option<Vec<String>>,
    next_id: u64,
    tasks: BTreeMap<u64, Task>,
    /// Tasks that were woken, each once.
    ready: Vec<u64>,
    /// Pending I/Os, each with who is to be woken when its turn comes.
    pub(crate) pending: Vec<(u64, Waker)>,
    pub(crate) timers: BTreeMap<(Duration, u64), Waker>,
    pub(crate) trace: Trace,
    /// The task that runs.
    running: u64,
}

pub(super) struct Task {
    name: String,
    /// The last I/O that ended in it.
    last: String,
    waker: Arc<TaskWaker>,
    /// Taken out while the task runs; [`MAIN`] has none here.
    future: Option<BoxFuture<'static, ()>>,
}

/// Why a run could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The seed that leads here.
    pub seed: u64,
    /// Tasks that wait for what never comes, by their names.
    pub tasks: Vec<String>,
    /// What each of them has done last, and what it may wait for.
    pub waits: Vec<String>,
    /// The run was cut off at [`MAX_STEPS`]; otherwise nothing was left that could happen.
    pub endless: bool,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stuck { seed, tasks, waits, endless } = self;
        let why = if *endless { "no end after so many steps" } else { "deadlock" };
        write!(f, "seed {seed}: {why}; {} tasks wait: {}", tasks.len(), tasks.join(", "))?;
        waits.iter().try_for_each(|wait| write!(f, "\n  {wait}"))
    }
}

impl std::error::Error for Stuck {}

/// What happens next.
pub(super) enum Next {
    Task(u64),
    Wake(Vec<Waker>),
    Nothing,
}

impl State {
    /// Chooses what happens next.
    pub(super) fn choose(&mut self) -> Next {
        let (ready, pending) = (self.ready.len(), self.pending.len());
        if ready + pending == 0 {
            return self.pass_time();
        }
        let (tasks, ios) = (&self.ready, &self.pending);
        let id = |way: usize| if way < ready { tasks[way] } else { ios[way - ready].0 };
        let way = self.chooser.choose(ready, ready + pending, id);
        if way < ready {
            let id = self.ready.swap_remove(way);
            // A task may end, by being dropped, between its wake-up and its turn.
            let Some(task) = self.tasks.get(&id) else { return Next::Wake(Vec::new()) };
            task.waker.queued.store(false, SeqCst);
            self.trace.line(format_args!("run {id} {}", task.name));
            self.running = id;
            return Next::Task(id);
        }
        let (key, waker) = self.pending.swap_remove(way - ready);
        self.trace.line(format_args!("end {key}"));
        Next::Wake(vec![waker])
    }

    fn pass_time(&mut self) -> Next {
        let Some(((now, _), _)) = self.timers.first_key_value() else { return Next::Nothing };
        self.now = *now;
        self.trace.line(format_args!("now {:?}", self.now));
        // All that are due are woken at once: which of them runs first is the seed's choice.
        let later = self.timers.split_off(&(self.now, u64::MAX));
        let due = std::mem::replace(&mut self.timers, later);
        Next::Wake(due.into_values().collect())
    }

    /// Returns the choices made so far.
    pub(super) fn choices(&self) -> Vec<Choice> {
        self.chooser.made().to_vec()
    }

    /// Writes a line into the trace: what happened to an I/O in the task that runs.
    pub(crate) fn note(&mut self, line: fmt::Arguments<'_>) {
        self.trace.line(line);
        if let Some(task) = self.tasks.get_mut(&self.running) {
            task.last.clear();
            write!(task.last, "{line}").expect("a string takes everything");
        }
    }

    /// Says what each task has done last, and what it may wait for.
    fn waits(&self) -> Vec<String> {
        let timed = !self.timers.is_empty();
        let what = match (self.ready.len() + self.pending.len(), timed) {
            (0, false) => "a lock, a gate or a signal, which nobody is left to open",
            _ => "its turn, an I/O, a timer, or another task",
        };
        let task = |task: &Task| match task.last.as_str() {
            "" => format!("{} has done no I/O yet, and waits for {what}", task.name),
            last => format!("{} has ended `{last}`, and waits for {what}", task.name),
        };
        self.tasks.values().map(task).collect()
    }

    /// Lists the tasks that have not ended, by name.
    pub(super) fn names(&self) -> Vec<String> {
        self.tasks.values().map(|task| task.name.clone()).collect()
    }

    /// Takes the tasks out, to be dropped with the lock let go.
    pub(super) fn take_tasks(&mut self) -> BTreeMap<u64, Task> {
        std::mem::take(&mut self.tasks)
    }

    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Core {
    pub(super) fn new(schedule: &Schedule) -> Core {
        let seed = schedule.seed();
        let state = State {
            chooser: Chooser::new(schedule),
            rng: Rng::new(!seed),
            now: Duration::ZERO,
            keys: BTreeMap::new(),
            caught: None,
            next_id: MAIN + 1,
            tasks: BTreeMap::new(),
            ready: Vec::new(),
            pending: Vec::new(),
            timers: BTreeMap::new(),
            trace: Trace::default(),
            running: MAIN,
        };
        Core { seed, steps: AtomicU64::new(0), state: Mutex::new(state) }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(SeqCst)
    }

    pub(super) fn step(&self) {
        self.steps.fetch_add(1, SeqCst);
    }

    /// Says which task runs, and what happened last; nothing where the run cannot be looked at.
    /// For whoever watches from another thread.
    pub(crate) fn running(&self) -> Option<String> {
        let state = self.state.try_lock().ok()?;
        let task = state.tasks.get(&state.running);
        let name = task.map_or("a task that was dropped", |task| &task.name);
        let mut text =
            format!("{name} runs, {} tasks are there; the last steps:\n", state.tasks.len());
        state.trace.recent().for_each(|line| {
            writeln!(text, "  {line}").expect("a string takes everything");
        });
        Some(text)
    }

    /// Takes out what the caller of `block_on` waited for.
    pub(super) fn remove_main(&self) {
        let mut state = self.state();
        state.tasks.remove(&MAIN);
        state.ready.retain(|id| *id != MAIN);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn spawn(core: &Arc<Core>, name: String, future: BoxFuture<'static, ()>) {
        let id = core.state().new_id();
        Core::add(core, id, name, Some(future));
    }

    /// Adds a task that is ready to run, and returns its waker.
    pub(super) fn add(
        core: &Arc<Core>,
        id: u64,
        name: String,
        future: Option<BoxFuture<'static, ()>>,
    ) -> Waker {
        let waker = TaskWaker { core: Arc::downgrade(core), id, queued: AtomicBool::new(true) };
        let waker = Arc::new(waker);
        let mut state = core.state();
        state.tasks.insert(id, Task { name, last: String::new(), waker: waker.clone(), future });
        state.ready.push(id);
        waker.into()
    }

    pub(super) fn run_task(&self, id: u64) {
        let (mut future, waker) = {
            let mut state = self.state();
            let task = state.tasks.get_mut(&id).expect("a task that was chosen is there");
            let future = task.future.take().expect("a task does not run within itself");
            (future, Waker::from(task.waker.clone()))
        };
        // No lock is held while a task runs, nor while it is dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        let polled = polled.unwrap_or_else(|panic| {
            self.caught("a task", panic);
            Poll::Ready(())
        });
        match polled {
            Poll::Ready(()) => {
                drop(future);
                self.state().tasks.remove(&id);
            }
            Poll::Pending => {
                if let Some(task) = self.state().tasks.get_mut(&id) {
                    task.future = Some(future);
                }
            }
        }
    }

    /// Lets a panic spread, so that a test fails where it happened, unless the test is about it.
    pub(crate) fn caught(&self, place: &str, panic: Panic) {
        let mut state = self.state();
        let Some(caught) = &mut state.caught else {
            drop(state);
            resume_unwind(panic);
        };
        caught.push(format!("{place}: {}", panic_text(&panic)));
    }

    pub(super) fn stuck(&self, main: &str, endless: bool) -> Stuck {
        let state = self.state();
        let main = Some(main.to_owned()).filter(|main| !main.is_empty());
        let tasks = main.into_iter().chain(state.tasks.values().map(|task| task.name.clone()));
        Stuck { seed: self.seed, tasks: tasks.collect(), waits: state.waits(), endless }
    }
}

struct TaskWaker {
    core: Weak<Core>,
    id: u64,
    queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, SeqCst)
            && let Some(core) = self.core.upgrade()
        {
            core.state().ready.push(self.id);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
