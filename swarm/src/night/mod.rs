//! A run: workers, what they find, and the files that tell of it.

mod report;
mod state;
mod worker;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sim_core::Registry;

use crate::case::Case;
use crate::make;
use crate::shrink::{kind, shrink};
pub(crate) use state::Shard;
use state::{Find, State};
pub(crate) use worker::work;
use worker::{Answer, Silence, Watch, Worker};

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) jobs: usize,
    pub(crate) seed: u64,
    pub(crate) shard: Shard,
    pub(crate) time: Option<Duration>,
    pub(crate) cases: Option<u64>,
    pub(crate) limit: Duration,
    pub(crate) folder: PathBuf,
    pub(crate) plugins: Vec<PathBuf>,
    pub(crate) quiet: bool,
    pub(crate) json: bool,
}

/// How many cases of a kind are made smaller and kept.
const KEPT: usize = 3;

/// How often the state is written.
const WRITTEN: Duration = Duration::from_secs(2);

/// How often one looks whether it is time to end.
const TICK: Duration = Duration::from_millis(50);

/// How long a case that hangs, or kills its process, is made smaller, in limits of a case and at most;
/// and how long one try takes at most.
const SHRINK_LIMITS: u32 = 5;
const SHRINK: Duration = Duration::from_secs(60);
const TRY: Duration = Duration::from_secs(5);

/// A run under way, as its threads share it.
struct Night<'a> {
    plan: &'a Plan,
    registry: &'a Registry,
    state: Mutex<State>,
    /// The next place among the seeds of the shard.
    next: AtomicU64,
    /// How many cases are still to be begun.
    left: AtomicU64,
    over: AtomicBool,
}

/// Runs until it is time to end; returns whether anything was found, in this run or before.
pub(crate) fn run(plan: &Plan, registry: &Registry) -> io::Result<ExitCode> {
    let finds = plan.folder.join("finds");
    fs::create_dir_all(&finds)?;
    let file = plan.folder.join("state.json");
    let state = match State::read(&file)? {
        Some(state) if (state.seed, state.shard) != (plan.seed, plan.shard) => {
            let State { seed, shard: Shard { number, of }, .. } = state;
            let folder = plan.folder.display();
            return Err(io::Error::other(format!(
                "{folder} has a run from seed {seed}, shard {number}/{of}: give these, or another folder"
            )));
        }
        Some(state) => state,
        None => State::new(plan.seed, plan.shard),
    };
    let (before, started) = (state.seconds, Instant::now());
    let night = Night {
        plan,
        registry,
        next: AtomicU64::new(state.done),
        left: AtomicU64::new(plan.cases.unwrap_or(u64::MAX)),
        over: AtomicBool::new(false),
        state: Mutex::new(state),
    };
    let ran = thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.jobs).map(|_| scope.spawn(|| night.job())).collect();
        let mut written = Instant::now();
        let mut shown = None;
        while workers.iter().any(|worker| !worker.is_finished()) {
            let passed = started.elapsed();
            if plan.time.is_some_and(|time| passed >= time) {
                night.over.store(true, Relaxed);
            }
            if written.elapsed() >= WRITTEN {
                written = Instant::now();
                night.write(&file, before + passed.as_secs_f64())?;
            }
            night.show(&mut shown, before + passed.as_secs_f64());
            thread::sleep(TICK);
        }
        let mut ends = workers.into_iter().map(|worker| worker.join());
        ends.try_for_each(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    night.write(&file, before + started.elapsed().as_secs_f64())?;
    ran?;
    let state = night.state();
    let (text, json) = (report::text(&state, registry), report::json(&state, registry));
    fs::write(plan.folder.join("report.txt"), &text)?;
    fs::write(plan.folder.join("report.json"), format!("{json:#}\n"))?;
    let out = if plan.json { format!("{json:#}\n") } else { text };
    io::stdout().lock().write_all(out.as_bytes())?;
    Ok(ExitCode::from(u8::from(!state.finds.is_empty())))
}

