//! The `dmsim` command: the command line of an instance's daemon. Called by the name `dmsetup`, it is
//! dmsetup.
//!
//! [`main_with`] is the whole program for a given set of target types.

#![forbid(unsafe_code)]

mod args;
mod client;
mod demo;
pub mod dmsetup;
mod keys;
mod logging;
mod new_target;
mod output;
mod passphrase;
mod remote;
mod show;
mod terminal;
mod top;
mod verbs;

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use daemon::fault::USAGE;
use daemon::{Fault, Instance};
use recognise::shown_line;
use sim_core::Registry;

use args::Cli;
use dmsetup::{Called, Streams};
use output::complain;
use remote::Remote;

/// Runs the command line of this process, with these target types.
pub fn main_with(registry: Registry) -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_owned();
    let (dir, words) = take_dir(words);
    let result = if program == "dmsetup" {
        text(words).and_then(|words| run_dmsetup(Called::Dmsetup, &words, dir.as_deref()))
    } else if program == "dmstats" {
        text(words).and_then(|words| run_dmsetup(Called::Dmstats, &words, dir.as_deref()))
    } else if is_for_dmsetup(&words) {
        text(words).and_then(|words| run_dmsetup(Called::Dmsim, &words, dir.as_deref()))
    } else {
        run_own(&words, dir.as_deref(), registry)
    };
    result.unwrap_or_else(|fault| {
        // What it is about may be a path, and is never more than a line.
        complain!("dmsim: {}: {}", shown_line(&fault.what), fault.why);
        ExitCode::from(fault.status)
    })
}

/// Takes `--dir DIR` or `--dir=DIR` out of the arguments, wherever it stands.
fn take_dir(words: impl Iterator<Item = OsString>) -> (Option<PathBuf>, Vec<OsString>) {
    let (mut dir, mut rest, mut ended) = (None, Vec::new(), false);
    let mut words = words;
    while let Some(word) = words.next() {
        ended |= word == "--";
        let joined = word.to_str().and_then(|word| word.strip_prefix("--dir="));
        match (ended, joined) {
            (false, Some(joined)) => dir = Some(PathBuf::from(joined)),
            (false, None) if word == "--dir" => match words.next() {
                Some(next) => dir = Some(PathBuf::from(next)),
                // Left for the parser to complain of.
                None => rest.push(word),
            },
            _ => rest.push(word),
        }
    }
    (dir, rest)
}

/// Tells whether the verb is one of dmsetup's: the first word that is a verb at all decides.
fn is_for_dmsetup(words: &[OsString]) -> bool {
    let own = |word: &str| word == "help" || is_own(word);
    let verb = words.iter().filter_map(|word| word.to_str());
    match verb.clone().find(|word| own(word) || dmsetup::is_verb(word)) {
        Some("info") => !words.iter().any(|word| word == "--json"),
        // Its help has both languages.
        Some("wait") => {
            !words.iter().any(|word| ["--merge", "--sync", "--help"].iter().any(|own| word == own))
        }
        Some("help") => match words {
            [help, of] if help == "help" => {
                of.to_str().is_some_and(|of| of == "dmsetup" || (dmsetup::is_verb(of) && !own(of)))
            }
            _ => false,
        },
        Some(verb) => !own(verb),
        None => false,
    }
}

/// Tells whether a word is a verb that dmsetup does not have.
fn is_own(word: &str) -> bool {
    Cli::command().get_subcommands().any(|verb| verb.get_name() == word)
}

/// Runs one of dmsetup's verbs over the socket.
fn run_dmsetup(called: Called, words: &[String], dir: Option<&Path>) -> Result<ExitCode, Fault> {
    let words = match (called, words) {
        // `dmsim help dmsetup` is `dmsetup help`.
        (Called::Dmsim, [help, of]) if help == "help" => match dmsetup::help(of) {
            Some(text) => return output::print(&text),
            None => std::slice::from_ref(help),
        },
        (Called::Dmsim | Called::Dmsetup | Called::Dmstats, words) => words,
    };
    let mut remote = Remote::new(called, Instance::find(dir));
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    let mut streams = Streams {
        stdin: &mut std::io::stdin().lock(),
        stdout: &mut stdout,
        stderr: &mut std::io::stderr(),
    };
    let status = dmsetup::run(called, words, &mut remote, &mut streams);
    // As with `print`: a reader that has read enough is no fault.
    let _ = stdout.flush();
    if let (Called::Dmsetup | Called::Dmstats, Some(fault)) = (called, &remote.fault) {
        complain!("dmsim: {fault}");
    }
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// Runs one of the verbs that dmsetup does not have.
fn run_own(words: &[OsString], dir: Option<&Path>, registry: Registry) -> Result<ExitCode, Fault> {
    if words.is_empty() {
        return output::print(&Cli::command().render_help().to_string());
    }
    let program = std::iter::once(OsString::from("dmsim"));
    match Cli::try_parse_from(program.chain(words.iter().cloned())) {
        Ok(cli) => verbs::run(cli.verb, dir, registry),
        Err(error) if error.use_stderr() => {
            if let Some(fault) = cryptsetups(&error, words) {
                return Err(fault);
            }
            let text = error.render().to_string();
            complain!("dmsim: usage: {}", text.strip_prefix("error: ").unwrap_or(&text).trim_end());
            Ok(ExitCode::from(USAGE))
        }
        Err(help) => output::print(&help.render().to_string()),
    }
}

/// Returns what to say where the fault is an option or a verb that cryptsetup has.
fn cryptsetups(error: &clap::Error, words: &[OsString]) -> Option<Fault> {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    };
    let (what, why) = match error.kind() {
        ErrorKind::UnknownArgument => {
            let option = named(ContextKind::InvalidArg)?;
            let mut words = words.iter().filter_map(|word| word.to_str());
            let verb = words.find(|word| is_own(word))?;
            (option, args::cryptsetup::why_not(verb, option)?.to_owned())
        }
        ErrorKind::InvalidSubcommand => {
            let verb = named(ContextKind::InvalidSubcommand)?;
            (verb, format!("that is {} here", args::cryptsetup::instead_of(verb)?))
        }
        _ => return None,
    };
    Some(Fault::new(what, why).with_status(USAGE))
}

/// The words as text: dmsetup's verbs take names and numbers.
fn text(words: Vec<OsString>) -> Result<Vec<String>, Fault> {
    let text = words.into_iter().map(|word| {
        word.into_string().map_err(|word| {
            Fault::new("usage", format!("expected UTF-8, found `{}`", word.to_string_lossy()))
        })
    });
    text.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_directory_may_stand_anywhere_before_two_dashes() {
        for line in ["--dir /d ls -v", "ls --dir /d -v", "ls --dir=/d -v", "ls -v --dir /d"] {
            let (dir, rest) = take_dir(words(line).into_iter());
            assert_eq!((dir, rest), (Some("/d".into()), words("ls -v")), "{line}");
        }
        let line = "message a 0 -- --dir /d";
        assert_eq!(take_dir(words(line).into_iter()), (None, words(line)));
    }

    #[test]
    fn a_verb_goes_to_whom_it_belongs() {
        for line in
            ["ls", "-v create x", "info", "info -c x", "help dmsetup", "-j 253 -m 0 info", "wait x"]
        {
            assert!(is_for_dmsetup(&words(line)), "{line}");
        }
        for line in [
            "",
            "start",
            "info --json",
            "help",
            "--help",
            "tree",
            "attach ls",
            "wait --merge x",
            "wait x --sync",
            "wait --help",
        ] {
            assert!(!is_for_dmsetup(&words(line)), "{line}");
        }
    }
}
