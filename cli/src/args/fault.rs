//! The command line of `fault`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sim_core::{FaultKind, FaultOp, FaultPlan, FaultRate, FaultRule, Seconds, Sector, Sectors};

/// Make I/O of a device in use go wrong, or say what has
///
/// One rule by its KIND and options, or several from a file (--plan):
///
///   dmsim fault data error --on writes --nth 100 --once
///   dmsim fault data slow --delay-ms 50 --rate 0.01 --seed 7
///   dmsim fault data --plan faults.toml
///   dmsim fault data
///
/// The last prints which rules are armed, how often each has struck, and the last I/O that was struck (--log: the
/// last 1,000). `dmsim heal data` takes all away. Kinds: error fails with EIO, full with ENOSPC; short does some
/// sectors, then fails; slow comes late. The others are lies, which end well: torn does some sectors; misdirected is
/// done elsewhere on the device; flip has bits the other way round, on the way there or back; lost-write does
/// nothing; lost-flush does not flush, and writes without FUA.
///
/// A rule fits an I/O of its kinds (--on) that touches its sectors (--start, --len) within its time (--from-s,
/// --for-s). It strikes from the --nth of those on, by chance with --rate, at most so often as --times says. All
/// rules count; the first that strikes decides.
///
/// Whoever uses the device meets the faults, programs and devices above; with --below, what the device's own table
/// sends there, as with `fail`. They stay through a suspend, another table and a new name. They end with `heal`, the
/// removal of the device, and the daemon: nothing of them is on record.
///
/// --json prints an object: name, major, minor; plans, a list of objects with below_device (null, or major and
/// minor), seed, armed_s, bio_count, rules (rule, kind, on, start and len, nth, times, rate, from_s, for_s, delay_ms,
/// done, to, bit_count, fit_count, struck_count), and strikes (rule, at_s, op, start, len, fate).
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct FaultArgs {
    /// The mapped device, or the path of its file
    pub(crate) name: String,
    /// What goes wrong
    #[arg(value_parser = kinds(), conflicts_with = "plan")]
    pub(crate) kind: Option<FaultKind>,
    /// Which I/O: reads, writes, fua (writes with FUA), flushes, discards, separated by commas [default: all that the
    /// kind is possible for]
    #[arg(long, value_delimiter = ',', value_parser = ops(), requires = "kind", hide_possible_values = true)]
    pub(crate) on: Vec<FaultOp>,
    /// That touches this sector
    #[arg(long, value_name = "SECTOR", requires = "kind")]
    pub(crate) start: Option<u64>,
    /// Or one of so many from there on [default: 1]
    #[arg(long, value_name = "SECTORS", requires = "start")]
    pub(crate) len: Option<u64>,
    /// Strike from the Nth I/O that fits on
    #[arg(long, value_name = "N", requires = "kind")]
    pub(crate) nth: Option<u64>,
    /// Strike once
    #[arg(long, requires = "kind", conflicts_with = "times")]
    pub(crate) once: bool,
    /// Strike so often [default: for good]
    #[arg(long, value_name = "N", requires = "kind")]
    pub(crate) times: Option<u64>,
    /// Strike with this probability, above 0 and up to 1
    #[arg(long, value_parser = parse_rate, requires = "kind", allow_negative_numbers = true)]
    pub(crate) rate: Option<FaultRate>,
    /// Begin so many seconds after this command
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, requires = "kind", allow_negative_numbers = true)]
    pub(crate) from_s: Option<Seconds>,
    /// Last so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, requires = "kind", allow_negative_numbers = true)]
    pub(crate) for_s: Option<Seconds>,
    /// Hold it so long before, up to an hour
    #[arg(long, value_name = "MS", requires = "kind")]
    pub(crate) delay_ms: Option<u64>,
    /// short, torn: how much is done [default: by chance]
    #[arg(long, value_name = "SECTORS", requires = "kind")]
    pub(crate) done: Option<u64>,
    /// misdirected: where it goes [default: by chance]
    #[arg(long, value_name = "SECTOR", requires = "kind")]
    pub(crate) to: Option<u64>,
    /// flip: how many bits [default: 1]
    #[arg(long, value_name = "N", requires = "kind")]
    pub(crate) bits: Option<u32>,
    /// What is left to chance follows from this number [default: one is chosen, and printed]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Take the rules from a TOML file: docs/src/faults.md has one
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    /// Not for who uses the device, but for what it sends to this one below: its name, major:minor or path
    #[arg(long, value_name = "DEVICE")]
    pub(crate) below: Option<String>,
    /// Take the place of rules that are armed
    #[arg(long)]
    pub(crate) replace: bool,
    /// Print all I/O that was struck and is remembered
    #[arg(long, conflicts_with_all = ["kind", "plan"])]
    pub(crate) log: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn kinds() -> impl TypedValueParser<Value = FaultKind> {
    let words = PossibleValuesParser::new(FaultKind::ALL.map(FaultKind::word));
    words.map(|word| {
        let found = FaultKind::ALL.into_iter().find(|kind| kind.word() == word);
        found.expect("one of those that are possible")
    })
}

fn ops() -> impl TypedValueParser<Value = FaultOp> {
    let words = PossibleValuesParser::new(FaultOp::ALL.map(FaultOp::word));
    words.map(|word| {
        let found = FaultOp::ALL.into_iter().find(|op| op.word() == word);
        found.expect("one of those that are possible")
    })
}

fn parse_number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("expected a number, found `{text}`"))
}

fn parse_rate(text: &str) -> Result<FaultRate, String> {
    FaultRate::try_from(parse_number(text)?)
}

fn parse_seconds(text: &str) -> Result<Seconds, String> {
    Seconds::try_from(parse_number(text)?)
}

impl FaultArgs {
    /// Returns the rule that was typed, as a plan; none where the plan is a file's, or nothing is to be armed.
    pub(crate) fn typed(&self) -> Option<FaultPlan> {
        let rule = FaultRule {
            on: self.on.clone(),
            start: self.start.map(Sector),
            len: self.len.map(Sectors),
            nth: self.nth,
            times: if self.once { Some(1) } else { self.times },
            rate: self.rate,
            from_s: self.from_s,
            for_s: self.for_s,
            delay_ms: self.delay_ms,
            done: self.done.map(Sectors),
            to: self.to.map(Sector),
            bits: self.bits,
            ..FaultRule::new(self.kind?)
        };
        Some(FaultPlan { seed: self.seed, rules: vec![rule] })
    }
}
