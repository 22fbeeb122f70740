//! The threads and the clock of production: tasks run on a rayon pool, one thread ends sleeps.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use sim_core::{BoxFuture, Errno, Half, Panic, Runtime, panic_text};
use zeroize::Zeroizing;

use crate::runtime::key_ring;
use crate::runtime::task::{Queue, Task};
use crate::runtime::timer::Timer;

/// Sleeps no longer than this: a deadline must fit the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How often `join` looks whether the other half is over before it sleeps.
const SPINS: u32 = 2000;

/// Runs tasks on a fixed number of threads.
pub struct Pool {
    threads: Arc<ThreadPool>,
    timer: Timer,
    started: Instant,
    random: AtomicU64,
    processors: u32,
}

/// Returns how many processors the machine may have, those among them that are off or not ours.
fn possible_processors() -> u32 {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<u32>().ok());
    let running = || std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    last.map_or_else(running, |last| last.saturating_add(1))
}

impl Pool {
    /// Starts the threads; zero is one for each processor.
    ///
    /// # Panics
    /// When the system has no thread left.
    pub fn new(threads: usize) -> Arc<Pool> {
        let threads = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("pool-{index}"))
            .build()
            .expect("the system has threads left at the start");
        Arc::new(Pool {
            threads: Arc::new(threads),
            timer: Timer::start().expect("the system has a thread left at the start"),
            started: Instant::now(),
            random: AtomicU64::new(RandomState::new().hash_one(())),
            processors: possible_processors(),
        })
    }

    /// Makes a task that is about to run. It holds the threads weakly, as it may hold what holds
    /// the pool.
    fn task(&self, future: BoxFuture<'static, ()>) -> Arc<Task<Weak<ThreadPool>>> {
        Task::new(future, Arc::downgrade(&self.threads))
    }
}

impl Runtime for Pool {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.task(task).queue();
    }

    fn spawn_here(&self, task: BoxFuture<'static, ()>) {
        self.task(task).run();
    }

    /// Runs one half here and lets a thread of the pool take the other; where that is the one
    /// thread of a machine with one processor, it would only be in the way.
    fn join(&self, one: Half<'_>, other: Half<'_>) {
        if self.threads.current_num_threads() == 1 {
            one();
            return other();
        }
        let ended = AtomicBool::new(false);
        self.threads.in_place_scope(|scope| {
            scope.spawn(|_| {
                other();
                ended.store(true, Release);
            });
            one();
            // The other half is nearly over, and waking up takes longer than that.
            for _ in 0..SPINS {
                if ended.load(Acquire) {
                    break;
                }
                std::hint::spin_loop();
            }
        });
    }

    fn key(&self, kind: &str, description: &str) -> Result<Zeroizing<Vec<u8>>, Errno> {
        key_ring::read(kind, description)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn coarse_now(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        // Since the machine was started: neither is negative.
        Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.timer.sleep_until(Instant::now() + time.min(LONGEST_SLEEP)))
    }

    /// Returns the next number of a SplitMix64 sequence whose seed the system chose.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.random.fetch_add(STEP, SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn processors(&self) -> u32 {
        self.processors
    }

    fn processor(&self) -> u32 {
        let number = u32::try_from(rustix::thread::sched_getcpu()).unwrap_or(0);
        // One that was added since is taken for one that was there.
        number % self.processors
    }

    fn caught(&self, place: &str, panic: Panic) {
        tracing::error!(place, panic = panic_text(&panic), "a panic: what it was in has failed");
    }
}

impl Queue for Weak<ThreadPool> {
    fn push(&self, task: Arc<Task<Self>>) {
        if let Some(threads) = self.upgrade() {
            threads.spawn(move || task.run());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::task::Poll;
    use std::thread;

    /// Is pending once, and wakes itself before it says so.
    async fn yield_once() {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn a_task_that_is_woken_while_it_runs_runs_again() {
        let pool = Pool::new(2);
        let (done, ended) = mpsc::channel();
        for n in 0..100 {
            let done = done.clone();
            pool.spawn(Box::pin(async move {
                for _ in 0..100 {
                    yield_once().await;
                }
                done.send(n).unwrap();
            }));
        }
        drop(done);
        assert_eq!(ended.iter().count(), 100);
    }

    #[test]
    fn a_task_may_begin_where_it_is_started() {
        let pool = Pool::new(1);
        let (done, ended) = mpsc::channel();
        let here = thread::current().id();
        pool.spawn_here(Box::pin(async move {
            done.send(thread::current().id()).unwrap();
            yield_once().await;
            done.send(thread::current().id()).unwrap();
        }));
        assert_eq!(ended.try_recv(), Ok(here));
        assert_ne!(ended.recv(), Ok(here));
    }

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines_and_not_early() {
        let pool = Pool::new(1);
        let (done, ended) = mpsc::channel();
        for ms in [40, 1, 20] {
            let (done, clock) = (done.clone(), pool.clone());
            let began = pool.now();
            let sleep = pool.sleep(Duration::from_millis(ms));
            pool.spawn(Box::pin(async move {
                sleep.await;
                assert!(clock.now() - began >= Duration::from_millis(ms));
                done.send(ms).unwrap();
            }));
        }
        drop(done);
        assert_eq!(ended.iter().collect::<Vec<_>>(), [1, 20, 40]);
    }

    #[test]
    fn a_task_that_panics_takes_no_other_with_it() {
        let pool = Pool::new(1);
        pool.spawn(Box::pin(async { panic!("on purpose: the test shows it is caught") }));
        let (done, ended) = mpsc::channel();
        pool.spawn(Box::pin(async move { done.send(()).unwrap() }));
        ended.recv().unwrap();
    }

    #[test]
    fn a_pool_may_be_dropped_by_its_own_task() {
        let pool = Pool::new(1);
        let (go, gate) = mpsc::channel::<()>();
        let own = pool.clone();
        pool.spawn(Box::pin(async move {
            gate.recv().unwrap();
            drop(own);
        }));
        drop(pool);
        go.send(()).unwrap();
        thread::yield_now();
    }

    #[test]
    fn random_numbers_differ() {
        let pool = Pool::new(1);
        assert_ne!(pool.random(), pool.random());
    }
}
