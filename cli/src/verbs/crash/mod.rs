//! `crash`: recordings, and the states that a power cut can leave.

mod check;
mod judge;
mod record;
mod states;
mod story;

use std::fs::File;
use std::io::ErrorKind;
use std::process::ExitCode;
use std::sync::Arc;

use ::crash::log::has_end;
use ::crash::{Flushes, Plan, Promises, Recording};
use daemon::{About, Fault, Instance};
use targets::log_writes::format::END_MARK;

use crate::args::crash::{Crash, CrashVerb, Log, Which};
use crate::output::complain;

/// Recordings are of an instance; what is done with a log needs none.
pub(super) fn run(
    instance: impl FnOnce() -> Result<Instance, Fault>,
    options: &Crash,
) -> Result<ExitCode, Fault> {
    match &options.verb {
        CrashVerb::Record(options) => record::record(&instance()?, options),
        CrashVerb::Start(options) => record::start(&instance()?, options),
        CrashVerb::Stop { name } => record::stop(&instance()?, name),
        CrashVerb::Mark { name, text } => record::mark(&instance()?, name, text),
        CrashVerb::States(options) => states::states(options),
        CrashVerb::Check(options) => check::check(options),
        CrashVerb::Write(options) => states::write(options),
    }
}

pub(super) use record::tell_ended;

/// Opens a log and what belongs to it.
fn open(options: &Log) -> Result<Arc<Recording>, Fault> {
    let name = || options.log.display();
    let log = File::open(&options.log).about(name())?;
    let base = match &options.base {
        Some(base) => Some(File::open(base).about(base.display())?),
        None => {
            let base = ops::crash::base_of(&options.log);
            match File::open(&base) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(Fault::new(base.display(), error)),
            }
        }
    };
    let flushes = if options.lost_flushes { Flushes::Lost } else { Flushes::Kept };
    let promises = Promises { atomic: options.atomic, flushes };
    let recording =
        Recording::new(log, base, promises).map_err(|error| Fault::new(name(), error))?;
    if !has_end(recording.entries()) {
        complain!(
            "dmsim: {}: has no `{END_MARK}` at its end: it is of a recording that goes on, or was cut off, and what \
             came after is not in it",
            name()
        );
    }
    Ok(Arc::new(recording))
}

/// Returns the plan that is asked for.
fn plan(recording: &Recording, which: &Which) -> Result<Plan, Fault> {
    let [from, to] = which.between.as_slice() else {
        let all =
            Plan { states: which.states, seed: which.seed, from_mark: 0, to_mark: usize::MAX };
        return Ok(all);
    };
    let place = |mark: &str, after: usize| {
        let mut marks = recording.marks().enumerate().skip(after);
        let found = marks.find(|(_, (_, text))| *text == mark).map(|(at, _)| at);
        found.ok_or_else(|| {
            let why = match after {
                0 => format!("the log has no mark `{mark}`"),
                _ => format!("the log has no mark `{mark}` after the first"),
            };
            Fault::new("--between", why)
        })
    };
    let first = place(from, 0)?;
    let second = place(to, first + 1)?;
    Ok(Plan { states: which.states, seed: which.seed, from_mark: first + 1, to_mark: second })
}
