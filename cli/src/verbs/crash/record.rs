//! `crash record`, and its parts.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use ::crash::log::Counts;
use daemon::{About, Fault, Instance, mangle};
use ops::Watch;
use ops::crash::Record;
use rustix::process::{Pid, Signal, kill_process};

use crate::args::crash;
use crate::client;
use crate::output::{complain, print};
use crate::terminal::Terminal;

pub(super) fn start(instance: &Instance, options: &crash::Start) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let ask = ask(options);
    ops::crash::start(&mut client, &ask, &Terminal::watch()?)?;
    print(&format!("{}\n", ask.log.display()))
}

fn ask(options: &crash::Start) -> Record {
    let name = Path::new(&options.name).file_name().unwrap_or_default().to_string_lossy();
    let log = options.log.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.log")));
    Record { name: options.name.clone(), log, size: options.size }
}

pub(super) fn stop(instance: &Instance, name: &str) -> Result<ExitCode, Fault> {
    let log = ops::crash::stop(&mut client::connect(instance)?, name)?;
    print(&summary(&log)?)
}

pub(super) fn mark(instance: &Instance, name: &str, text: &str) -> Result<ExitCode, Fault> {
    ops::crash::mark(&mut client::connect(instance)?, name, text)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn record(instance: &Instance, options: &crash::Record) -> Result<ExitCode, Fault> {
    let [program, args @ ..] = &options.command[..] else {
        return Err(Fault::new("record", "expected a command after `--`"));
    };
    let mut client = client::connect(instance)?;
    // A signal ends the command, and with it the recording: the log is whole.
    let terminal = Terminal::watch()?;
    let ask = ask(&options.start);
    let device = ops::crash::start(&mut client, &ask, &terminal)?;
    let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut command = Command::new(program);
    command.args(args).env("DMSIM_DEVICE", &device).env("DMSIM_RECORDED", &name);
    command.env("DMSIM_MARKER", device.with_file_name(format!("{name}.mark")));
    command.env("DMSIM_DIR", instance.dir());
    let ran = run(&mut command, &terminal).about(program.to_string_lossy());
    let log = ops::crash::stop(&mut client, &name)?;
    let status = ran.inspect_err(|_| {
        // Nothing was done that could be in them, and the next try may have their names.
        for path in [ops::crash::base_of(&log), log.clone()] {
            let _stays = std::fs::remove_file(path);
        }
    })?;
    eprint!("{}", summary(&log)?);
    Ok(code(status))
}

/// How often it is looked whether a signal has come, or the command has ended.
const PERIOD: Duration = Duration::from_millis(20);

/// Runs a command, which is sent the signal that ends this process: the recording ends with it.
fn run(command: &mut Command, terminal: &Terminal) -> io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if terminal.is_interrupted() && !is_told {
            is_told = true;
            kill_process(Pid::from_child(&child), Signal::TERM)?;
        }
        std::thread::sleep(PERIOD);
    }
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Says of a device that was recorded when its daemon ended that it is not any more, and cuts its log to what is in it.
pub(in crate::verbs) fn tell_ended(name: &str, log: Option<&Path>) {
    let name = mangle::decode(name);
    let what = match log.map(|log| ops::crash::finish(log).and_then(|()| summary(log))) {
        Some(Ok(summary)) => format!("the log is {}", summary.trim_end()),
        Some(Err(fault)) => format!("the log cannot be used: {fault}"),
        None => "its log is not on record".to_owned(),
    };
    complain!("dmsim: {name}: its recording has ended with the daemon; {what}");
}

/// Says what a log has.
fn summary(log: &Path) -> Result<String, Fault> {
    let name = log.display();
    let file = std::fs::File::open(log).about(name.to_string())?;
    let read = ::crash::log::read(&file).map_err(|error| Fault::new(name.to_string(), error))?;
    Ok(format!("{name}: {}\n", Counts::of(&read.entries)))
}
