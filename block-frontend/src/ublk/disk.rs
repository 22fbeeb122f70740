//! The disks of an instance: made, taken over, and taken away.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sim_core::Errno;

use super::content::{Content, Io, Reply};
use super::control::{Control, listed, open_device};
use super::format::LIVE;
use super::lane::Lane;
use super::orphans::take_away;
use super::queue::Queue;
use super::record::{Entry, Owner, Record};
use crate::node::{Error, Node, Shown, failed};
use crate::wire::{Ask, Outcome};

/// How long a disk is waited for whose server is about to end.
const SERVER_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How long the end waits for disks that are taken away.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How often is looked.
const LOOK_EACH: Duration = Duration::from_millis(20);

/// How many threads serve disks, at least and at most: as many as serve a mount. One that has to wait for a
/// page of an image holds up the disks that it has.
const LANES: (usize, usize) = (2, 8);

/// Carries out what the helper is asked.
pub(crate) type Helper<'a> = &'a dyn Fn(Ask) -> Result<Outcome, Error>;

/// The ublk disks of an instance. When it is dropped they are taken away, in use or not.
pub struct Ublk(Arc<Shared>);

struct Shared {
    control: Control,
    lanes: Vec<Arc<Lane>>,
    record: Record,
    disks: Mutex<HashMap<u32, Arc<Disk>>>,
    /// What a daemon before this one has left, and nobody has taken over yet.
    orphans: Mutex<HashMap<u32, Entry>>,
    since: Instant,
    /// How many disks are on their way out.
    ending: Mutex<usize>,
    fewer: Condvar,
}

/// A disk that is served.
struct Disk {
    queue: Arc<Queue>,
    entry: Mutex<Entry>,
    /// It has the content of its device.
    is_filled: AtomicBool,
    /// It was another's, and what is asked waits in the kernel until there is a content.
    waits: AtomicBool,
}

/// What a disk holds whose device has not come back.
struct Lost;

impl Content for Lost {
    fn serve(&self, _: Io<'_>, reply: Reply) {
        reply.error(Errno::IO);
    }
}

impl fmt::Debug for Ublk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ublk").field("control", &self.0.control).finish_non_exhaustive()
    }
}

impl Ublk {
    /// Opens the driver; nothing where there is none. `record` is the folder in which is kept which disk is
    /// whose: disks that an earlier daemon has left are found by it.
    ///
    /// # Errors
    /// What the system says, and where the driver lacks what is needed.
    pub fn open(record: &Path) -> io::Result<Option<Ublk>> {
        let Some(control) = Control::open()? else { return Ok(None) };
        let record = Record::open(record)?;
        let orphans = left(&control, &record)?;
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let lanes = (0..processors.clamp(LANES.0, LANES.1)).map(Lane::start);
        let lanes = lanes.collect::<io::Result<Vec<_>>>()?;
        Ok(Some(Ublk(Arc::new(Shared {
            control,
            lanes,
            record,
            disks: Mutex::default(),
            orphans: Mutex::new(orphans),
            since: Instant::now(),
            ending: Mutex::default(),
            fewer: Condvar::new(),
        }))))
    }

    /// Reserves a node: the one that the device had before its daemon was killed, or a new one.
    pub(crate) fn reserve(&self, owner: &Owner, helper: Helper<'_>) -> Result<Node, Error> {
        let found = {
            let mut orphans = lock(&self.0.orphans);
            let id = orphans.iter().find(|(_, entry)| entry.owner.is(owner)).map(|(id, _)| *id);
            id.and_then(|id| orphans.remove_entry(&id))
        };
        if let Some((id, entry)) = found {
            match self.take_over(id, owner, &entry, helper) {
                Ok(node) => return Ok(node),
                Err(error) => {
                    tracing::error!(%error, id, name = owner.name, "a block node is not taken over");
                    self.0.forget(id);
                }
            }
        }
        let (id, queue) = self.make().map_err(failed("making a ublk disk"))?;
        self.show_partition(id, queue, owner, false, helper)
    }

    fn make(&self) -> io::Result<(u32, Arc<Queue>)> {
        let Shared { control, record, .. } = &*self.0;
        let id = control.add(record.own)?;
        let served = self.serve(id).and_then(|queue| control.start(id).map(|()| queue));
        let queue = served.inspect_err(|_| {
            let _gone = control.delete(id);
        })?;
        Ok((id, queue))
    }

