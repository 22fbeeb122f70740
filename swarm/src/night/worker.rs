//! The processes that run cases: one line in, one line out.

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sim_core::Registry;

use crate::run::{Coverage, Verdict};
use crate::shrink::shrink;
use crate::{make, run};

/// How long a failure is made smaller.
const SHRINK: Duration = Duration::from_secs(20);

/// What is asked of a worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Question {
    /// Run the case of a seed.
    Run(u64),
    /// Make it smaller.
    Shrink(u64),
}

/// What a worker answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Held(Coverage),
    Refused(String, Coverage),
    Failed(String, Coverage),
    /// The text of the smaller case, and what is wrong with it.
    Smaller(String, String),
}

/// Answers what comes by standard input, until that ends.
pub(crate) fn work(registry: &Registry) -> io::Result<()> {
    // A panic is what a case found: it is told of, and not printed.
    std::panic::set_hook(Box::new(|_| {}));
    for line in io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Question::Run(seed) => {
                let (verdict, coverage) = run(&make(seed, registry), registry);
                match verdict {
                    Verdict::Held => Answer::Held(coverage),
                    Verdict::Refused(why) => Answer::Refused(why, coverage),
                    Verdict::Failed(why) => Answer::Failed(why, coverage),
                }
            }
            Question::Shrink(seed) => {
                let case = make(seed, registry);
                let mut fails = |case: &crate::case::Case| match run(case, registry).0 {
                    Verdict::Failed(why) => Some(why),
                    Verdict::Held | Verdict::Refused(_) => None,
                };
                let why = fails(&case).unwrap_or_default();
                let (case, why) = shrink(case, why, SHRINK, &mut fails);
                Answer::Smaller(case.to_string(), why)
            }
        };
        let line = serde_json::to_string(&answer)?;
        let mut out = io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            // Who asked was killed.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

/// A worker, from outside.
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

/// A worker that gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It was killed after so long.
    Hangs,
    /// It died.
    Died(String),
}

impl Worker {
    /// Starts this program once more, as a worker.
    pub(crate) fn start(plugins: &[PathBuf]) -> io::Result<Worker> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("work").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        for plugin in plugins {
            command.arg("--plugin").arg(plugin);
        }
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).expect("both are pipes");
        let (send, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Worker { child, input, answers })
    }

    pub(crate) fn run(&mut self, seed: u64, limit: Duration) -> Result<Answer, Silence> {
        self.ask(Question::Run(seed), limit)
    }

    pub(crate) fn shrink(&mut self, seed: u64, limit: Duration) -> Result<Answer, Silence> {
        self.ask(Question::Shrink(seed), SHRINK + limit)
    }

    fn ask(&mut self, question: Question, limit: Duration) -> Result<Answer, Silence> {
        let line = serde_json::to_string(&question).expect("a question is text");
        // Where it cannot be asked any more it has died: the answer that is missing says so.
        let _ = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        let watch = Watch::new(self.child.id(), limit);
        let answer = loop {
            match self.answers.recv_timeout(watch.next_look()) {
                Err(RecvTimeoutError::Timeout) if !watch.is_over() => {}
                answer => break answer,
            }
        };
        match answer {
            Ok(line) => {
                serde_json::from_str(&line).map_err(|error| Silence::Died(error.to_string()))
            }
            Err(RecvTimeoutError::Timeout) => Err(Silence::Hangs),
            Err(RecvTimeoutError::Disconnected) => Err(Silence::Died(match self.child.wait() {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            })),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be in the middle of a case, or hang: it holds nothing that matters.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How much longer than its limit a process may take that does not get the processor.
const STARVED: u32 = 20;

/// How often one looks at a process that is late.
const LOOKS: Duration = Duration::from_millis(50);

/// Watches how long a process takes: by the time that it has run, as others may keep it from running;
/// and by the clock, as it may wait for ever.
pub(super) struct Watch {
    process: u32,
    limit: Duration,
    started: Instant,
    /// How long it had run before.
    before: Duration,
}

impl Watch {
    pub(super) fn new(process: u32, limit: Duration) -> Watch {
        Watch { process, limit, started: Instant::now(), before: run_time(process) }
    }

    /// Returns how long to wait before one looks.
    fn next_look(&self) -> Duration {
        self.limit.saturating_sub(self.started.elapsed()).max(LOOKS)
    }

    /// Tells whether the process has had all the time that it may have.
    pub(super) fn is_over(&self) -> bool {
        let passed = self.started.elapsed();
        let ran = run_time(self.process).saturating_sub(self.before);
        passed >= self.limit && (ran >= self.limit || passed >= self.limit.saturating_mul(STARVED))
    }
}

/// Returns how long a process has run, by `/proc`; not at all where that does not say: the clock decides then.
fn run_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in parentheses may have spaces; `utime` and `stime` are the 12th and 13th after it.
    let words = stat.rsplit_once(')').map_or("", |(_, words)| words).split_whitespace();
    let ticks: Vec<u64> = words.skip(11).take(2).filter_map(|word| word.parse().ok()).collect();
    match ticks[..] {
        // A hundredth of a second each, on every machine that Linux runs on.
        [user, system] => Duration::from_millis((user + system) * 10),
        _ => Duration::ZERO,
    }
}
