//! Requests that cannot end on the spot go on as tasks.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sim_core::Runtime;

/// Runs the tasks of a front end, and knows how many have not ended.
pub struct Tasks {
    runtime: Arc<dyn Runtime>,
    pending: Arc<Pending>,
}

#[derive(Default)]
struct Pending {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Tasks {
    /// Makes a set of tasks that runs on `runtime`.
    pub fn new(runtime: Arc<dyn Runtime>) -> Tasks {
        Tasks { runtime, pending: Arc::default() }
    }

    /// Runs a task as far as it gets at once; what is left of it goes to the runtime. So what is
    /// ready costs no change of threads.
    pub fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(&self.pending);
        let mut task: BoxFuture<'static, ()> = Box::pin(async move {
            task.await;
            drop(counted);
        });
        // The runtime polls once more, with a waker of its own, so none is needed here.
        let mut cx = Context::from_waker(Waker::noop());
        if task.as_mut().poll(&mut cx).is_pending() {
            self.runtime.spawn(task);
        }
    }

    /// Waits until every task has ended, `limit` at most, and tells whether they have.
    pub fn wait(&self, limit: Duration) -> bool {
        let count = self.pending.count();
        let (count, _) = self
            .pending
            .fewer
            .wait_timeout_while(count, limit, |count| *count > 0)
            .unwrap_or_else(PoisonError::into_inner);
        *count == 0
    }
}

impl Pending {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One task that has not ended, or that the runtime has not dropped.
struct Counted(Arc<Pending>);

impl Counted {
    fn new(pending: &Arc<Pending>) -> Counted {
        *pending.count() += 1;
        Counted(pending.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut count = self.0.count();
        *count -= 1;
        if *count == 0 {
            self.0.fewer.notify_all();
        }
    }
}

/// Lets others run: a task with many steps that are all ready must not hold its thread, least of
/// all the FUSE worker that started it.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        YIELDED.set(true);
        Poll::Pending
    })
    .await;
}

/// Runs a poll, and tells whether it ended in [`yield_now`]: what has been done so far is whole then,
/// and the rest may be given up.
pub(crate) fn tells_yield<T>(poll: impl FnOnce() -> T) -> (T, bool) {
    YIELDED.set(false);
    let result = poll();
    (result, YIELDED.replace(false))
}

thread_local! {
    static YIELDED: Cell<bool> = const { Cell::new(false) };
}
