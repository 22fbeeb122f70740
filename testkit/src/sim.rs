//! The executor: one thread, virtual time, and a seed that makes every choice.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sim_core::{Panic, Runtime, panic_text};

use crate::schedule::{Choice, Chooser, Schedule};
use crate::trace::Trace;
use crate::{Handle, Rng};

/// The most steps of one run. Far above what one takes: a run that gets here goes in circles.
pub const MAX_STEPS: u64 = 1_000_000;

/// What the caller of [`Sim::block_on`] waits for, among the tasks.
const MAIN: u64 = 0;

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

pub(crate) struct Core {
    seed: u64,
    state: Mutex<State>,
}

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
}

struct Task {
    name: String,
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
    /// The run was cut off at [`MAX_STEPS`]; otherwise nothing was left that could happen.
    pub endless: bool,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stuck { seed, tasks, endless } = self;
        let why = if *endless { "no end after so many steps" } else { "deadlock" };
        write!(f, "seed {seed}: {why}; {} tasks wait: {}", tasks.len(), tasks.join(", "))
    }
}

impl std::error::Error for Stuck {}

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
        };
        Sim { core: Arc::new(Core { seed, state: Mutex::new(state) }) }
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.core.seed
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
        self.core.state().chooser.made().to_vec()
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
        let mut state = self.core.state();
        state.tasks.remove(&MAIN);
        state.ready.retain(|id| *id != MAIN);
        drop(state);
        result.and_then(|value| value.ok_or_else(|| self.core.stuck("main", false)))
    }

    /// Runs until no task is ready, no I/O pending and no timer set: what is left waits for
    /// somebody else. Fails only where there is no end to it.
    pub fn run_until_idle(&self) -> Result<(), Stuck> {
        self.run(|| None::<()>).map(|_| ())
    }

    /// Lists the tasks that have not ended, by name.
    pub fn waiting(&self) -> Vec<String> {
        self.core.state().tasks.values().map(|task| task.name.clone()).collect()
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
        for _ in 0..MAX_STEPS {
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
        let tasks = std::mem::take(&mut self.core.state().tasks);
        drop(tasks);
    }
}

enum Next {
    Task(u64),
    Wake(Vec<Waker>),
    Nothing,
}

impl State {
    /// Chooses what happens next.
    fn choose(&mut self) -> Next {
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

    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Core {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn spawn(core: &Arc<Core>, name: String, future: BoxFuture<'static, ()>) {
        let id = core.state().new_id();
        Core::add(core, id, name, Some(future));
    }

    /// Adds a task that is ready to run, and returns its waker.
    fn add(
        core: &Arc<Core>,
        id: u64,
        name: String,
        future: Option<BoxFuture<'static, ()>>,
    ) -> Waker {
        let waker = TaskWaker { core: Arc::downgrade(core), id, queued: AtomicBool::new(true) };
        let waker = Arc::new(waker);
        let mut state = core.state();
        state.tasks.insert(id, Task { name, waker: waker.clone(), future });
        state.ready.push(id);
        waker.into()
    }

    fn run_task(&self, id: u64) {
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

    fn stuck(&self, main: &str, endless: bool) -> Stuck {
        let state = self.state();
        let main = Some(main.to_owned()).filter(|main| !main.is_empty());
        let tasks = main.into_iter().chain(state.tasks.values().map(|task| task.name.clone()));
        Stuck { seed: self.seed, tasks: tasks.collect(), endless }
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
