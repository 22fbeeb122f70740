//! Starts the daemon from a command: a program of dmsim, in a session of its own.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fault::{About, Fault};
use crate::folders::open_own;
use crate::instance::{ALREADY_RUNS, Instance};
use crate::options::Options;

/// What the daemon writes to its standard output when it serves.
pub const READY: &str = "ready";

/// Why no daemon was started.
#[derive(Debug)]
pub enum Failed {
    /// One runs already.
    AlreadyRuns(Fault),
    /// Anything else.
    Fault(Fault),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Failed {
        Failed::Fault(fault)
    }
}

/// Starts the daemon of an instance by a program of dmsim, and waits until its mount serves.
///
/// # Errors
/// [`Failed::AlreadyRuns`] where another daemon has the instance; else what the daemon said.
pub fn launch(program: &Path, instance: &Instance, options: &Options) -> Result<(), Failed> {
    instance.make_dirs()?;
    put_away(&instance.log());
    let log = open_own(&instance.log(), OpenOptions::new().append(true).create(true));
    let log = log.about(instance.log().display())?;
    let mut command = Command::new(program);
    command.arg0("dmsim").arg("--dir").arg(instance.dir()).args(["start", "--foreground"]);
    command.arg("--detached").arg("--state").arg(instance.state()).args(flags(options));
    if let Some(mount) = &options.mount {
        command.arg("--mount").arg(std::path::absolute(mount).about(mount.display())?);
    }
    for plugin in &options.plugins {
        command.arg("--plugin").arg(std::path::absolute(plugin).about(plugin.display())?);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    // The daemon must keep no directory busy.
    command.current_dir("/");
    let mut child = command.spawn().about("start")?;
    let mut said = String::new();
    let mut pipe = child.stdout.take().expect("it is piped");
    pipe.read_to_string(&mut said).about("start")?;
    if said.trim_end() == READY {
        return Ok(());
    }
    let ended = child.wait().about("start")?;
    match said.trim_end().split_once(": ") {
        Some((what, why)) if why.starts_with(ALREADY_RUNS) => {
            Err(Failed::AlreadyRuns(Fault::new(what, why)))
        }
        Some((what, why)) => Err(Failed::Fault(Fault::new(what, why))),
        None => {
            let log = instance.log();
            let why = format!("the daemon ended ({ended}); {} may say why", log.display());
            Err(Failed::Fault(Fault::new("start", why)))
        }
    }
}

/// The longest log that a daemon goes on with, in bytes.
const MAX_LOG: u64 = 1 << 20;

/// Gives a log that has grown long another name, in the place of the one before.
fn put_away(log: &Path) {
    if log.metadata().is_ok_and(|log| log.len() > MAX_LOG) {
        // Where that cannot be, the log goes on as it is.
        let _stays = std::fs::rename(log, log.with_extension("old"));
    }
}

fn flags(options: &Options) -> impl Iterator<Item = &'static str> + use<> {
    let flags = [
        (options.allow_other, "--allow-other"),
        (options.cache, "--cache"),
        (options.read_only, "--read-only"),
        (options.no_plugin, "--no-plugin"),
    ];
    flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag)
}

/// Returns this program's file; what runs now where that file was replaced.
pub fn this_program() -> PathBuf {
    let file = std::env::current_exe().ok().filter(|file| file.exists());
    file.unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}
