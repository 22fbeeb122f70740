//! Waiting for what goes on in the background, with a bar on a terminal; and what a signal ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sim_core::SECTOR_SIZE;

use crate::fault::{About, Fault};

/// The exit status of a command that a signal has ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// How often it is looked: nothing raises an event.
const PERIOD: Duration = Duration::from_millis(100);

/// What ends sooner has no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// So many sectors are left.
    Left(u64),
    Done,
    Failed(String),
}

/// Returns what a signal that asks to end sets; the second one ends the process.
pub(crate) fn on_signals() -> Result<Arc<AtomicBool>, Fault> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let set = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let ends = signal_hook::flag::register_conditional_shutdown;
        ends(signal, INTERRUPTED.into(), set.clone()).about("signals")?;
        signal_hook::flag::register(signal, set.clone()).about("signals")?;
    }
    Ok(set)
}

/// Looks again and again until it is done, and shows on a terminal how far it is.
pub(crate) fn until_done(
    what: &str,
    interrupted: &AtomicBool,
    mut look: impl FnMut() -> Result<Progress, Fault>,
) -> Result<(), Fault> {
    let mut bar = Bar::new(what);
    let mut total = 0;
    loop {
        match look()? {
            Progress::Done => return Ok(()),
            Progress::Failed(why) => return Err(Fault::new(what, why)),
            Progress::Left(left) => {
                total = total.max(left);
                bar.show(total - left, total);
            }
        }
        if interrupted.load(SeqCst) {
            return Err(Fault::new(what, "interrupted").with_status(INTERRUPTED));
        }
        std::thread::sleep(PERIOD);
    }
}

/// A bar on the terminal, for what takes some time.
pub(crate) struct Bar {
    what: String,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Bar {
    pub(crate) fn new(what: &str) -> Bar {
        Bar { what: what.to_owned(), since: Instant::now(), bar: None }
    }

    /// Shows how many sectors of how many are done. Where standard error is no terminal, nothing
    /// is shown.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        if self.since.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = "{prefix} [{bar:30}] {binary_bytes}/{binary_total_bytes}, {eta} left";
            let style = ProgressStyle::with_template(style).expect("the template is sound");
            let bar = ProgressBar::new(0).with_prefix(self.what.clone());
            bar.with_style(style.progress_chars("#>-"))
        });
        bar.set_length(total * SECTOR_SIZE);
        bar.set_position(done * SECTOR_SIZE);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Fails where a signal has asked to end.
pub(crate) fn go_on(name: &str, interrupted: &AtomicBool) -> Result<(), Fault> {
    match interrupted.load(SeqCst) {
        true => Err(Fault::new(name, "interrupted").with_status(INTERRUPTED)),
        false => Ok(()),
    }
}
