//! Which inode and which open file is which device.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

use sim_core::control::Shown;
use sim_core::{Access, Control, Errno, MINOR_BITS, MappedDevice, OpenDevice};

use super::operation::Caller;
use super::request::{Disk, End, size_in_bytes};
use super::task::Tasks;

/// The inode number of the directory.
pub(crate) const ROOT: u64 = 1;

/// The inode number of the first device that is seen with minor number 0. The lowest bits count
/// from here by the minor number, and those above by the devices that had the minor before.
const FIRST: u64 = 2;

/// Who has a device open, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The device's name.
    pub device: String,
    /// The process that opened it, which may have ended (`losetup`); 0 for one that cannot be
    /// seen from here.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// How many of the open files are its own.
    pub count: u32,
}

/// The inodes and open files of a mount.
pub(crate) struct Nodes {
    pub(crate) control: Arc<Control>,
    pub(super) tasks: Arc<Tasks>,
    /// What was last seen with each minor number.
    inodes: Mutex<HashMap<u32, Inode>>,
    open: RwLock<Slots>,
}

/// A device that the kernel may know an inode number of.
struct Inode {
    number: u64,
    device: Weak<MappedDevice>,
    /// Shared by all who have it open, as they keep each other out of half-written blocks.
    disk: Weak<Disk>,
}

/// The open files, by their handle.
#[derive(Default)]
struct Slots {
    files: Vec<Option<Arc<OpenFile>>>,
    free: Vec<usize>,
    /// How many were opened so far.
    opened: u64,
}

/// An open file. The device counts it as an opener for as long as it is there.
pub(crate) struct OpenFile {
    pub(crate) disk: Arc<Disk>,
    pub(crate) access: Access,
    /// Where it ends since it was truncated.
    pub(crate) end: Arc<End>,
    pub(crate) minor: u32,
    pid: u32,
    uid: u32,
    /// When it was opened: as which of all.
    turn: u64,
    /// Something was asked of it.
    is_used: AtomicBool,
    // In this order: the device is closed, and then looked at.
    _opener: OpenDevice,
    _reaper: Reaper,
}

/// Removes, when dropped, what was to be removed when closed. Whoever lets go of an open file
/// last does so: a request may hold it longer than the close does.
struct Reaper(Arc<Control>);

impl Drop for Reaper {
    fn drop(&mut self) {
        self.0.reap();
    }
}

impl Nodes {
    pub(crate) fn new(control: Arc<Control>, tasks: Arc<Tasks>) -> Nodes {
        Nodes { control, tasks, inodes: Mutex::default(), open: RwLock::default() }
    }

    /// Returns a device's inode number: the same for as long as the device is there, and never
    /// that of another device.
    pub(crate) fn inode(&self, device: &Arc<MappedDevice>) -> u64 {
        let mut inodes = self.inodes();
        let minor = device.minor();
        let seen = inodes.get(&minor);
        if let Some(inode) = seen.filter(|inode| inode.is(device)) {
            return inode.number;
        }
        let first = FIRST + u64::from(minor);
        let number = seen.map_or(first, |before| before.number + (1 << MINOR_BITS));
        let device = Arc::downgrade(device);
        inodes.insert(minor, Inode { number, device, disk: Weak::new() });
        number
    }

    /// Finds the device of an inode; [`Errno::NODEV`] when it was removed.
    pub(crate) fn device(&self, inode: u64) -> Result<Shown, Errno> {
        let minor = minor(inode).ok_or(Errno::ISDIR)?;
        let shown = self.control.find_minor(minor).ok_or(Errno::NODEV)?;
        let inodes = self.inodes();
        match inodes.get(&minor) {
            Some(seen) if seen.number == inode && seen.is(&shown.device) => Ok(shown),
            Some(_) | None => Err(Errno::NODEV),
        }
    }

    /// Returns the inode number of the device with this minor number, if the kernel may know it.
    pub(crate) fn seen(&self, minor: u32) -> Option<u64> {
        Some(self.inodes().get(&minor)?.number)
    }

    /// Opens the device of an inode, and returns the file's handle.
    pub(crate) fn open(&self, inode: u64, access: Access, caller: Caller) -> Result<u64, Errno> {
        let shown = self.device(inode)?;
        let minor = shown.device.minor();
        let opener = OpenDevice::new(shown.device.clone(), access);
        let file = OpenFile {
            disk: self.disk(&shown.device),
            access,
            end: Arc::default(),
            minor,
            pid: caller.pid,
            uid: caller.uid,
            turn: 0,
            is_used: AtomicBool::new(false),
            // As a kernel device that is going answers its openers.
            _opener: opener.map_err(|_| Errno::NXIO)?,
            _reaper: Reaper(self.control.clone()),
        };
        Ok(self.slots_mut().insert(file))
    }

