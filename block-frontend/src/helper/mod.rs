//! The helper process: it does all that opens a loop device, or a file of the mount.

mod disk;
mod openers;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sim_core::DevNumber;

use crate::FIRST_DISK;
use crate::ioctls;
use crate::node::{Error, Node};
use crate::special::Special;
use crate::wire::{Answer, Ask, Outcome, Request, send};
use disk::{Disk, Gone};
use openers::Openers;

/// How long the end waits for requests that are under way, and for disks that are cleared: what
/// takes longer waits for a file of a mount that does not answer, and is left to the kernel, which
/// clears each loop device when this process has ended.
const END_WITHIN: Duration = Duration::from_secs(3);

/// `/dev/loop-control`, as `linux/miscdevice.h` numbers it.
const CONTROL: DevNumber = DevNumber { major: 10, minor: 237 };

/// Runs a helper until the other end of the socket, which has the [`Nodes`](crate::Nodes), is
/// closed or gone. Then it takes all nodes away; one that somebody has open is taken away by the
/// kernel when it is closed. Nothing but loop devices that this call made is ever touched.
///
/// To be run by a process that does nothing else, where `/sys`, `/proc` and the files that are shown
/// are the daemon's: not where a [`Tree`](crate::Tree) is bound. It must not serve the mount whose
/// files are shown, and must not die with the one that does: it should have a session of its own.
///
/// # Errors
/// The socket cannot be read, or what comes is no request. The nodes are taken away then too.
pub fn serve(socket: UnixStream) -> io::Result<()> {
    let helper = Arc::new(Helper::new(socket)?);
    let read = helper.read();
    helper.end();
    read
}

/// What the threads of a helper share.
struct Helper {
    socket: UnixStream,
    /// Held while a line is written.
    writing: Mutex<()>,
    /// What loop devices are over that show nothing yet: one file for all, which nobody can write.
    placeholder: File,
    disks: Mutex<Disks>,
    /// Told when there are fewer threads.
    fewer: Condvar,
}

#[derive(Default)]
struct Disks {
    /// Each with a lock of its own, as showing it may wait for the mount.
    known: HashMap<Node, Arc<Mutex<Disk>>>,
    /// The number after that of the last one that was made.
    next: u32,
    /// How many requests are under way.
    threads: usize,
}

impl Helper {
    fn new(socket: UnixStream) -> io::Result<Helper> {
        Ok(Helper {
            socket,
            writing: Mutex::new(()),
            placeholder: disk::placeholder()?,
            disks: Mutex::default(),
            fewer: Condvar::new(),
        })
    }

    /// Carries out requests, each on a thread of its own, until the other end is gone.
    fn read(self: &Arc<Helper>) -> io::Result<()> {
        for line in BufReader::new(&self.socket).lines() {
            let request: Request = match line {
                Ok(line) => serde_json::from_str(&line)?,
                // The other end was killed with answers unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error),
            };
            self.disks().threads += 1;
            let helper = Arc::clone(self);
            thread::spawn(move || {
                let _counted = Counted(&helper);
                helper.carry_out(request);
            });
        }
        Ok(())
    }

    fn disks(&self) -> MutexGuard<'_, Disks> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_out(&self, Request { number, ask }: Request) {
        let mut gone = None;
        let outcome = match ask {
            Ask::Reserve => self.reserve().map(Outcome::Reserved),
            Ask::Show { node, shown } => self
                .disk(node)
                .and_then(|disk| lock(&disk).show(&shown, &self.placeholder))
                .map(|()| Outcome::Done),
            Ask::Remove { node } => self.remove(node).map(|disk| {
                gone = Some(disk);
                Outcome::Done
            }),
            Ask::Sync { node } => self.part(node).and_then(|part| {
                let flushed = part.read().and_then(|part| ioctls::flush(&part));
                flushed.map_err(disk::failed(format!("flushing {}", node.dev)))?;
                Ok(Outcome::Done)
            }),
            Ask::OpenCounts => self
                .count_openers()
                .map(Outcome::Counts)
                .map_err(disk::failed("looking who has which nodes open")),
        };
        let whole = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // Where nobody reads it the end is near, and takes away what was made.
        let _ = send(&self.socket, &Answer { number, outcome });
        drop(whole);
        // This takes the kernel 50 ms, for which nobody has to wait.
        if let Some((disk, control)) = gone.zip(control().ok()) {
            disk.forget(&control);
        }
    }

    fn reserve(&self) -> Result<Node, Error> {
        let from = self.disks().next.max(FIRST_DISK);
        let disk = Disk::reserve(&control()?, &self.placeholder, from)?;
        let node = disk.node();
        let mut disks = self.disks();
        disks.next = node.disk + 1;
        disks.known.insert(node, Arc::new(Mutex::new(disk)));
        Ok(node)
    }

    fn disk(&self, node: Node) -> Result<Arc<Mutex<Disk>>, Error> {
        let unknown = || Error::Refused(format!("no block node {}", node.dev));
        self.disks().known.get(&node).cloned().ok_or_else(unknown)
    }

    /// The inode of a node. Whoever uses it keeps nobody else from the disk.
    fn part(&self, node: Node) -> Result<Arc<Special>, Error> {
        Ok(lock(&*self.disk(node)?).part())
    }

    fn count_openers(&self) -> io::Result<Vec<(DevNumber, u32)>> {
        let openers = Openers::look()?;
        let devs = self.disks().known.keys().map(|node| node.dev).collect::<Vec<_>>();
        let counts = devs.into_iter().map(|dev| (dev, openers.of(dev)));
        Ok(counts.filter(|(_, count)| *count > 0).collect())
    }

    fn remove(&self, node: Node) -> Result<Gone, Error> {
        let disk = self.disk(node)?;
        let mut disk = lock(&disk);
        disk.take_partition()?;
        // The number may be another's from here on.
        self.disks().known.remove(&node);
        disk.let_go()
    }

    /// Takes all nodes away, at once: each takes the kernel a while.
    fn end(self: &Arc<Helper>) {
        let until = Instant::now() + END_WITHIN;
        self.wait(until);
        let known: Vec<_> = self.disks().known.drain().map(|(_, disk)| disk).collect();
        for disk in known {
            self.disks().threads += 1;
            let helper = Arc::clone(self);
            thread::spawn(move || {
                let _counted = Counted(&helper);
                if let (Some(gone), Ok(control)) = (lock(&disk).end(), control()) {
                    gone.forget(&control);
                }
            });
        }
        self.wait(until + END_WITHIN);
    }

    /// Waits until no thread is under way.
    fn wait(&self, until: Instant) {
        let mut disks = self.disks();
        while disks.threads > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.fewer.wait_timeout(disks, left);
            disks = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A thread that is counted as long as it runs, also where it panics.
struct Counted<'a>(&'a Helper);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.disks().threads -= 1;
        self.0.fewer.notify_all();
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn control() -> Result<File, Error> {
    let open = || File::options().read(true).write(true).open("/dev/loop-control");
    let file = open().or_else(|_| Special::character(CONTROL)?.write());
    file.map_err(disk::failed("opening the control device of the loop driver"))
}
