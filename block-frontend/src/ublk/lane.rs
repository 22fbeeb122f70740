//! The threads that serve disks: each has a ring, and many disks.
//!
//! The driver takes what is about a queue from one thread alone, the one that has asked for its requests
//! first. So answers that come elsewhere are left in the lane's mail, and its bell is rung.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::control::DEPTH;
use super::queue::Queue;
use super::ring::Ring;

/// Whose answer is the bell's; no queue's.
const BELL: u64 = u64::MAX;

/// How long a thread rests whose ring fails.
const REST: Duration = Duration::from_millis(10);

/// A thread that serves disks, as others see it.
pub(super) struct Lane {
    mail: Mutex<Mail>,
    bell: OwnedFd,
    /// The bell has been rung, and not been heard yet.
    rung: AtomicBool,
    thread: OnceLock<ThreadId>,
}

#[derive(Default)]
struct Mail {
    answers: Vec<(u32, u16, i32)>,
    new: Vec<New>,
    /// Nobody needs the thread any more.
    ended: bool,
}

impl Mail {
    fn is_waiting(&self) -> bool {
        !self.answers.is_empty() || !self.new.is_empty()
    }
}

/// A queue that is to be served, and who waits until it is.
struct New(Arc<Queue>, SyncSender<io::Result<()>>);

/// Where a queue is served.
pub(super) struct Place {
    lane: Arc<Lane>,
    /// As which of the lane's queues.
    slot: OnceLock<u32>,
    /// The driver takes nothing more for it.
    gone: Mutex<bool>,
    told: Condvar,
}

impl Place {
    pub(super) fn new(lane: &Arc<Lane>) -> Place {
        let (slot, gone, told) = (OnceLock::new(), Mutex::new(false), Condvar::new());
        Place { lane: lane.clone(), slot, gone, told }
    }

    pub(super) fn answer(&self, tag: u16, result: i32) {
        // One that is served has a slot.
        let Some(slot) = self.slot.get() else { return };
        self.lane.send(|mail| mail.answers.push((*slot, tag, result)));
    }

    /// As if its lane served it.
    #[cfg(test)]
    pub(super) fn begin(&self) {
        self.slot.set(7).unwrap();
    }

    fn end(&self) {
        *self.gone.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }

