//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sim_core::Registry;

use crate::case::Case;
use crate::night::{self, Plan, Shard};
use crate::run::Verdict;
use crate::{make, run, trace};

/// Runs random stacks of all target types under faults, power cuts, reloads and messages.
///
/// Ends with 0 where nothing was found, 1 where something was, 2 where it was not used rightly.
#[derive(Parser)]
#[command(name = "dmsim-swarm", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    night: Night,
    /// A shared library with more target types; may be given several times
    #[arg(long, value_name = "FILE", global = true)]
    plugin: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs a case out of a file again
    Repeat {
        /// The file
        file: PathBuf,
        /// Tell what happened since the power came last, step by step
        #[arg(long)]
        trace: bool,
    },
    /// Prints the case of a seed
    Show {
        /// The seed
        seed: u64,
    },
    /// Runs the cases of seeds that come by standard input
    #[command(hide = true)]
    Work,
}

#[derive(Args)]
struct Night {
    /// How many processes run cases
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// For how long: 90s, 20m, 8h; without it, until it is killed
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
    /// So many cases, and no more
    #[arg(long, value_name = "COUNT")]
    cases: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// One part of the seeds of several: 3/16
    #[arg(long, default_value = "1/1", value_parser = shard)]
    shard: Shard,
    /// The longest that a case may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    limit: Duration,
    /// Where state, cases that failed and the report are; a run goes on from there
    #[arg(long, value_name = "FOLDER", default_value = "dmsim-swarm")]
    out: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

/// Reads a time: a number and `s`, `m` or `h`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time such as 90s, 20m or 8h, found `{text}`");
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let unit = units.into_iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)));
    let (number, ms) = unit.ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads a shard: `3/16`.
fn shard(text: &str) -> Result<Shard, String> {
    let wrong = || format!("expected a shard such as 3/16, found `{text}`");
    let (number, of) = text.split_once('/').ok_or_else(wrong)?;
    let shard = Shard {
        number: number.parse().map_err(|_| wrong())?,
        of: of.parse().map_err(|_| wrong())?,
    };
    if (1..=shard.of).contains(&shard.number) { Ok(shard) } else { Err(wrong()) }
}

/// Runs the program over the types of a registry, and those of plug-ins.
pub(crate) fn main(mut registry: Registry) -> ExitCode {
    let Cli { verb, night, plugin } = Cli::parse();
    for path in &plugin {
        if let Err(error) = sdk::load(path, &mut registry) {
            return usage(&error.to_string());
        }
    }
    let ran = match verb {
        Some(Verb::Repeat { file, trace }) => return repeat(&file, trace, &registry),
        Some(Verb::Show { seed }) => {
            print!("{}", make(seed, &registry));
            return ExitCode::SUCCESS;
        }
        Some(Verb::Work) => night::work(&registry).map(|()| ExitCode::SUCCESS),
        None => {
            let Night { jobs, time, cases, seed, shard, limit, out, json, quiet } = night;
            let (jobs, folder, plugins) = (usize::from(jobs), out, plugin);
            let plan = Plan { jobs, seed, shard, time, cases, limit, folder, plugins, quiet, json };
            night::run(&plan, &registry)
        }
    };
    ran.unwrap_or_else(|error| usage(&error.to_string()))
}

fn usage(why: &str) -> ExitCode {
    eprintln!("dmsim-swarm: {why}");
    ExitCode::from(2)
}

fn repeat(file: &std::path::Path, traced: bool, registry: &Registry) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return usage(&format!("{}: {error}", file.display())),
    };
    let case: Case = match text.parse() {
        Ok(case) => case,
        Err(error) => return usage(&format!("{}: {error}", file.display())),
    };
    let (verdict, lines) = match traced {
        true => trace(&case, registry),
        false => (run(&case, registry).0, Vec::new()),
    };
    lines.iter().for_each(|line| println!("{line}"));
    match verdict {
        Verdict::Held => {
            println!("holds");
            ExitCode::SUCCESS
        }
        Verdict::Refused(why) => usage(&format!("{}: refused: {why}", file.display())),
        Verdict::Failed(why) => {
            println!("{why}");
            ExitCode::from(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shards_are_read_or_refused() {
        assert_eq!(time("8h"), Ok(Duration::from_secs(8 * 3600)));
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        assert!(["8", "h", "-1s", "99999999999999999999h"].iter().all(|text| time(text).is_err()));
        assert_eq!(shard("3/16"), Ok(Shard { number: 3, of: 16 }));
        assert!(["0/4", "5/4", "1", "a/b"].iter().all(|text| shard(text).is_err()));
    }
}
