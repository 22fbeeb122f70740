//! A watchdog by the clock on the wall: a target that spins, or blocks the thread, takes no step of
//! the executor any more, and nothing in the simulation could end it.

use std::cell::RefCell;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::search::number;
use crate::sim::core::Core;

/// How many seconds a case may go without a step; 0 for as long as it likes.
pub const WATCHDOG: &str = "DMSIM_WATCHDOG_SECONDS";

/// A step takes microseconds: this is for machines with a great deal else to do.
const SECONDS: u64 = 60;

/// How often the watchdog looks.
const LOOKS: Duration = Duration::from_millis(250);

/// A case that is run.
struct Case {
    part: &'static str,
    seed: u64,
    repeat: String,
    /// The kernel's number of the thread, for a debugger.
    thread: Option<String>,
    /// Counts the runs of executors.
    runs: AtomicU64,
    /// The executor that runs.
    core: Mutex<Weak<Core>>,
}

static CASES: Mutex<Vec<Arc<Case>>> = Mutex::new(Vec::new());

thread_local! {
    static CURRENT: RefCell<Option<Arc<Case>>> = const { RefCell::new(None) };
}

/// Watches a case as long as it is there.
pub(crate) struct Watched(Option<Arc<Case>>);

/// Begins to watch a case of this thread.
pub(crate) fn case(part: &'static str, seed: u64, repeat: String) -> Watched {
    static WATCHDOG_RUNS: Once = Once::new();
    let limit = Duration::from_secs(number(WATCHDOG).unwrap_or(SECONDS));
    if limit.is_zero() {
        return Watched(None);
    }
    WATCHDOG_RUNS.call_once(|| {
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(limit))
            .expect("there is room for one more thread");
    });
    let core = Mutex::new(Weak::new());
    // `PROCESS/task/THREAD`, where there is a /proc.
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let thread = thread.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let case = Arc::new(Case { part, seed, repeat, thread, runs: AtomicU64::new(0), core });
    lock(&CASES).push(case.clone());
    CURRENT.with(|current| *current.borrow_mut() = Some(case.clone()));
    Watched(Some(case))
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(case) = &self.0 {
            lock(&CASES).retain(|other| !Arc::ptr_eq(case, other));
            CURRENT.with(|current| *current.borrow_mut() = None);
        }
    }
}

/// Notes that an executor of this thread runs.
pub(crate) fn runs(core: &Arc<Core>) {
    CURRENT.with(|current| {
        if let Some(case) = &*current.borrow() {
            case.runs.fetch_add(1, SeqCst);
            *lock(&case.core) = Arc::downgrade(core);
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at the cases again and again, and ends the process when one has stopped.
fn watch(limit: Duration) {
    let mut seen: Vec<(Arc<Case>, (u64, u64), Instant)> = Vec::new();
    loop {
        thread::sleep(LOOKS);
        let cases = lock(&CASES).clone();
        seen.retain(|(case, ..)| cases.iter().any(|other| Arc::ptr_eq(case, other)));
        for case in cases {
            let core = lock(&case.core).upgrade();
            let steps = core.as_ref().map_or(0, |core| core.steps());
            let now = (case.runs.load(SeqCst), steps);
            match seen.iter_mut().find(|(other, ..)| Arc::ptr_eq(&case, other)) {
                None => seen.push((case, now, Instant::now())),
                Some((_, before, since)) if *before != now => {
                    (*before, *since) = (now, Instant::now());
                }
                Some((_, _, since)) if since.elapsed() > limit => end(&case, core, limit),
                Some(_) => {}
            }
        }
    }
}

fn end(case: &Case, core: Option<Arc<Core>>, limit: Duration) -> ! {
    let Case { part, seed, repeat, .. } = case;
    let at = core.and_then(|core| core.running()).unwrap_or_default();
    let text = format!(
        "\npart {part}, seed {seed}: no step of the executor in {limit:?}. The target spins, or has \
         the thread wait: for a lock that it holds over an `.await`, say.\n{at}to repeat:\n{repeat}\n\
         to look with a debugger (`gdb -p PROCESS`) while it goes on:\n{WATCHDOG}=0 {repeat}\n"
    );
    // Not by `eprint!`, which a test keeps to itself.
    let _ = std::io::stderr().write_all(text.as_bytes());
    if let Some(stack) = case.thread.as_deref().and_then(backtrace) {
        let _ = std::io::stderr().write_all(format!("\nit is here:\n{stack}").as_bytes());
    }
    std::process::abort();
}

/// Has a debugger say where a thread of this process is, if there is one and it may. Nobody else can
/// look into a thread without its help.
fn backtrace(thread: &str) -> Option<String> {
    let process = std::process::id().to_string();
    let mut gdb = Command::new("timeout");
    gdb.args([
        "60",
        "gdb",
        "-p",
        &process,
        "-batch",
        "-nx",
        "-ex",
        "thread apply all backtrace 40",
    ]);
    let output = gdb.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let begins = format!("(LWP {thread})");
    let stack =
        text.lines().skip_while(|line| !line.starts_with("Thread ") || !line.contains(&begins));
    let frames: Vec<&str> = stack.skip(1).take_while(|line| !line.is_empty()).collect();
    (!frames.is_empty()).then(|| frames.join("\n") + "\n")
}