    /// Waits until the driver has ended the queue, and tells whether it has.
    pub(super) fn ended(&self, limit: Duration) -> bool {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(gone, limit, |gone| !*gone);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Lane {
    /// Starts a thread.
    pub(super) fn start(nr: usize) -> io::Result<Arc<Lane>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (rung, thread) = (AtomicBool::new(false), OnceLock::new());
        let lane = Arc::new(Lane { mail: Mutex::default(), bell, rung, thread });
        let (ready, is_ready) = sync_channel(1);
        let own = lane.clone();
        thread::Builder::new().name(format!("ublk-{nr}")).spawn(move || {
            let _once = own.thread.set(thread::current().id());
            // Memory that is written out by way of us must not be waited for by us. It needs a right that
            // a container may lack.
            let _ = rustix::process::configure_io_flusher_behavior(true);
            match Ring::new() {
                Ok(ring) => {
                    let _ = ready.send(Ok(()));
                    Worker { lane: own, ring, queues: Vec::new() }.run();
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        is_ready.recv().map_err(io::Error::other)??;
        Ok(lane)
    }

    /// A lane without a thread, and the answers that are left in it.
    #[cfg(test)]
    pub(super) fn silent() -> (Arc<Lane>, impl Fn() -> Vec<(u32, u16, i32)>) {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let (rung, thread) = (AtomicBool::new(false), OnceLock::new());
        let lane = Arc::new(Lane { mail: Mutex::default(), bell, rung, thread });
        let own = lane.clone();
        (lane, move || std::mem::take(&mut own.mail().answers))
    }

    /// Serves a queue from now on; what the driver says where it takes no commands of it.
    pub(super) fn serve(&self, queue: Arc<Queue>) -> io::Result<()> {
        let (ready, is_ready) = sync_channel(1);
        self.send(|mail| mail.new.push(New(queue, ready)));
        is_ready.recv().map_err(io::Error::other)?
    }

    /// Ends the thread when its queues have.
    pub(super) fn end(&self) {
        self.send(|mail| mail.ended = true);
    }

    fn send(&self, put: impl FnOnce(&mut Mail)) {
        put(&mut self.mail());
        // The thread itself looks before it sleeps.
        let is_own = self.thread.get() == Some(&thread::current().id());
        if !is_own && !self.rung.swap(true, SeqCst) {
            let _full = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread of a lane has.
struct Worker {
    lane: Arc<Lane>,
    ring: Ring,
    queues: Vec<Option<Served>>,
}

struct Served {
    queue: Arc<Queue>,
    /// How many of its tags the driver has ended.
    ended: u16,
}

impl Worker {
    fn run(mut self) {
        let mut answers = Vec::new();
        self.listen();
        loop {
            if let End::Now = self.take_mail() {
                return;
            }
            // A queue that was begun has had answers of others seen to, and those rang no bell.
            if self.lane.mail().is_waiting() {
                continue;
            }
            if let Err(error) = self.ring.wait() {
                tracing::error!(%error, "the ring of block nodes");
                thread::sleep(REST);
            }
            self.ring.answers(&mut answers);
            for (user, result) in answers.drain(..) {
                self.answered(user, result);
            }
        }
    }

    fn listen(&mut self) {
        let bell = self.lane.bell.as_fd();
        if let Err(error) = self.ring.poll(bell, BELL) {
            tracing::error!(%error, "block nodes are answered late");
        }
    }

    /// Hands over what others have left, and tells whether this is the end.
    fn take_mail(&mut self) -> End {
        let Mail { answers, new, ended } = {
            let mut mail = self.lane.mail();
            let ended = mail.ended;
            std::mem::replace(&mut *mail, Mail { ended, ..Mail::default() })
        };
        for (slot, tag, result) in answers {
            let Some(Some(served)) = self.queues.get(slot as usize) else { continue };
            let queue = served.queue.clone();
            if let Err(error) = self.ring.commit(&queue.device, tag, result, user(slot, tag)) {
                tracing::error!(%error, id = queue.id, "a request of a block node hangs");
            }
        }
        for New(queue, ready) in new {
            let begun = self.begin(&queue);
            // Whoever waited may have gone.
            let _ = ready.send(begun);
        }
        match ended && self.queues.iter().all(Option::is_none) {
            true => End::Now,
            false => End::Later,
        }
    }

    fn begin(&mut self, queue: &Arc<Queue>) -> io::Result<()> {
        let free = self.queues.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.queues.len());
        if slot == self.queues.len() {
            self.queues.push(None);
        }
        let number = u32::try_from(slot).expect("the driver has no more than 2^20 disks");
        queue.place.slot.set(number).map_err(|_| io::Error::other("it is served already"))?;
        self.queues[slot] = Some(Served { queue: queue.clone(), ended: 0 });
        // By whoever lacks this right, as the driver has it: then it has the kernel look for no partitions,
        // when the disk is shown nor later, so that nothing is read, and ours stays.
        let fetched = without_right(CapabilitySet::SYS_ADMIN, || {
            for tag in 0..DEPTH {
                self.ring.fetch(&queue.device, tag, user(number, tag))?;
            }
            self.ring.submit()
        });
        // What it does not take it has refused by now.
        let mut answers = Vec::new();
        self.ring.answers(&mut answers);
        let is_own = |user: u64| user != BELL && user >> 16 == u64::from(number);
        let refused = answers.iter().find(|(user, result)| is_own(*user) && *result < 0);
        let refused = refused.map(|(_, result)| io::Error::from_raw_os_error(-result));
        for (user, result) in answers {
            self.answered(user, result);
        }
        fetched?;
        refused.map_or(Ok(()), Err)
    }

    fn answered(&mut self, user: u64, result: i32) {
        if user == BELL {
            let mut count = [0; 8];
            // In this order: who finds it rung has left his mail, which is taken before the next wait.
            let _empty = rustix::io::read(&self.lane.bell, &mut count);
            self.lane.rung.store(false, SeqCst);
            return self.listen();
        }
        let (slot, tag) = ((user >> 16) as usize, user as u16);
        let Some(Some(served)) = self.queues.get_mut(slot) else { return };
        if result >= 0 {
            let queue = served.queue.clone();
            return queue.serve(tag);
        }
        served.ended += 1;
        if served.ended == DEPTH
            && let Some(served) = self.queues[slot].take()
        {
            served.queue.place.end();
        }
    }
}

enum End {
    Now,
    Later,
}

fn user(slot: u32, tag: u16) -> u64 {
    u64::from(slot) << 16 | u64::from(tag)
}

/// Does something as if this thread lacked a right. Where rights cannot be changed it has it.
fn without_right<T>(right: CapabilitySet, work: impl FnOnce() -> T) -> T {
    let before = capabilities(None).ok();
    if let Some(mut rights) = before {
        rights.effective.remove(right);
        let _kept = set_capabilities(None, rights);
    }
    let done = work();
    if let Some(rights) = before
        && let Err(error) = set_capabilities(None, rights)
    {
        tracing::error!(%error, "a thread of block nodes lacks rights from now on");
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left while a queue is begun is seen to before the thread sleeps.
    #[test]
    fn mail_waits_until_it_is_taken() {
        let (lane, _) = Lane::silent();
        assert!(!lane.mail().is_waiting());
        lane.send(|mail| mail.answers.push((0, 0, 0)));
        assert!(lane.mail().is_waiting());
    }

    #[test]
    fn a_right_is_missing_for_as_long_as_it_is_to_be() {
        let has = || {
            let rights = capabilities(None).unwrap();
            rights.effective.contains(CapabilitySet::SYS_ADMIN)
        };
        let before = has();
        assert!(!without_right(CapabilitySet::SYS_ADMIN, has));
        assert_eq!(has(), before);
    }
}
