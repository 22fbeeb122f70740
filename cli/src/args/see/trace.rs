//! The command line of `trace`.

use std::time::Duration;

use clap::Args;

use super::parse_time;

/// Print the bios that pass through a device, as blkparse does
///
/// A line each, until it is interrupted: device, processor, number, seconds since the trace began, process (the
/// daemon), what happens (Q: it comes to the device, A: a table sends it on, from where, C: it has ended), what it asks
/// for (R, W, D, F, N as blkparse has them, with F, A and S), first sector and length, and at the end the errno (0 where
/// it went well; blkparse prints -5 as 65531). With --deep the bios on each device below, too, down to the images, of
/// the tables that are in use when it begins.
///
/// A bio waits for nobody who reads this: of what is not read in time 65536 steps are kept, and what was left out is
/// counted and told. While it runs, each bio goes through the tables one by one, so that it is slower. A device is
/// traced by one command at a time. At the end it prints a summary on standard error.
///
/// Exit status: 0 after --count lines, when the time is up, at a signal, or when nobody reads any more; 1 when the
/// device was removed; 3 when the daemon has ended.
///
/// --json prints an object a line: seq; at_ns; cpu; major and minor; action (`Q`, `A`, `C`); op, and fua, preflush and
/// readahead; sector and len (sectors); from (major, minor, sector) of `A`; error of `C`, an errno's name; else null; and
/// dropped_count, of those that were left out before it.
#[derive(Args, Clone, Debug)]
pub(crate) struct TraceArgs {
    /// The mapped device
    pub(crate) name: String,
    /// What its tables send below, too, layer by layer
    #[arg(long)]
    pub(crate) deep: bool,
    /// Print JSON, an object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// End after N lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after so long: seconds, or with ms, s or m
    #[arg(short = 'w', long = "for", value_name = "TIME", value_parser = parse_time)]
    pub(crate) long: Option<Duration>,
    /// Leave the summary out
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
