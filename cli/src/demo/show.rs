//! How the demonstration is told: a line for each step, with its time.

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::time::Instant;

use super::stage::Stage;
use crate::output::print_as_it_is as print;
use daemon::Fault;

/// How much is shown of what a command says.
const LINES: usize = 4;

/// Tells steps on standard output.
pub(super) struct Show {
    done: &'static str,
    failed: &'static str,
}

impl Show {
    /// Uses colours on a terminal, unless `NO_COLOR` is set.
    pub(super) fn new() -> Show {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match stdout().is_terminal() && !no_color {
            true => Show { done: "\x1b[32m✓\x1b[0m", failed: "\x1b[31m✗\x1b[0m" },
            false => Show { done: "✓", failed: "✗" },
        }
    }

    /// Takes a step, and tells how it ended, how long it took and what it has to say.
    pub(super) fn step(
        &self,
        what: &str,
        step: impl FnOnce() -> Result<Option<String>, Fault>,
    ) -> Result<(), Fault> {
        self.value(what, || step().map(|said| ((), said)))
    }

    /// Takes a step that has a result.
    pub(super) fn value<T>(
        &self,
        what: &str,
        step: impl FnOnce() -> Result<(T, Option<String>), Fault>,
    ) -> Result<T, Fault> {
        let began = Instant::now();
        let result = step();
        let seconds = began.elapsed().as_secs_f64();
        let mark = if result.is_ok() { self.done } else { self.failed };
        print(&format!("{mark} {seconds:6.2} s  {what}\n"))?;
        let (value, said) =
            result.map_err(|fault| Fault::new("demo", format!("{what}: {fault}")))?;
        if let Some(said) = said {
            self.note(&said)?;
        }
        Ok(value)
    }

    /// Takes a step that is a command of this program.
    pub(super) fn command(&self, stage: &Stage, words: &[&str]) -> Result<(), Fault> {
        self.step(&format!("dmsim {}", words.join(" ")), || {
            Ok(stage.run(words)?.map(|said| beginning(&said)))
        })
    }

    /// As [`command`](Self::command), with all that it says.
    pub(super) fn whole(&self, stage: &Stage, words: &[&str]) -> Result<(), Fault> {
        self.step(&format!("dmsim {}", words.join(" ")), || stage.run(words))
    }

    /// Adds to the step before, line by line.
    pub(super) fn note(&self, text: &str) -> Result<(), Fault> {
        text.lines().try_for_each(|line| print(&format!("            {line}\n")).map(drop))
    }

    /// Tells something.
    pub(super) fn line(&self, text: &str) -> Result<ExitCode, Fault> {
        print(&format!("{text}\n"))
    }
}

/// Cuts a text that is too long to be shown.
fn beginning(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.len() > LINES {
        lines.truncate(LINES);
        lines.push("...");
    }
    lines.join("\n")
}
