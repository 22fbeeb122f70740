//! Tasks that are woken while they wait, are queued, run, or have ended.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use shuttle::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use shuttle::sync::{Condvar, Mutex, MutexGuard};
use shuttle::thread;

use crate::runtime::task::{Queue, Task};
use crate::{join, try_interleavings};

/// A pool that always has a thread left.
struct Threads;

impl Queue for Threads {
    fn push(&self, task: Arc<Task<Threads>>) {
        drop(thread::spawn(move || task.run()));
    }
}

/// What a task waits for and what it has done.
#[derive(Default)]
struct Scene {
    events: AtomicU32,
    polled: AtomicBool,
    polls: AtomicU32,
    has_ended: Mutex<bool>,
    ended: Condvar,
}

impl Scene {
    /// Makes a task that ends when it has seen so many events.
    fn task(self: &Arc<Scene>, events: u32) -> Arc<Task<Threads>> {
        let scene = self.clone();
        let future = poll_fn(move |_| {
            assert!(!scene.polled.swap(true, SeqCst), "two threads poll the task");
            scene.polls.fetch_add(1, SeqCst);
            let seen = scene.events.load(SeqCst);
            scene.polled.store(false, SeqCst);
            if seen < events {
                return Poll::Pending;
            }
            *scene.has_ended() = true;
            scene.ended.notify_all();
            Poll::Ready(())
        });
        Task::new(Box::pin(future), Threads)
    }

    fn has_ended(&self) -> MutexGuard<'_, bool> {
        self.has_ended.lock().expect(SOUND)
    }

    fn wait_for_the_end(&self) {
        let waited = self.ended.wait_while(self.has_ended(), |has_ended| !*has_ended);
        drop(waited.expect(SOUND));
    }
}

/// Why no lock of a scene is poisoned.
const SOUND: &str = "no scene goes on after a panic";

/// Brings events about, each by a thread that wakes the task afterwards.
fn events(scene: &Arc<Scene>, waker: impl Fn() -> Waker, count: u32) {
    let threads = (0..count).map(|_| {
        let (scene, waker) = (scene.clone(), waker());
        thread::spawn(move || {
            scene.events.fetch_add(1, SeqCst);
            waker.wake();
        })
    });
    let threads: Vec<_> = threads.collect();
    join(threads);
}

#[test]
fn a_task_that_is_woken_at_any_moment_looks_again() {
    try_interleavings(|| {
        let scene = Arc::new(Scene::default());
        let task = scene.task(2);
        task.clone().queue();
        events(&scene, || Waker::from(task.clone()), 2);
        scene.wait_for_the_end();
        assert!(scene.polls.load(SeqCst) <= 3, "it looks once for each time it is woken");
    });
}

#[test]
fn a_task_that_has_ended_is_polled_no_more() {
    try_interleavings(|| {
        let scene = Arc::new(Scene::default());
        let task = scene.task(1);
        task.clone().run();
        events(&scene, || Waker::from(task.clone()), 2);
        scene.wait_for_the_end();
        task.clone().wake();
        assert_eq!(scene.polls.load(SeqCst), 2, "before the events, and after");
    });
}
