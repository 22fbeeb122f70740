//! The command line of `events`.

use std::time::Duration;

use clap::Args;

/// Print what happens to devices, as it happens
///
/// A line each: its number, the device, and what: created, table_loaded, resumed (with a new table or without),
/// suspended, table_cleared, renamed, uuid_set, removed, and event, with the event number that `dmsetup wait` knows.
/// The numbers have no gap. A reader that is thousands behind has missed some, and is told how many: the daemon waits
/// for nobody.
///
/// Exit status: 0 after --count lines, or when the time is up and no --count was said; 1 when it was, and there were
/// fewer; 3 when the daemon has ended.
///
/// --json prints an object a line: seq; event; name, uuid, major, minor; event_nr; old_name of `renamed`, new_table of
/// `resumed`, or null; missed_count, of those that came before it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Events {
    /// These devices alone, by the names that they have when it happens
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Print JSON, an object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// End after N lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Begin with what the daemon still has of the past: the last 4096, since it was started
    #[arg(long)]
    pub(crate) past: bool,
    /// Begin with what happens from now on, as without it
    #[arg(long, conflicts_with = "past")]
    pub(crate) from_now: bool,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| format!("expected seconds, found `{text}`"))
}
