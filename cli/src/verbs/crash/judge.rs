//! Runs the command that judges states.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ::crash::{Progress, Recording, State};
use daemon::fault::USAGE;
use daemon::{About, Fault};
use ops::crash::{Stage, scratch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// What of the command becomes the path of the state.
const PLACE: &str = "{}";

/// What means something to a shell.
const OF_SHELL: &str = "|&;<>()$`\\\"'*?[]#~=%!\n";

/// How much of what a command says is kept, in bytes.
const MAX_SAID: u64 = 64 << 10;

/// How often it is looked whether all is to end.
const PERIOD: Duration = Duration::from_millis(100);

/// Runs the command, for several states at a time.
pub(super) struct Judge<'a> {
    recording: &'a Recording,
    stage: Stage,
    with: String,
    timeout: Duration,
    marks: tempfile::NamedTempFile,
    /// What the commands say, one for each that runs at the same time.
    said: Vec<tempfile::NamedTempFile>,
    progress: &'a Progress,
}

/// What became of a state.
#[derive(Debug)]
pub(super) enum Verdict {
    Good,
    /// With how the command ended, and what it said.
    Bad(String, String),
    /// It was broken off.
    Unknown,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        recording: &'a std::sync::Arc<Recording>,
        with: &str,
        timeout: Duration,
        jobs: usize,
        progress: &'a Progress,
    ) -> Result<Judge<'a>, Fault> {
        if !with.contains(PLACE) {
            let why = format!("expected `{PLACE}` where the path of the state is to be");
            return Err(Fault::new("--with", why).with_status(USAGE));
        }
        let mut marks = scratch()?;
        for (_, mark) in recording.marks() {
            let line = mark.replace('\n', " ");
            writeln!(marks, "{line}").about("a temporary file")?;
        }
        let said = (0..jobs).map(|_| scratch()).collect::<Result<_, _>>()?;
        let stage = Stage::new(recording, jobs)?;
        let with = with.to_owned();
        Ok(Judge { recording, stage, with, timeout, marks, said, progress })
    }

    /// Judges a state, as one of those that run at the same time.
    pub(super) fn judge(&self, job: usize, state: &State) -> Result<Verdict, Fault> {
        let path = self.stage.show(job, state);
        let count = self.recording.marks_before(state.cut);
        let last = self.recording.marks_round(state.cut).0.unwrap_or_default();
        let said = self.said[job].reopen().about("a temporary file")?;
        said.set_len(0).about("a temporary file")?;
        let mut command = self.command(&path);
        command
            .env("DMSIM_STATE", state.to_string())
            .env("DMSIM_MARKS", count.to_string())
            .env("DMSIM_MARK", last.replace('\0', ""))
            .env("DMSIM_MARKS_FILE", self.marks.path())
            .stdin(Stdio::null())
            .stdout(said.try_clone().about("a temporary file")?)
            .stderr(said.try_clone().about("a temporary file")?)
            .process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| Fault::new(program, error))?;
        match self.wait(child)? {
            Ended::Status(status) if status.success() => Ok(Verdict::Good),
            Ended::Status(status) => Ok(Verdict::Bad(ended(status), tail(said)?)),
            Ended::Late => {
                let seconds = self.timeout.as_secs_f64();
                Ok(Verdict::Bad(format!("did not end within {seconds} s"), tail(said)?))
            }
            Ended::Stopped => Ok(Verdict::Unknown),
        }
    }

    /// Shows a state in which nothing is lost, and returns the path of its file.
    pub(super) fn show_all(&self, cut: usize) -> PathBuf {
        self.stage.show(0, &State { cut, losses: Vec::new() })
    }

    fn command(&self, path: &Path) -> Command {
        if self.with.contains(|c| OF_SHELL.contains(c)) {
            let text = self.with.replace(PLACE, &path.to_string_lossy());
            let mut command = Command::new("sh");
            command.arg("-c").arg(text);
            return command;
        }
        let path = path.to_string_lossy();
        let mut words = self.with.split_whitespace().map(|word| word.replace(PLACE, &path));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    /// Waits for the end, and ends all that the command has started.
    fn wait(&self, mut child: Child) -> Result<Ended, Fault> {
        let group = Pid::from_child(&child);
        let since = Instant::now();
        let fd = pidfd_open(group, PidfdFlags::empty()).about("a process")?;
        let ended = loop {
            let left = self.timeout.saturating_sub(since.elapsed()).min(PERIOD);
            let left = Timespec::try_from(left).expect("a tenth of a second");
            match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left)) {
                Ok(0) if self.progress.is_stopped() => break Some(Ended::Stopped),
                Ok(0) if since.elapsed() >= self.timeout => break Some(Ended::Late),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break None,
                Err(error) => return Err(Fault::new("a process", error)),
            }
        };
        // Before it is waited for: its number is nobody else's until then.
        let _none_left = kill_process_group(group, Signal::KILL);
        let status = child.wait().about("a process")?;
        Ok(ended.unwrap_or(Ended::Status(status)))
    }
}

enum Ended {
    Status(ExitStatus),
    Late,
    Stopped,
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Reads what was said; of much, the end.
fn tail(mut said: File) -> Result<String, Fault> {
    let len = said.metadata().about("a temporary file")?.len();
    said.seek(SeekFrom::Start(len.saturating_sub(MAX_SAID))).about("a temporary file")?;
    let mut bytes = Vec::new();
    said.take(MAX_SAID).read_to_end(&mut bytes).about("a temporary file")?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