impl Night<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, file: &Path, seconds: f64) -> io::Result<()> {
        let mut state = self.state();
        state.seconds = seconds;
        let state = state.clone();
        state.write(file)
    }

    /// Shows how far the run is: each second on a terminal, else each minute.
    fn show(&self, shown: &mut Option<Instant>, seconds: f64) {
        let (is_terminal, now) = (io::stderr().is_terminal(), Instant::now());
        let every = Duration::from_secs(if is_terminal { 1 } else { 60 });
        if self.plan.quiet || shown.is_some_and(|last| now - last < every) {
            return;
        }
        *shown = Some(now);
        let line = report::progress(&self.state(), seconds);
        let (begin, end) = if is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        // A progress line that cannot be shown is no reason to stop.
        let _ = write!(io::stderr(), "{begin}{line}{end}");
    }

    /// Gives cases to one worker until the run is over.
    fn job(&self) -> io::Result<()> {
        let mut worker = Worker::start(&self.plan.plugins)?;
        while let Some(place) = self.next_place() {
            let seed = self.state().seed_at(place);
            let answer = worker.run(seed, self.plan.limit);
            if answer.is_err() {
                worker = Worker::start(&self.plan.plugins)?;
            }
            let find = self.judge(seed, answer, &mut worker)?;
            let mut state = self.state();
            state.finds.extend(find);
            state.finish(place);
        }
        Ok(())
    }

    fn next_place(&self) -> Option<u64> {
        let begins = |left: u64| left.checked_sub(1);
        if self.over.load(Relaxed) || self.left.fetch_update(Relaxed, Relaxed, begins).is_err() {
            return None;
        }
        loop {
            let place = self.next.fetch_add(1, Relaxed);
            if !self.state().is_done(place) {
                return Some(place);
            }
        }
    }

    /// Counts what a case came to, and keeps what was found.
    fn judge(
        &self,
        seed: u64,
        answer: Result<Answer, Silence>,
        worker: &mut Worker,
    ) -> io::Result<Option<Find>> {
        let why = match answer {
            Ok(Answer::Held(coverage)) => {
                self.state().coverage.add(&coverage);
                return Ok(None);
            }
            Ok(Answer::Refused(why, coverage)) => {
                let mut state = self.state();
                state.coverage.add(&coverage);
                state.refuse(&why);
                return Ok(None);
            }
            Ok(Answer::Failed(why, coverage)) => {
                self.state().coverage.add(&coverage);
                return self.failed(seed, why, worker).map(Some);
            }
            Ok(Answer::Smaller(..)) => "the worker answers what it was not asked".to_owned(),
            Err(Silence::Hangs) => format!("gives no answer within {:?}", self.plan.limit),
            Err(Silence::Died(how)) => format!("kills the process: {how}"),
        };
        self.silent(seed, why).map(Some)
    }

    /// Tells whether enough of a kind are kept.
    fn is_known(&self, kind: &str) -> bool {
        let state = self.state();
        state.finds.iter().filter(|find| find.kind == kind && find.file.is_some()).count() >= KEPT
    }

    fn failed(&self, seed: u64, why: String, worker: &mut Worker) -> io::Result<Find> {
        let kind = kind(&why);
        if self.is_known(&kind) {
            let types = make(seed, self.registry);
            let types = types.types().into_iter().map(str::to_owned).collect();
            return Ok(Find { seed, why, kind, file: None, types });
        }
        match worker.shrink(seed, self.plan.limit) {
            Ok(Answer::Smaller(text, why)) => self.keep(seed, why, &text),
            Ok(_) => self.keep(seed, why, &make(seed, self.registry).to_string()),
            Err(_) => {
                // A smaller case hangs: the one at hand is small enough then.
                *worker = Worker::start(&self.plan.plugins)?;
                self.keep(seed, why, &make(seed, self.registry).to_string())
            }
        }
    }

    /// A case that hangs or kills its process is made smaller from outside.
    fn silent(&self, seed: u64, why: String) -> io::Result<Find> {
        let case = make(seed, self.registry);
        if self.is_known(&kind(&why)) {
            let types = case.types().into_iter().map(str::to_owned).collect();
            return Ok(Find { seed, kind: kind(&why), why, file: None, types });
        }
        let time = SHRINK.min(self.plan.limit.saturating_mul(SHRINK_LIMITS));
        let attempt = self.plan.folder.join(format!("try-{seed}.case"));
        let mut fails = |case: &Case| {
            fs::write(&attempt, case.to_string()).ok()?;
            let ended = self.repeat(&attempt, TRY.min(self.plan.limit));
            ended.then(|| why.clone())
        };
        let (case, why) = shrink(case, why.clone(), time, &mut fails);
        fs::remove_file(&attempt).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        self.keep(seed, why, &case.to_string())
    }

    /// Tells whether a case gives no answer in a process of its own.
    fn repeat(&self, file: &Path, limit: Duration) -> bool {
        let Ok(program) = std::env::current_exe() else { return false };
        let mut command = Command::new(program);
        command.arg("repeat").arg(file).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        for plugin in &self.plan.plugins {
            command.arg("--plugin").arg(plugin);
        }
        let Ok(mut child) = command.spawn() else { return false };
        let watch = Watch::new(child.id(), limit);
        loop {
            match child.try_wait() {
                // A signal ended it.
                Ok(Some(status)) => return status.code().is_none(),
                Ok(None) if !watch.is_over() => thread::sleep(Duration::from_millis(5)),
                Ok(None) | Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return true;
                }
            }
        }
    }

    fn keep(&self, seed: u64, why: String, text: &str) -> io::Result<Find> {
        let file = self.plan.folder.join("finds").join(format!("{seed}.case"));
        let head: String = why.lines().map(|line| format!("# {line}\n")).collect();
        fs::write(&file, format!("# seed {seed}\n{head}{text}"))?;
        let types = match text.parse::<Case>() {
            Ok(case) => case.types().into_iter().map(str::to_owned).collect(),
            Err(_) => Vec::new(),
        };
        Ok(Find { seed, kind: kind(&why), why, file: Some(file), types })
    }
}
