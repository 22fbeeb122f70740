//! Who waits for a workflow: is shown how far it is, and may end it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use daemon::Fault;

/// The exit status of what a signal has ended.
pub const INTERRUPTED: u8 = 130;

/// How often it is looked at the least: nothing raises an event.
pub(crate) const PERIOD: Duration = Duration::from_millis(100);

/// How long it takes until it is looked for the second time; each further time takes twice as long, up to
/// [`PERIOD`]. What is small is over soon.
const FIRST_PERIOD: Duration = Duration::from_millis(2);

/// How often it is looked by whom a signal is to end at once.
const SOON: Duration = Duration::from_millis(20);

/// Who waits for a workflow.
pub trait Watch {
    /// Tells whether it is to end: undone, or left where it goes on by itself.
    fn is_interrupted(&self) -> bool;

    /// Is told that something begins that takes some time.
    fn begin(&self, _what: &str) -> Box<dyn Progress> {
        Box::new(Unseen)
    }

    /// Is told what is odd about something that is done all the same.
    fn warn(&self, _what: &str) {}
}

/// How far something is; it is over when this is dropped.
pub trait Progress {
    /// Shows how many sectors of how many are done.
    fn show(&mut self, done: u64, total: u64);
}

struct Unseen;

impl Progress for Unseen {
    fn show(&mut self, _done: u64, _total: u64) {}
}

/// A flag that interrupts; nothing is shown.
impl Watch for AtomicBool {
    fn is_interrupted(&self) -> bool {
        self.load(SeqCst)
    }
}

/// What a look at something in the background has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// So many sectors are left.
    Left(u64),
    Done,
    Failed(String),
}

/// For how long something has stood still, look by look.
#[derive(Default)]
pub(crate) struct Stillness(Option<Instant>);

impl Stillness {
    /// Returns for how long it has, as this look has found it.
    pub(crate) fn lasts(&mut self, is_still: bool) -> Duration {
        if !is_still {
            self.0 = None;
            return Duration::ZERO;
        }
        self.0.get_or_insert_with(Instant::now).elapsed()
    }
}

/// Looks again and again until it is done.
pub(crate) fn until_done(
    what: &str,
    watch: &dyn Watch,
    mut look: impl FnMut() -> Result<Look, Fault>,
) -> Result<(), Fault> {
    let mut progress = watch.begin(what);
    let (mut total, mut period) = (0, FIRST_PERIOD);
    loop {
        match look()? {
            Look::Done => return Ok(()),
            Look::Failed(why) => return Err(Fault::new(what, why)),
            Look::Left(left) => {
                total = total.max(left);
                progress.show(total - left, total);
            }
        }
        go_on(what, watch)?;
        std::thread::sleep(period);
        period = PERIOD.min(2 * period);
    }
}

/// Does what cannot be told to end: reads what somebody types, derives a key. Where the workflow is to end, it goes on
/// behind it and nobody hears of it.
///
/// # Errors
/// Where the workflow is to end.
pub fn unless_interrupted<T: Send + 'static>(
    about: &str,
    watch: &dyn Watch,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let (told, heard) = channel();
    let worker = std::thread::spawn(move || told.send(work()));
    loop {
        match heard.recv_timeout(SOON) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => go_on(about, watch)?,
            Err(RecvTimeoutError::Disconnected) => match worker.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(_) => unreachable!("it ends by telling what it did"),
            },
        }
    }
}

/// Fails where the workflow is to end.
pub(crate) fn go_on(name: &str, watch: &dyn Watch) -> Result<(), Fault> {
    match watch.is_interrupted() {
        true => Err(Fault::new(name, "interrupted").with_status(INTERRUPTED)),
        false => Ok(()),
    }
}
