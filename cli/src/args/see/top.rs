//! The command line of `top`.

use std::time::Duration;

use clap::Args;

use super::parse_time;
use crate::top::Sort;

/// Show what all devices are doing, as it changes
///
/// For each device: reads and writes a second, bytes read and written a second, how long 50, 95 and 99 of 100 bios took at
/// most, bios in flight, and how far a resync, a rebuild or a merge is. Keys: `?` lists them; `q` ends. While it runs,
/// each device counts what it is sent by a region of its statistics (of the program `dmsim-top`), which goes when this
/// ends, whatever ends it.
///
/// Where standard output is no terminal, and with --once, --count or --json, it prints a table (or an object) an
/// interval, and ends after one, or --count.
///
/// Exit status: 3 when the daemon has ended.
///
/// --json prints an object an interval: took_ms; devices, a list of objects with name, major, minor, size_bytes,
/// suspended, target_types, below_devices, reads_per_s, writes_per_s, read_bytes_per_s, written_bytes_per_s,
/// latency_p50_ns, latency_p95_ns, latency_p99_ns, in_flight_count, and progress (what, done and total, or left_bytes);
/// left_out_count, of devices past 1024.
#[derive(Args, Clone, Debug)]
pub(crate) struct TopArgs {
    /// How long an interval is: seconds, or with ms, s or m
    #[arg(short = 'n', long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    pub(crate) interval: Duration,
    /// The order, to begin with
    #[arg(long, value_name = "BY", default_value = "name")]
    pub(crate) sort: Sort,
    /// Print one table, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Print N tables, or objects, and end
    #[arg(long, value_name = "N", conflicts_with = "once", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Print JSON, an object an interval
    #[arg(long)]
    pub(crate) json: bool,
}
