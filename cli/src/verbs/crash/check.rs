//! `crash check`.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use ::crash::{
    Coverage, Failure, Found, Progress, Recording, State, States, check_all, shrink, write_log,
};
use daemon::{About, Fault};
use indicatif::{ProgressBar, ProgressStyle};
use ops::{INTERRUPTED, Watch};
use serde::Serialize;

use super::judge::{Judge, Verdict};
use super::story::Story;
use super::{open, plan};
use crate::args::crash::Check;
use crate::output::print;
use crate::show::print_json;
use crate::terminal::Terminal;

/// How often the command is run at most to shrink what fails.
const SHRINKS: u32 = 500;

/// How often the bar is drawn, and it is looked for a signal.
const PERIOD: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Told {
    checked: u64,
    seconds: f64,
    states_per_second: f64,
    same: u64,
    interrupted: bool,
    write_count: usize,
    lost_write_count: usize,
    tearable_write_count: usize,
    torn_write_count: usize,
    failures: Vec<Story>,
}

pub(super) fn check(options: &Check) -> Result<ExitCode, Fault> {
    let recording = open(&options.log)?;
    if let Some(state) = &options.state {
        recording.check(state).map_err(|why| Fault::new(state, why))?;
    }
    let plan = plan(&recording, &options.which)?;
    let processors = available_parallelism().map_or(1, usize::from);
    let jobs = match &options.state {
        Some(_) => 1,
        None => options.jobs.map_or(processors, usize::from),
    };
    let progress = Progress::default();
    let terminal = Terminal::watch()?;
    let judge = Judge::new(&recording, &options.with, options.timeout, jobs, &progress)?;
    let begin = Instant::now();
    let mut states = States::new(recording.clone(), &plan);
    let found = watched(&terminal, &progress, options.which.states, || match &options.state {
        Some(state) => one(&judge, state),
        None => several(&judge, &mut states, jobs, options.failures.max(1), &progress),
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let stories = watched(&terminal, &progress, 0, || {
        found.failures.iter().try_fold(Vec::new(), |mut told, failure| {
            let story = tell(options, &recording, &judge, failure, &told)?;
            told.extend(story);
            Ok(told)
        })
    })?;
    let coverage = states.coverage();
    let told = Told {
        checked: found.checked,
        seconds,
        states_per_second: found.checked as f64 / seconds.max(f64::MIN_POSITIVE),
        same: coverage.same,
        interrupted: found.stopped,
        write_count: coverage.writes,
        lost_write_count: coverage.lost,
        tearable_write_count: coverage.tearable,
        torn_write_count: coverage.torn,
        failures: stories,
    };
    match options.json {
        true => print_json(&told)?,
        false => print(&text(options, &recording, &told, coverage))?,
    };
    Ok(match (told.failures.is_empty(), told.interrupted) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => INTERRUPTED.into(),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Does some work with a bar, and has it stopped by a signal.
fn watched<T: Send>(
    terminal: &Terminal,
    progress: &Progress,
    total: u64,
    work: impl FnOnce() -> Result<T, Fault> + Send,
) -> Result<T, Fault> {
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        let begin = Instant::now();
        let mut bar = None;
        while !work.is_finished() {
            std::thread::park_timeout(PERIOD.min(begin.elapsed() + Duration::from_millis(1)));
            if terminal.is_interrupted() {
                progress.stop();
            }
            if total > 0 && begin.elapsed() > Duration::from_secs(1) {
                let bar = bar.get_or_insert_with(|| {
                    let style = "states [{bar:30}] {pos}/{len}, {per_sec}, {eta} left";
                    let style = ProgressStyle::with_template(style).expect("it is sound");
                    ProgressBar::new(total).with_style(style.progress_chars("#>-"))
                });
                bar.set_position(progress.checked());
            }
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        work.join().expect("the work does not panic")
    })
}

fn one(judge: &Judge<'_>, state: &State) -> Result<Found, Fault> {
    let mut found = Found { checked: 1, ..Found::default() };
    match judge.judge(0, state)? {
        Verdict::Good => {}
        Verdict::Bad(why, _) => found.failures.push(Failure { state: state.clone(), why }),
        Verdict::Unknown => found = Found { stopped: true, ..Found::default() },
    }
    Ok(found)
}

fn several(
    judge: &Judge<'_>,
    states: &mut States,
    jobs: usize,
    failures: usize,
    progress: &Progress,
) -> Result<Found, Fault> {
    let fault: Mutex<Option<Fault>> = Mutex::default();
    let found =
        check_all(states, jobs, failures, progress, |job, state| match judge.judge(job, state) {
            Ok(Verdict::Good) => Some(Ok(())),
            Ok(Verdict::Bad(why, _)) => Some(Err(why)),
            Ok(Verdict::Unknown) => None,
            Err(first) => {
                fault.lock().expect("no job panics").get_or_insert(first);
                progress.stop();
                None
            }
        });
    match fault.into_inner().expect("no job panics") {
        Some(fault) => Err(fault),
        None => Ok(found),
    }
}

/// Shrinks what fails, and finds out what there is to tell of it; nothing where it shrinks to what is told already.
fn tell(
    options: &Check,
    recording: &Recording,
    judge: &Judge<'_>,
    failure: &Failure,
    told: &[Story],
) -> Result<Option<Story>, Fault> {
    let is_bad = |state: &State| matches!(judge.judge(0, state), Ok(Verdict::Bad(..)));
    let is_shrunk = !options.no_shrink && options.state.is_none();
    let least = match is_shrunk {
        true => shrink(recording, &failure.state, SHRINKS, is_bad),
        false => failure.state.clone(),
    };
    // What it says of the least one.
    let (state, exit, output) = match judge.judge(0, &least)? {
        Verdict::Bad(exit, output) => (&least, exit, output),
        Verdict::Good | Verdict::Unknown => {
            let why = format!("{}, once: when it was run again, it did not fail", failure.why);
            (&failure.state, why, String::new())
        }
    };
    if told.iter().any(|story| story.state == state.to_string()) {
        return Ok(None);
    }
    let shrunk_from = is_shrunk.then_some(failure.state.losses.len());
    let shown = judge.show_all(state.cut);
    let mut story = Story::new(recording, state, (exit, output), shrunk_from, &shown);
    if options.state.is_none() {
        story.log = Some(keep(options, recording, state)?);
    }
    Ok(Some(story))
}

/// Writes a state that fails down as a log, and returns its path.
fn keep(options: &Check, recording: &Recording, state: &State) -> Result<String, Fault> {
    let dir =
        options.keep.clone().unwrap_or_else(|| ops::crash::beside(&options.log.log, "failures"));
    std::fs::create_dir_all(&dir).about(dir.display())?;
    let file = (1..).map(|number| dir.join(format!("{number}.log"))).find(|path| !path.exists());
    let path = file.expect("numbers do not end");
    let file = File::create_new(&path).about(path.display())?;
    write_log(recording, state, &file).about(path.display())?;
    Ok(path.display().to_string())
}

fn text(options: &Check, recording: &Recording, told: &Told, coverage: Coverage) -> String {
    let mut out = String::new();
    for story in &told.failures {
        out += &story.text(recording.entries().len(), &again(options, &story.state));
        out.push('\n');
    }
    let Told { checked, seconds, states_per_second, .. } = told;
    let states = if *checked == 1 { "state" } else { "states" };
    out += &format!("{checked} {states} in {seconds:.1} s, {states_per_second:.0} a second");
    if options.state.is_none() {
        let Coverage { writes, lost, tearable, torn, .. } = coverage;
        out += &format!("; lost: {lost} of {writes} writes, torn: {torn} of {tearable}");
    }
    out += match (told.failures.len(), told.interrupted) {
        (0, false) => ": none fails\n",
        (0, true) => ": none failed until it was interrupted\n",
        (1, _) => ": 1 failed\n",
        (_, _) => ": several failed\n",
    };
    out
}

/// The command line that repeats a state.
fn again(options: &Check, state: &str) -> String {
    let quoted = |text: &str| match text
        .contains(|c: char| !c.is_ascii_alphanumeric() && !"/._-".contains(c))
    {
        true => format!("'{}'", text.replace('\'', r"'\''")),
        false => text.to_owned(),
    };
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let mut line = format!("dmsim crash check {} --state {state}", path(&options.log.log));
    if let Some(base) = &options.log.base {
        line += &format!(" --base {}", path(base));
    }
    if let Some(atomic) = options.log.atomic {
        line += &format!(" --atomic {atomic}");
    }
    if options.log.lost_flushes {
        line += " --lost-flushes";
    }
    line + &format!(" --with {}", quoted(&options.with))
}
