//! The helper process: it does all that opens a loop device, or a file of the mount.

mod disk;
mod kernel_uses;
mod openers;
mod partition;

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
use crate::node::{Error, Node, Whole, failed};
use crate::special::Special;
use crate::ublk::{Left, Orphans};
use crate::wire::{Answer, Ask, Outcome, Request, send};
use disk::{Disk, Gone};
use openers::Openers;
use partition::Partition;

/// How long the end waits for requests that are under way, and for disks that are cleared: what
/// takes longer waits for a file of a mount that does not answer, and is left to the kernel, which
/// clears each loop device when this process has ended.
const END_WITHIN: Duration = Duration::from_secs(3);

/// `/dev/loop-control`, as `linux/miscdevice.h` numbers it.
const CONTROL: DevNumber = DevNumber { major: 10, minor: 237 };

/// Runs a helper until the other end of the socket, which has the [`Nodes`](crate::Nodes), is
/// closed or gone. Then it takes all nodes on loop devices away; one that somebody has open is taken away
/// by the kernel when it is closed. Nodes on ublk disks wait for another daemon; what is returned is to be
/// [waited for](Orphans::wait), for those to which none comes. No loop device but those that this call made
/// is ever touched.
///
/// To be run by a process that does nothing else, where `/sys`, `/proc` and the files that are shown
/// are the daemon's: not where a [`Tree`](crate::Tree) is bound. It must not serve the mount whose
/// files are shown, and must not die with the one that does: it should have a session of its own.
///
/// # Errors
/// There is no memory for what loop devices are over that show nothing yet.
pub fn serve(socket: UnixStream) -> io::Result<Orphans> {
    let helper = Arc::new(Helper::new(socket)?);
    let read = helper.read();
    let left = helper.end();
    if let Err(error) = read {
        tracing::error!(%error, "the daemon of block nodes says what is no request");
    }
    Ok(Orphans::new(left))
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
    known: HashMap<Node, Made>,
    /// The number after that of the last one that was made.
    next: u32,
    /// How many requests are under way.
    threads: usize,
}

/// What a node is the partition of.
#[derive(Clone)]
enum Made {
    Loop(Arc<Mutex<Disk>>),
    Ublk(Arc<Mutex<Partition>>),
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
            Ask::Show { node, shown } | Ask::Fit { node, shown } => self
                .made(node)
                .and_then(|made| match made {
                    Made::Loop(disk) => lock(&disk).show(&shown, &self.placeholder),
                    Made::Ublk(partition) => lock(&partition).fit(&shown),
                })
                .map(|()| Outcome::Done),
            Ask::Partition { disk } => self.partition(disk).map(Outcome::Reserved),
            Ask::Remove { node } => self.remove(node).map(|disk| {
                gone = disk;
                Outcome::Done
            }),
            Ask::Forget { node } => {
                self.disks().known.remove(&node);
                Ok(Outcome::Done)
            }
            Ask::RemovePartition { disk } => partition::remove(disk).map(|()| Outcome::Done),
            Ask::Sync { node } => self.part(node).and_then(|part| {
                let flushed = part.read().and_then(|part| write_out(&part, node.dev));
                flushed.map_err(failed(format!("flushing {}", node.dev)))?;
                Ok(Outcome::Done)
            }),
            Ask::OpenCounts => self
                .count_openers()
                .map(Outcome::Counts)
                .map_err(failed("looking who has which nodes open")),
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
        if let Whole::Loop(number) = node.disk {
            disks.next = number + 1;
        }
        disks.known.insert(node, Made::Loop(Arc::new(Mutex::new(disk))));
        Ok(node)
    }

    fn partition(&self, disk: u32) -> Result<Node, Error> {
        let partition = Partition::of(disk)?;
        let node = partition.node();
        self.disks().known.insert(node, Made::Ublk(Arc::new(Mutex::new(partition))));
        Ok(node)
    }

    fn made(&self, node: Node) -> Result<Made, Error> {
        let unknown = || Error::Refused(format!("no block node {}", node.dev));
        self.disks().known.get(&node).cloned().ok_or_else(unknown)
    }

    /// The inode of a node. Whoever uses it keeps nobody else from the disk.
    fn part(&self, node: Node) -> Result<Arc<Special>, Error> {
        Ok(match self.made(node)? {
            Made::Loop(disk) => lock(&disk).part(),
            Made::Ublk(partition) => lock(&partition).part(),
        })
    }

    fn count_openers(&self) -> io::Result<Vec<(DevNumber, u32)>> {
        let openers = Openers::look()?;
        let devs = self.disks().known.keys().map(|node| node.dev).collect::<Vec<_>>();
        let counts = devs.into_iter().map(|dev| (dev, openers.of(dev)));
        Ok(counts.filter(|(_, count)| *count > 0).collect())
    }

    fn remove(&self, node: Node) -> Result<Option<Gone>, Error> {
        let made = self.made(node)?;
        match &made {
            Made::Loop(disk) => lock(disk).take_partition()?,
            Made::Ublk(partition) => lock(partition).take()?,
        }
        // The number may be another's from here on.
        self.disks().known.remove(&node);
        match made {
            Made::Loop(disk) => lock(&disk).let_go().map(Some),
            Made::Ublk(_) => Ok(None),
        }
    }

    /// Takes all loop devices away, at once: each takes the kernel a while. Returns the ublk disks, which
    /// are the daemon's.
    fn end(self: &Arc<Helper>) -> Vec<Left> {
        let until = Instant::now() + END_WITHIN;
        self.wait(until);
        let known: Vec<_> = self.disks().known.drain().map(|(_, disk)| disk).collect();
        let mut left = Vec::new();
        for made in known {
            let disk = match made {
                Made::Loop(disk) => disk,
                Made::Ublk(partition) => {
                    left.push(lock(&partition).left);
                    continue;
                }
            };
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
        left
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

/// Writes out what the kernel holds of a node, and of a file system on it.
fn write_out(part: &File, dev: DevNumber) -> io::Result<()> {
    // That lets go of pages too, which a program that goes on with them is not to notice: it has them
    // when nothing can be read any more.
    if openers::is_mounted(dev)? { ioctls::flush(part) } else { part.sync_all() }
}

/// A thread that is counted as long as it runs, also where it panics.
struct Counted<'a>(&'a Helper);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.disks().threads -= 1;
        self.0.fewer.notify_all();
    }
}

fn lock<T>(disk: &Mutex<T>) -> MutexGuard<'_, T> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn control() -> Result<File, Error> {
    let open = || File::options().read(true).write(true).open("/dev/loop-control");
    let file = open().or_else(|_| Special::character(CONTROL, "loop-control")?.write());
    file.map_err(failed("opening the control device of the loop driver"))
}
