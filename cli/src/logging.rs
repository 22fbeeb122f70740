//! The daemon's own log.

use tracing_subscriber::EnvFilter;

/// Logs to standard error, as much as `$DMSIM_LOG` says (`info` where it says nothing).
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("DMSIM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A library user may have one already: theirs does.
    let _ = log.with_ansi(false).try_init();
}
