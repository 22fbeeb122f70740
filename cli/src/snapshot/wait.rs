//! `dmsim wait --merge`: waits for what goes on in the background, and shows how far it is.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sim_core::SECTOR_SIZE;

use super::machine::Machine;
use super::options::Wait;
use super::{MERGE, State, find, merge, state};
use crate::client::Client;
use crate::fault::{About, Fault};
use crate::instance::Instance;

/// The exit status of a command that a signal has ended.
pub(super) const INTERRUPTED: u8 = 130;

/// How often it is looked: nothing raises an event.
const PERIOD: Duration = Duration::from_millis(100);

/// What ends sooner has no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many sectors are left.
    Left(u64),
    Done,
    Failed(String),
}

/// `dmsim wait --merge`.
pub(crate) fn wait(instance: &Instance, options: &Wait) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let name = &options.name;
    let note = merge::note_on(&mut client, instance, name)?;
    let name = note.map_or(name.clone(), |note| note.origin);
    let device = find(&mut client, &name)?.ok_or_else(|| Fault::new(&name, "no such device"))?;
    if device.merge().is_none() {
        return Err(Fault::new(name, "nothing is being merged into it"));
    }
    let interrupted = on_signals()?;
    until_merged(&mut client, &name, &interrupted)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns what a signal that asks to end sets; the second one ends the process.
pub(super) fn on_signals() -> Result<Arc<AtomicBool>, Fault> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let set = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let ends = signal_hook::flag::register_conditional_shutdown;
        ends(signal, INTERRUPTED.into(), set.clone()).about("signals")?;
        signal_hook::flag::register(signal, set.clone()).about("signals")?;
    }
    Ok(set)
}

/// Waits until a merge into this device is done.
pub(super) fn until_merged(
    machine: &mut dyn Machine,
    name: &str,
    interrupted: &AtomicBool,
) -> Result<(), Fault> {
    let ended = until_done(&format!("merge into {name}"), interrupted, || {
        if find(machine, name)?.is_some_and(|device| device.status.suspended) {
            let why = format!("is suspended, and the merge with it: `dmsim resume {name}`");
            return Err(Fault::new(name, why));
        }
        Ok(match state(machine, name, MERGE)? {
            Some(State::Good { allocated, metadata }) if allocated <= metadata => Progress::Done,
            Some(State::Good { allocated, metadata }) => Progress::Left(allocated - metadata),
            Some(State::MergeFailed) => Progress::Failed(format!(
                "the merge failed, as the device or the store could not be read or written (kmsg \
                 of the instance says which). The device can be used: what is not merged is read \
                 from the store. `dmsim suspend {name}` and `dmsim resume {name}` try again"
            )),
            Some(State::Invalid | State::Overflow) => Progress::Failed(
                "the store is invalid, and what was not merged yet is lost. The device can be used"
                    .to_owned(),
            ),
            // Another command has finished it, and put the table away.
            None => Progress::Done,
        })
    });
    ended.map_err(|fault| match fault.status {
        INTERRUPTED => {
            let why = format!("{}; the merge goes on, `dmsim merge {name}` finishes it", fault.why);
            Fault { why, ..fault }
        }
        _ => fault,
    })
}

/// Looks again and again until it is done, and shows on a terminal how far it is.
pub(super) fn until_done(
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
pub(super) struct Bar {
    what: String,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Bar {
    pub(super) fn new(what: &str) -> Bar {
        Bar { what: what.to_owned(), since: Instant::now(), bar: None }
    }

    /// Shows how many sectors of how many are done. Where standard error is no terminal, nothing
    /// is shown.
    pub(super) fn show(&mut self, done: u64, total: u64) {
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