    fn serve(&self, id: u32) -> io::Result<Arc<Queue>> {
        let lane = &self.0.lanes[id as usize % self.0.lanes.len()];
        let queue = Queue::new(id, open_device(id)?, lane)?;
        lane.serve(queue.clone())?;
        Ok(queue)
    }

    fn take_over(
        &self,
        id: u32,
        owner: &Owner,
        entry: &Entry,
        helper: Helper<'_>,
    ) -> Result<Node, Error> {
        let until = Instant::now() + SERVER_ENDS_WITHIN;
        loop {
            match self.0.control.start_recovery(id) {
                Err(error)
                    if error.raw_os_error() == Some(Errno::BUSY.0) && Instant::now() < until =>
                {
                    thread::sleep(LOOK_EACH);
                }
                begun => break begun.map_err(failed(format!("taking over ublkb{id}")))?,
            }
        }
        let queue = self.serve(id).map_err(failed(format!("serving ublkb{id}")))?;
        let node = self.show_partition(id, queue, owner, true, helper)?;
        if node.dev != entry.dev {
            tracing::warn!(was = %entry.dev, is = %node.dev, "a block node has another number");
        }
        Ok(node)
    }

    fn show_partition(
        &self,
        id: u32,
        queue: Arc<Queue>,
        owner: &Owner,
        waits: bool,
        helper: Helper<'_>,
    ) -> Result<Node, Error> {
        let disk = Disk {
            queue,
            entry: Mutex::new(Entry { owner: owner.clone(), dev: NO_NUMBER }),
            is_filled: AtomicBool::new(false),
            waits: AtomicBool::new(waits),
        };
        let disk = Arc::new(disk);
        lock(&self.0.disks).insert(id, disk.clone());
        let node = match helper(Ask::Partition { disk: id }) {
            Ok(Outcome::Reserved(node)) => Ok(node),
            Ok(other) => Err(Error::Refused(format!("the block helper answered {other:?}"))),
            Err(error) => Err(error),
        };
        let node = node.inspect_err(|_| self.0.end(id))?;
        let entry = Entry { owner: owner.clone(), dev: node.dev };
        *lock(&disk.entry) = entry.clone();
        self.0.put(id, &entry);
        Ok(node)
    }

    /// Says what a node holds, unless that was said before.
    pub(crate) fn fill(&self, id: u32, content: impl FnOnce() -> Arc<dyn Content>) {
        if let Ok(disk) = self.0.disk(id)
            && !disk.is_filled.swap(true, SeqCst)
        {
            disk.queue.set_content(Some(content()));
        }
    }

    /// Notes whose a node is by now: a device may have been renamed.
    pub(crate) fn note(&self, id: u32, owner: &Owner) {
        let Ok(disk) = self.0.disk(id) else { return };
        let mut entry = lock(&disk.entry);
        if entry.owner != *owner {
            entry.owner.clone_from(owner);
            self.0.put(id, &entry);
        }
    }

    /// Lets through what waits since the daemon before, and makes the node as long as it is to be.
    pub(crate) fn show(
        &self,
        node: Node,
        id: u32,
        shown: &Shown,
        helper: Helper<'_>,
    ) -> Result<(), Error> {
        let disk = self.0.disk(id)?;
        if disk.is_filled.load(SeqCst) && disk.waits.swap(false, SeqCst) {
            // Where it fails it is tried again the next time.
            let ended = self.0.control.end_recovery(id);
            let ended = ended.inspect_err(|_| disk.waits.store(true, SeqCst));
            ended.map_err(failed(format!("letting through what waits for ublkb{id}")))?;
        }
        helper(Ask::Fit { node, shown: shown.clone() }).map(drop)
    }

    /// Takes a disk away; what is asked of it from now on fails. Nobody has its partition open, or it is by
    /// force.
    pub(crate) fn end(&self, id: u32) {
        self.0.end(id);
    }

    /// Lists the disks that wait for their devices since a daemon was killed, by number, and whose they are.
    pub(crate) fn orphans(&self) -> Vec<(u32, Owner)> {
        let orphans = lock(&self.0.orphans);
        orphans.iter().map(|(id, entry)| (*id, entry.owner.clone())).collect()
    }

    /// Takes such a disk away, in use or not.
    pub(crate) fn forget(&self, id: u32) {
        lock(&self.0.orphans).remove(&id);
        self.0.forget(id);
    }

