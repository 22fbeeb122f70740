//! The command line of `crash`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use crash::State;
use ops::size::parse_size;

/// Find out what a power cut does to what a program has written
///
/// Record a program, then have your own check run on each state that a power cut could have left:
///
///   dmsim crash record data --log run.log -- ./my-program
///   dmsim crash check run.log --with 'e2fsck -y -E journal_only {}; e2fsck -fn {}'
///
/// A disk has a volatile cache: what was written since the last flush is there or not, in any order, in whole or in
/// part, but for what had FUA. See docs/src/power-cuts.md.
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Crash {
    /// What to do
    #[command(subcommand)]
    pub(crate) verb: CrashVerb,
}

/// What to do with recordings.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum CrashVerb {
    Record(Record),
    Start(Start),
    /// End a recording that `crash start` has begun, and print the log
    Stop {
        /// The device
        name: String,
    },
    /// Put a mark into the log of a device that is recorded
    ///
    /// A mark says how far a program has come: what it was promised before must be in every state after it, and
    /// `crash check` tells its command which marks had been reached.
    Mark {
        /// The device
        name: String,
        /// The text
        text: String,
    },
    States(States),
    Check(Check),
    Write(Write),
}

/// Record what a command writes to a device in use
///
/// The command finds in its environment: DMSIM_DEVICE, the file of the device; DMSIM_RECORDED, its name, for
/// `dmsim crash mark \"$DMSIM_RECORDED\" TEXT`; DMSIM_MARKER, a file, for `echo TEXT > \"$DMSIM_MARKER\"`. What the device holds is copied first, to LOG.base, but for its holes;
/// it is suspended meanwhile. The log is one of dm-log-writes: other programs read it, too.
///
/// Exit status: that of the command; 1 where nothing could be recorded.
#[derive(Args, Clone, Debug)]
pub(crate) struct Record {
    #[command(flatten)]
    pub(crate) start: Start,
    /// The command, and what it is given
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// Begin to record what is written to a device in use
///
/// `crash stop NAME` ends it. What the device holds is copied first, to LOG.base, but for its holes; it is suspended
/// meanwhile.
#[derive(Args, Clone, Debug)]
pub(crate) struct Start {
    /// The mapped device, or the path of its file
    pub(crate) name: String,
    /// The log, which must not be there yet [default: NAME.log]
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// The most that the log may become [default: 16G and twice the device; it is sparse]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) size: Option<u64>,
}

/// A log of dm-log-writes, and what the device held before.
#[derive(Args, Clone, Debug)]
pub(crate) struct Log {
    /// The log: of `crash record`, or of any dm-log-writes
    pub(crate) log: PathBuf,
    /// What the device held when the log began [default: LOG.base, or zeros where there is none]
    #[arg(long, value_name = "FILE")]
    pub(crate) base: Option<PathBuf>,
    /// What the disk writes as one or not at all, a sector or more [default: the logged device's logical block]
    #[arg(long, value_name = "SIZE", value_parser = parse_atomic)]
    pub(crate) atomic: Option<u32>,
    /// Take the disk for one that carries out no flush and no FUA, and says it did: nothing is ever durable
    #[arg(long)]
    pub(crate) lost_flushes: bool,
}

/// Which states to look at.
#[derive(Args, Clone, Debug)]
pub(crate) struct Which {
    /// Look at so many states at most
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) states: u64,
    /// Choose others where not all can be looked at
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Only power cuts after the first of these marks was reached, and before the second was
    #[arg(long, num_args = 2, value_names = ["MARK", "MARK"])]
    pub(crate) between: Vec<String>,
}

/// Tell how many states a power cut can leave, and which moments they belong to
///
/// Prints for each moment that makes a difference: how many entries of the log had come to pass, between which marks
/// it is, and how many writes could be lost. With --list, the states that `check` would look at.
///
/// --json prints: entry_count, write_count, flush_count, mark_count, size_bytes, atomic_bytes, and for each of
/// windows: cut, mark_count, after_mark, before_mark, volatile_writes; and states, each as text, with --list.
#[derive(Args, Clone, Debug)]
pub(crate) struct States {
    #[command(flatten)]
    pub(crate) log: Log,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Print the states instead
    #[arg(long)]
    pub(crate) list: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Have a command judge each state that a power cut can leave
///
/// {} in the command becomes the path of a file that has the state; it may be written, and what is written goes with
/// the state. The command fails a state by its exit status, as it is not 0. It is run by `sh -c` where it has
/// characters that mean something to a shell, else by itself. It finds in its environment: DMSIM_STATE, the state;
/// DMSIM_MARKS, how many marks had been reached; DMSIM_MARK, the last of them; DMSIM_MARKS_FILE, all marks of the log,
/// one a line: what the program had been promised by then must be there.
///
/// A state that fails is shrunk to the fewest lost writes, told, and kept as a small log in LOG.failures/, which
/// gives the state when it is replayed onto the base. --state repeats one.
///
/// Exit status: 0 where no state failed, 1 where one did, 2 where the command line is wrong, 130 when interrupted.
///
/// --json prints: checked, seconds, states_per_second, same, interrupted, write_count, lost_write_count,
/// tearable_write_count, torn_write_count, and for each of failures: state, cut, after_mark, before_mark, lost, a
/// list of entry, start, len, discard, kept and what (`debugfs` knows of it), present, exit, output, shrunk_from,
/// log.
#[derive(Args, Clone, Debug)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) log: Log,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The command; {} becomes the path of the state
    #[arg(long, value_name = "COMMAND")]
    pub(crate) with: String,
    /// Judge this state alone: a text that a failure or `crash states --list` has printed
    #[arg(long, value_name = "STATE", conflicts_with_all = ["states", "seed", "between"])]
    pub(crate) state: Option<State>,
    /// Run so many at a time [default: as many as there are processors]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: Option<u16>,
    /// Go on until so many states have failed; those that shrink to the same are told once
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) failures: usize,
    /// Fail a state whose command takes longer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    pub(crate) timeout: Duration,
    /// Tell a state that fails as it was found, and do not run the command again to shrink it
    #[arg(long)]
    pub(crate) no_shrink: bool,
    /// Keep what fails in this folder [default: LOG.failures]
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a state into a file, as an image of the device
#[derive(Args, Clone, Debug)]
pub(crate) struct Write {
    #[command(flatten)]
    pub(crate) log: Log,
    /// The state: a text that a failure or `crash states --list` has printed
    pub(crate) state: State,
    /// The file, which must not be there yet
    pub(crate) file: PathBuf,
}

fn parse_atomic(text: &str) -> Result<u32, String> {
    let size =
        u32::try_from(parse_size(text)?).map_err(|_| "expected less than 4 GiB".to_owned())?;
    match size > 0 && size.is_multiple_of(512) {
        true => Ok(size),
        false => Err("expected a multiple of 512 bytes".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected more than 0 seconds".to_owned())
}
