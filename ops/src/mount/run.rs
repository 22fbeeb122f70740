//! Runs a program that mounts, until it has.

use std::ffi::OsStr;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::watch::Watch;

/// How long a program may take: it may have a long journal to replay.
const TIME: Duration = Duration::from_secs(300);

/// How long the mount may be in coming when the program, or its first process, has ended well.
const LATE: Duration = Duration::from_secs(5);

/// How often it is looked.
const PERIOD: Duration = Duration::from_millis(10);

/// The most of a program's words that are passed on, in bytes.
const MOST: usize = 2000;

/// How a program that mounts has ended.
pub(super) enum Ran {
    /// The mount is there.
    Mounted {
        /// What it complained of.
        said: String,
    },
    /// It is not.
    Failed {
        /// What it said, or why it was ended.
        said: String,
    },
}

/// Runs it until it is done, which `is_mounted` tells.
pub(super) fn run<'a>(
    program: &Path,
    args: impl Iterator<Item = &'a OsStr>,
    is_mounted: impl Fn() -> bool,
    watch: &dyn Watch,
) -> io::Result<Ran> {
    // No pipe: the process that stays behind may keep it.
    let (mut words, mut complaints) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C").stdin(Stdio::null()).stdout(words.try_clone()?);
    let mut child = command.stderr(complaints.try_clone()?).spawn()?;
    let begun = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Ok(status);
        }
        if watch.is_interrupted() || begun.elapsed() > TIME {
            child.kill()?;
            child.wait()?;
            break Err(match watch.is_interrupted() {
                true => "interrupted".to_owned(),
                false => format!("did not end within {} s", TIME.as_secs()),
            });
        }
        std::thread::sleep(PERIOD);
    };
    let late = Instant::now();
    let went_well = ended.as_ref().is_ok_and(|status| status.success());
    while went_well && !is_mounted() && late.elapsed() < LATE {
        std::thread::sleep(PERIOD);
    }
    let said = first_words(&mut complaints)?;
    if went_well && is_mounted() {
        return Ok(Ran::Mounted { said });
    }
    let said = [first_words(&mut words)?, said].into_iter().filter(|said| !said.is_empty());
    let said = said.collect::<Vec<_>>().join("\n");
    let why = match ended {
        Ok(_) if went_well => "ended, and nothing is mounted".to_owned(),
        Ok(_) if !said.is_empty() => return Ok(Ran::Failed { said }),
        Ok(status) => status.to_string(),
        Err(why) => why,
    };
    let said = if said.is_empty() { why } else { format!("{why}: {said}") };
    Ok(Ran::Failed { said })
}

/// Tells whether an error says that the program has ended which served a file system.
pub(super) fn is_dead(error: &io::Error) -> bool {
    let dead = [Errno::NOTCONN, Errno::CONNABORTED].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|errno| dead.contains(&errno))
}

/// Tells whether a program serves what it has mounted: one that has ended leaves a mount that is dead.
pub(super) fn answers(dir: &Path) -> bool {
    let (told, heard) = std::sync::mpsc::channel();
    let dir = dir.to_owned();
    // No call that takes a time limit asks a file system.
    std::thread::spawn(move || {
        told.send(dir.metadata().err().is_some_and(|error| is_dead(&error)))
    });
    match heard.recv_timeout(LATE) {
        Ok(is_dead) => !is_dead,
        // One that is slow is none that is dead.
        Err(_) => true,
    }
}

/// Returns what was said first: some print all of their manual behind it.
fn first_words(words: &mut std::fs::File) -> io::Result<String> {
    words.rewind()?;
    let mut said = Vec::new();
    words.take(MOST as u64).read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said);
    let lines = said.lines().map(str::trim).skip_while(|line| line.is_empty());
    Ok(lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"))
}