    /// Takes away what has waited for its device for too long.
    pub(crate) fn expire(&self, limit: Duration) {
        if self.0.since.elapsed() < limit {
            return;
        }
        let disks = lock(&self.0.disks).clone();
        for (id, disk) in disks {
            if disk.waits.swap(false, SeqCst) {
                tracing::warn!(id, "what waits for a block node fails: its device has no table");
                disk.queue.set_content(Some(Arc::new(Lost)));
                if let Err(error) = self.0.control.end_recovery(id) {
                    disk.waits.store(true, SeqCst);
                    tracing::error!(%error, id, "what waits for a block node goes on waiting");
                }
            }
        }
        for (id, owner) in self.orphans() {
            tracing::warn!(
                id,
                name = owner.name,
                "a block node is given up: nobody restores its device"
            );
            self.forget(id);
        }
    }
}

/// What an entry has until the node is known.
const NO_NUMBER: sim_core::DevNumber = sim_core::DevNumber { major: 0, minor: 0 };

/// Finds what an earlier daemon has left; what is nobody's is taken away, with what is on record of it.
fn left(control: &Control, record: &Record) -> io::Result<HashMap<u32, Entry>> {
    let mut entries = record.entries()?;
    let mut orphans = HashMap::new();
    for id in listed() {
        let Ok(info) = control.information(id) else { continue };
        if info.own != record.own {
            continue;
        }
        let is_ours = info.state == LIVE && info.server == std::process::id().cast_signed();
        match entries.remove(&id).flatten() {
            // About to be taken away, by another thread.
            _ if is_ours => {}
            Some(entry) => drop(orphans.insert(id, entry)),
            None => {
                let taken = take_away(control, id);
                tracing::warn!(id, ?taken, "a ublk disk that no device has");
            }
        }
    }
    for id in entries.into_keys() {
        record.remove(id)?;
    }
    Ok(orphans)
}

impl Shared {
    fn disk(&self, id: u32) -> Result<Arc<Disk>, Error> {
        let unknown = || Error::Refused(format!("no block node on ublkb{id}"));
        lock(&self.disks).get(&id).cloned().ok_or_else(unknown)
    }

    fn put(&self, id: u32, entry: &Entry) {
        if let Err(error) = self.record.put(id, entry) {
            tracing::error!(%error, id, "a block node would not outlive the daemon");
        }
    }

    fn forget(&self, id: u32) {
        if let Err(error) = take_away(&self.control, id) {
            tracing::warn!(%error, id, "a ublk disk stays that an earlier daemon has left");
        }
        self.off_record(id);
    }

    fn off_record(&self, id: u32) {
        if let Err(error) = self.record.remove(id) {
            tracing::warn!(%error, id, "a ublk disk that is gone stays on record");
        }
    }

    /// Takes a disk away. It takes the kernel a while, for which nobody has to wait.
    fn end(self: &Arc<Shared>, id: u32) {
        let Some(disk) = lock(&self.disks).remove(&id) else { return };
        let queue = &disk.queue;
        queue.set_content(None);
        queue.fail_all();
        *lock(&self.ending) += 1;
        let shared = self.clone();
        let ending = move || {
            shared.take_away(&disk.queue);
            *lock(&shared.ending) -= 1;
            shared.fewer.notify_all();
        };
        if let Err(error) = thread::Builder::new().name(format!("ublk-end-{id}")).spawn(ending) {
            tracing::error!(%error, id, "a ublk disk stays");
            *lock(&self.ending) -= 1;
        }
    }

    fn take_away(&self, queue: &Queue) {
        let id = queue.id;
        let stopped = AtomicBool::new(false);
        thread::scope(|scope| {
            // What has come in meanwhile, to a content that waits, would be waited for.
            scope.spawn(|| {
                while !stopped.load(SeqCst) {
                    queue.fail_all();
                    thread::sleep(LOOK_EACH);
                }
            });
            if let Err(error) = self.control.stop(id) {
                tracing::error!(%error, id, "stopping a ublk disk");
            }
            stopped.store(true, SeqCst);
        });
        if let Err(error) = self.control.delete(id) {
            tracing::error!(%error, id, "deleting a ublk disk");
        }
        if !queue.place.ended(END_WITHIN) {
            tracing::warn!(id, "the driver has not ended a queue");
        }
        self.off_record(id);
    }
}

impl Drop for Ublk {
    fn drop(&mut self) {
        let ids: Vec<u32> = lock(&self.0.disks).keys().copied().collect();
        ids.into_iter().for_each(|id| self.0.end(id));
        let ending = lock(&self.0.ending);
        let waited = self.0.fewer.wait_timeout_while(ending, END_WITHIN, |ending| *ending > 0);
        drop(waited);
        self.0.lanes.iter().for_each(|lane| lane.end());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
