//! The verbs of `dmsetup`: its options, output, error texts and exit statuses.
//!
//! [`run`] carries out one command line against a control plane that it reaches through [`Dm`];
//! the facts are those of LVM2's dmsetup 1.02.185. Each verb is composed of the control plane's
//! operations as dmsetup composes it of ioctls.

pub(crate) mod concise;
mod dm;
mod errors;
mod known;
mod options;
mod report;
mod session;
mod split_name;
mod tree;
mod udev;
mod usage;
mod verbs;

use std::io;

pub use dm::{Called, Dm, Streams};
use session::{Done, Session, Stop};
use verbs::{VERBS, Verb};

/// Runs one command line, without the program's name, and returns the exit status: 0; 1 for a
/// failure; for a command line that makes no sense 1 as `dmsetup`, 2 as `dmsim`.
///
/// A reader of the output that goes away ends the command without a word.
pub fn run(called: Called, args: &[String], dm: &mut dyn Dm, streams: &mut Streams<'_>) -> i32 {
    let dev_dir = std::env::var("DM_DEV_DIR").unwrap_or_default();
    if called != Called::Dmsim && !dev_dir.is_empty() && !dev_dir.starts_with('/') {
        let mut session = Session::new(called, options::Options::default(), dm, streams);
        session.complain("Invalid DM_DEV_DIR environment variable value.");
        return 1;
    }
    let (options, words) = match options::parse(called, args) {
        Ok((options, words)) => {
            let stats = (called == Called::Dmstats).then(|| "stats".to_owned());
            (options, stats.into_iter().chain(words).collect::<Vec<_>>())
        }
        Err(lines) => {
            let mut session = Session::new(called, options::Options::default(), dm, streams);
            return misuse(&mut session, &lines, "Couldn't process command line.\n");
        }
    };
    let mut session = Session::new(called, options, dm, streams);
    let usage = || usage::text(called);
    if session.options.help {
        let stats = words.first().is_some_and(|word| word == "stats");
        let (verb, words) = match stats {
            true => ("stats", vec!["help".to_owned()]),
            false => ("help", Vec::new()),
        };
        let help = find(verb).expect("it is a verb");
        return finish(&mut session, |session| verbs::act(session, help, &words));
    }
    if session.options.version {
        return finish(&mut session, verbs::version);
    }
    let Some((name, words)) = words.split_first() else {
        return misuse(&mut session, &[], &usage());
    };
    let Some(verb) = find(name) else {
        return misuse(&mut session, &["Unknown command.".to_owned()], &usage());
    };
    let (least, most) = verb.words;
    if words.len() < least || most.is_some_and(|most| words.len() > most) {
        return misuse(&mut session, &["Incorrect number of arguments.".to_owned()], &usage());
    }
    session.set_up_udev();
    finish(&mut session, |session| verbs::act(session, verb, words))
}

/// Returns how one of dmsetup's verbs is used by `dmsim`; nothing for other words.
pub fn help(verb: &str) -> Option<String> {
    find(verb).and_then(|verb| usage::of(verb.name))
}

/// What of dmsetup a command line uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The verb, with what follows `stats`: `create`, `stats list`. None where there is none.
    pub verb: Option<String>,
    /// The long names of the options.
    pub options: Vec<&'static str>,
}

/// Reads what of dmsetup a command line uses, without the program's name.
pub fn used(called: Called, args: &[String]) -> Used {
    let (options, words) = options::names(called, args);
    let stats = (called == Called::Dmstats).then(|| "stats".to_owned());
    let mut words = stats.into_iter().chain(words);
    let verb = words.next().map(|verb| match verb.as_str() {
        "stats" => format!("stats {}", words.next().unwrap_or_default()).trim_end().to_owned(),
        _ => verb,
    });
    Used { verb, options }
}

/// Lists dmsetup's verbs, and those of `stats` behind that word.
pub fn verb_names() -> impl Iterator<Item = String> {
    let stats = verbs::stats::names().map(|name| format!("stats {name}"));
    VERBS.iter().map(|verb| verb.name.to_owned()).chain(stats)
}

/// Lists dmsetup's options: the long name, and the letters that mean the same.
pub fn option_names() -> impl Iterator<Item = (&'static str, Vec<char>)> {
    options::all()
}

/// Tells whether a word is one of dmsetup's verbs.
pub fn is_verb(word: &str) -> bool {
    find(word).is_some()
}

fn find(word: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == word)
}

/// Tells what is wrong with a command line: as dmsetup with `then` after it.
fn misuse(session: &mut Session<'_, '_>, lines: &[String], then: &str) -> i32 {
    match session.called {
        Called::Dmsetup | Called::Dmstats => {
            lines.iter().for_each(|line| session.complain(line));
            session.complain_plainly(then);
            1
        }
        Called::Dmsim => {
            for line in lines {
                let line =
                    line.strip_prefix("dmsim: ").unwrap_or(line).trim_end_matches(['.', ' ']);
                session.complain_plainly(&format!("dmsim: usage: {}\n", errors::lower_first(line)));
            }
            if lines.is_empty() {
                session.complain_plainly(then);
            }
            2
        }
    }
}

fn finish(session: &mut Session<'_, '_>, act: impl FnOnce(&mut Session<'_, '_>) -> Done) -> i32 {
    let result = act(session);
    let flushed = session.flush();
    session.tell_overlaps();
    verbs::tell_left(session);
    match result.and(flushed) {
        Ok(()) | Err(Stop::Enough) => 0,
        Err(Stop::Failed) => {
            if session.called != Called::Dmsim {
                session.complain("Command failed.");
            }
            1
        }
        Err(Stop::Refused) => match session.called {
            Called::Dmsetup | Called::Dmstats => 1,
            Called::Dmsim => 2,
        },
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(Stop::Output(error)) => {
            session.complain(&format!("standard output: {error}"));
            1
        }
    }
}
