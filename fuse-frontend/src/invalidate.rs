//! Tells the kernel that a file reads as something else from now on, or has another size.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::dev_fuse::Connection;
use crate::files::{Files, KeptPages};

/// How often is looked whether a device that holds requests of a file has let go of them.
const LOOK: Duration = Duration::from_millis(5);

/// Drops the pages that the kernel keeps of files.
///
/// The kernel waits in it for pages that are being read or written, so it is done by a thread of
/// its own for each file: where that file's device is suspended again, nothing else waits. While a
/// suspended device holds a request of the file, the kernel is not told yet: a thread that waits in
/// it for such a page keeps a daemon that is killed from ending, and its mount from dying.
pub(crate) struct Invalidator {
    files: Arc<Files>,
    connection: Arc<Connection>,
    state: Mutex<State>,
    /// A pass over a file has ended.
    passed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many changes there were.
    changes: u64,
    /// The minors with a thread under way.
    running: HashMap<u32, Pass>,
    /// Who is told of every pass that ends.
    waiting: Vec<Waker>,
}

/// The files' way to the invalidator, which has them.
struct Weakly(Weak<Invalidator>);

impl KeptPages for Weakly {
    fn drop_pages(&self, minor: u32) {
        if let Some(invalidator) = self.0.upgrade() {
            invalidator.start(minor);
        }
    }

    fn dropped(&self, minor: u32) -> BoxFuture<'static, ()> {
        let weak = self.0.clone();
        Box::pin(poll_fn(move |cx| match weak.upgrade() {
            Some(invalidator) => invalidator.poll_passed(minor, cx),
            None => Poll::Ready(()),
        }))
    }
}

/// How far the thread of a file has come.
#[derive(Clone, Copy)]
struct Pass {
    /// The last change of the file, by its number.
    wanted: u64,
    /// The last one that the kernel has been told of.
    done: u64,
    /// The device is suspended, and holds a request of the file.
    held: bool,
}

impl Invalidator {
    pub(crate) fn new(files: Arc<Files>, connection: Arc<Connection>) -> Arc<Invalidator> {
        let (state, passed) = (Mutex::default(), Condvar::new());
        Arc::new(Invalidator { files, connection, state, passed })
    }

    /// Has the files drop pages by this.
    pub(crate) fn serve_files(self: &Arc<Invalidator>) {
        self.files.keep_pages_by(Arc::new(Weakly(Arc::downgrade(self))));
    }

    /// Starts to drop the pages of the device with this minor.
    pub(crate) fn start(self: &Arc<Invalidator>, minor: u32) {
        // A file that the kernel has not seen has no pages.
        if self.files.seen(minor).is_none() || self.note(minor) == Thread::Running {
            return;
        }
        let invalidator = self.clone();
        let thread = thread::Builder::new().name(format!("dm-{minor}-inval"));
        if let Err(error) = thread.spawn(move || invalidator.run(minor)) {
            self.state().running.remove(&minor);
            self.tell();
            tracing::error!(%error, minor, "no thread to drop the pages of a device");
        }
    }

    /// Waits until the kernel has been told of every change so far but those of files that a
    /// suspended device holds, and tells whether it has.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let state = self.state();
        let changes = state.changes;
        let is_due = |state: &mut State| {
            let due = |pass: &Pass| !pass.held && pass.done < changes.min(pass.wanted);
            state.running.values().any(due)
        };
        let waited = self.passed.wait_timeout_while(state, limit, is_due);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !is_due(&mut state)
    }

    /// Takes note of a change, and returns how far the file's thread had come before.
    fn note(&self, minor: u32) -> Thread {
        let mut state = self.state();
        state.changes += 1;
        let wanted = state.changes;
        match state.running.get_mut(&minor) {
            Some(pass) => {
                pass.wanted = wanted;
                Thread::Running
            }
            None => {
                state.running.insert(minor, Pass { wanted, done: wanted - 1, held: false });
                Thread::Idle
            }
        }
    }

    fn run(&self, minor: u32) {
        while let Some(change) = self.next(minor) {
            if let Some(inode) = self.files.seen(minor) {
                self.wait_while_held(minor, inode);
                // The whole file, and the size with it.
                if let Err(error) = self.connection.invalidate(inode) {
                    tracing::debug!(%error, minor, "the kernel keeps its pages of a device");
                }
            }
            self.note_pass(minor, |pass| pass.done = change);
        }
    }

    fn wait_while_held(&self, minor: u32, inode: u64) {
        let is_held = || self.files.holds_all(minor) && self.connection.waits(inode);
        if !is_held() {
            return;
        }
        self.note_pass(minor, |pass| pass.held = true);
        while is_held() {
            thread::sleep(LOOK);
        }
        self.note_pass(minor, |pass| pass.held = false);
    }

    fn note_pass(&self, minor: u32, note: impl FnOnce(&mut Pass)) {
        if let Some(pass) = self.state().running.get_mut(&minor) {
            note(pass);
        }
        self.tell();
    }

    /// Tells who waits that a pass has ended, or waits itself.
    fn tell(&self) {
        let waiting = std::mem::take(&mut self.state().waiting);
        self.passed.notify_all();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Tells whether nothing is left to drop of a device, or a suspended one holds it up.
    fn poll_passed(&self, minor: u32, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        match state.running.get(&minor) {
            Some(pass) if !pass.held && pass.done < pass.wanted => {
                state.waiting.push(cx.waker().clone());
                Poll::Pending
            }
            Some(_) | None => Poll::Ready(()),
        }
    }

    /// Returns the last change that the kernel is to be told of; the thread ends where there is
    /// none. One lock for both, so that no change falls in between.
    fn next(&self, minor: u32) -> Option<u64> {
        let mut state = self.state();
        let pass = *state.running.get(&minor)?;
        if pass.done < pass.wanted {
            return Some(pass.wanted);
        }
        state.running.remove(&minor);
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file had a thread.
#[derive(PartialEq, Eq)]
enum Thread {
    Idle,
    Running,
}