    /// Finds an open file by its handle, of which something is asked.
    pub(crate) fn opened(&self, handle: u64) -> Result<Arc<OpenFile>, Errno> {
        let slots = self.slots();
        let slot = usize::try_from(handle).ok().and_then(|index| slots.files.get(index));
        let file = slot.cloned().flatten().ok_or(Errno::BADF)?;
        if !file.is_used.load(SeqCst) {
            file.is_used.store(true, SeqCst);
        }
        Ok(file)
    }

    /// Finds the open file that a thread has just opened: the last one of this device that it has,
    /// if it may write, and nothing was asked of it yet. Whoever opens with `O_TRUNC` truncates this one, and by its
    /// inode alone. A file that was handed on (to a loop device) was closed by its opener, and that
    /// asks something of it.
    ///
    /// Threads that cannot be seen from here (of another PID namespace) look all the same, and none of
    /// theirs is found: a truncate(2) by one would hit what another has just opened.
    pub(crate) fn just_opened(
        &self,
        device: &Arc<MappedDevice>,
        caller: Caller,
    ) -> Option<Arc<OpenFile>> {
        if caller.pid == 0 {
            return None;
        }
        let slots = self.slots();
        let own = |file: &&Arc<OpenFile>| {
            let is_here = MappedDevice::of(&**file.disk.device());
            (file.pid, file.uid) == (caller.pid, caller.uid)
                && is_here.is_some_and(|here| std::ptr::eq(here, &raw const **device))
        };
        let last = slots.files.iter().flatten().filter(own).max_by_key(|file| file.turn);
        let is_fresh = |file: &&Arc<OpenFile>| {
            !file.is_used.load(SeqCst) && file.end.get().is_none() && !file.access.is_read_only()
        };
        last.filter(is_fresh).cloned()
    }

    /// Closes an open file, and removes the device if that was put off until now.
    pub(crate) fn close(&self, handle: u64) {
        let closed = self.slots_mut().remove(handle);
        // With no lock held: the device may go with it.
        drop(closed);
    }

    /// Closes every file that is open still: when a detached mount ends, the kernel may cut off
    /// the connection before it has told us of the last close.
    pub(crate) fn close_all(&self) {
        let closed = std::mem::take(&mut *self.slots_mut());
        drop(closed);
    }

    /// Lists who has which device open.
    pub(crate) fn users(&self) -> Vec<User> {
        let mut counts: BTreeMap<(u32, u32, u32), u32> = BTreeMap::new();
        for file in self.slots().files.iter().flatten() {
            *counts.entry((file.minor, file.pid, file.uid)).or_default() += 1;
        }
        let user = |((minor, pid, uid), count)| User {
            // One that was removed by force has no name any more.
            device: self
                .control
                .find_minor(minor)
                .map_or_else(|| format!("dm-{minor}"), |shown| shown.name),
            pid,
            uid,
            count,
        };
        counts.into_iter().map(user).collect()
    }

    /// Returns the one disk of a device, whether the kernel may know its file or not.
    pub(crate) fn disk_of(&self, device: &Arc<MappedDevice>) -> Arc<Disk> {
        self.inode(device);
        self.disk(device)
    }

    /// Returns the one disk of a device.
    fn disk(&self, device: &Arc<MappedDevice>) -> Arc<Disk> {
        let mut inodes = self.inodes();
        let inode = inodes.get_mut(&device.minor()).filter(|inode| inode.is(device));
        let kept = inode.as_ref().and_then(|inode| inode.disk.upgrade());
        kept.unwrap_or_else(|| {
            let disk = Disk::new(device.clone(), self.tasks.clone());
            if let Some(inode) = inode {
                inode.disk = Arc::downgrade(&disk);
            }
            disk
        })
    }

    fn inodes(&self) -> MutexGuard<'_, HashMap<u32, Inode>> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> RwLockReadGuard<'_, Slots> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots_mut(&self) -> RwLockWriteGuard<'_, Slots> {
        self.open.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inode {
    fn is(&self, device: &Arc<MappedDevice>) -> bool {
        // The weak pointer keeps the address from being used again.
        std::ptr::eq(self.device.as_ptr(), Arc::as_ptr(device))
    }
}

impl Slots {
    fn insert(&mut self, mut file: OpenFile) -> u64 {
        file.turn = self.opened;
        self.opened += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.files.push(None);
            self.files.len() - 1
        });
        self.files[index] = Some(Arc::new(file));
        index as u64
    }

    fn remove(&mut self, handle: u64) -> Option<Arc<OpenFile>> {
        let index = usize::try_from(handle).ok()?;
        let file = self.files.get_mut(index)?.take()?;
        self.free.push(index);
        Some(file)
    }
}

/// Returns the size of a device's file in bytes.
pub(crate) fn size_of(shown: &Shown) -> u64 {
    size_in_bytes(sim_core::BlockDevice::size(&*shown.device))
}

fn minor(inode: u64) -> Option<u32> {
    let minor = inode.checked_sub(FIRST)? & ((1 << MINOR_BITS) - 1);
    u32::try_from(minor).ok()
}
