//! Who waits at the terminal: is shown a bar, and ends what is waited for with a signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use daemon::{About, Fault};
use indicatif::{ProgressBar, ProgressStyle};
use ops::{INTERRUPTED, Progress, Watch};
use sim_core::SECTOR_SIZE;

use crate::output::complain;

/// What ends sooner has no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// The terminal, and the signals that it sends.
pub(crate) struct Terminal {
    interrupted: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes the signals that ask to end; the second one ends the process.
    pub(crate) fn watch() -> Result<Terminal, Fault> {
        Terminal::with(true)
    }

    /// Takes the signals that ask to end. A second one changes nothing: what the first one begins, to take away what
    /// was made, is not left half done.
    pub(crate) fn watch_to_the_end() -> Result<Terminal, Fault> {
        Terminal::with(false)
    }

    fn with(second_ends: bool) -> Result<Terminal, Fault> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            if second_ends {
                let ends = signal_hook::flag::register_conditional_shutdown;
                ends(signal, INTERRUPTED.into(), interrupted.clone()).about("signals")?;
            }
            signal_hook::flag::register(signal, interrupted.clone()).about("signals")?;
        }
        Ok(Terminal { interrupted })
    }
}

impl Watch for Terminal {
    fn is_interrupted(&self) -> bool {
        self.interrupted.load(SeqCst)
    }

    fn begin(&self, what: &str) -> Box<dyn Progress> {
        Box::new(Bar { what: what.to_owned(), since: Instant::now(), bar: None })
    }

    fn warn(&self, what: &str) {
        complain!("dmsim: warning: {what}");
    }
}

/// A bar, for what takes some time. Where standard error is no terminal, nothing is shown.
struct Bar {
    what: String,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Progress for Bar {
    fn show(&mut self, done: u64, total: u64) {
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
