//! Carries out what is asked of the mount, on the devices of a control plane.

use std::future::ready;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sim_core::control::{Command, Id, Node, Shown};
use sim_core::{Access, Control, Errno, MappedDevice};

use super::answers::{Attributes, Entry, Kind, Opened, Output, Pages, Position, Statistics};
use super::directory::{list, statistics};
use super::marker;
use super::nodes::User;
use super::nodes::{Nodes, OpenFile, ROOT, size_of};
use super::operation::{Caller, Ioctl, Operation, Origin, Request, Service, SetAttributes};
use super::reply::{Preceded, Replies, Reply, answer};
use super::request::{Disk, Seek, Units};
use super::task::Tasks;

// lseek(2) and linux/fs.h, on every architecture that this runs on.
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;
const BLKGETSIZE64: u32 = 0x8008_1272;

/// What the files of a mount have in common.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The kernel keeps pages of open files.
    pub cache: bool,
    /// Others than the owner may look into the directory.
    pub allow_other: bool,
    /// When it was mounted: the time that every file shows.
    pub mounted: SystemTime,
    /// The user and the group that own what no command has given away.
    pub owner: (u32, u32),
}

/// The files of a mount: one for each device that a control plane shows.
pub struct Files {
    pub(super) nodes: Nodes,
    mount: Mount,
    /// Where the kernel keeps pages.
    kept: OnceLock<Arc<dyn KeptPages>>,
}

/// The pages that the kernel keeps of devices, by their minor numbers.
pub(crate) trait KeptPages: Send + Sync {
    /// Begins to drop those of a device, as it was changed behind the kernel's back.
    fn drop_pages(&self, minor: u32);

    /// Waits until those have gone.
    fn dropped(&self, minor: u32) -> BoxFuture<'static, ()>;
}

impl Service for Files {
    fn serve(&self, request: Request<'_>, reply: impl Replies) {
        let Request { caller, inode, operation } = request;
        if let Some(device) = marker::device_of(inode) {
            return self.serve_marker(device, operation, reply);
        }
        match operation {
            Operation::LookUp { name } => {
                let name = name.to_str().filter(|_| inode == ROOT);
                answer(reply, name.and_then(|name| self.look_up(name)).ok_or(Errno::NOENT));
            }
            Operation::Attributes => answer(reply, self.attributes(inode)),
            Operation::SetAttributes(set) => self.set_attributes(inode, &set, caller, reply),
            Operation::Open { access } => answer(reply, self.open(inode, access, caller)),
            Operation::OpenDirectory => {
                reply.ok(&Opened { handle: 0, pages: Pages::Default });
            }
            Operation::Read { handle, at, len, units } => {
                match self.opened_in(handle, units, at, u64::from(len)) {
                    Ok(file) => file.disk.read(at, len as usize, reply),
                    Err(errno) => reply.error(errno),
                }
            }
            Operation::Write { handle, at, data, durability, origin, units } => {
                match (self.opened_in(handle, units, at, data.len() as u64), origin) {
                    (Ok(file), Origin::Program) => self.moving_end(&file, at, reply, |reply| {
                        file.disk.write_to(&file.end, at, data, durability, reply);
                    }),
                    // Past the end there is nothing, and before it nobody has said where.
                    (Ok(file), Origin::Append) => {
                        let end = file.disk.size();
                        let refused = file.disk.check_write(end, end);
                        reply.error(refused.err().unwrap_or(Errno::NOSPC));
                    }
                    // Nobody knows whose pages they are, and when they were changed.
                    (Ok(file), Origin::Cache) => file.disk.write(at, data, durability, reply),
                    (Err(errno), _) => reply.error(errno),
                }
            }
            Operation::Flush { handle } => match self.opened(handle) {
                Ok(file) => file.disk.flush_after(self.gaps_shown(&file), reply),
                Err(errno) => reply.error(errno),
            },
            // A close makes nothing durable, as on a block device.
            Operation::Close { handle } => match self.opened(handle) {
                Ok(file) if file.access.is_read_only() => reply.ok(&()),
                Ok(file) => file.disk.closed_after(self.gaps_shown(&file), reply),
                Err(errno) => reply.error(errno),
            },
            Operation::Allocate { handle, mode, at, len } => match self.opened(handle) {
                Ok(file) => {
                    let to = at.saturating_add(len);
                    self.moving_end(&file, to, reply, |reply| {
                        file.disk.allocate_to(&file.end, mode, at, len, reply);
                    });
                }
                Err(errno) => reply.error(errno),
            },
            Operation::Seek { handle, at, whence } => {
                answer(reply, self.seek(handle, at, whence));
            }
            Operation::Ioctl(ioctl) => answer(reply, self.ioctl(&ioctl)),
            Operation::Release { handle } => {
                self.nodes.close(handle);
                reply.ok(&());
            }
            Operation::List { after, most } => {
                answer(reply, list(&self.nodes, inode, after, most));
            }
            Operation::ReleaseDirectory | Operation::FlushDirectory => reply.ok(&()),
            Operation::Statistics => reply.ok(&self.statistics()),
            // As the kernel has it then: always ready.
            Operation::Poll { .. } => reply.error(Errno::NOSYS),
            // There are no links.
            Operation::ReadLink => reply.error(Errno::INVAL),
            // Files come and go with their devices, and in no other way.
            Operation::Rearrange => reply.error(Errno::PERM),
        }
    }

    fn end(&self) {
        self.nodes.close_all();
    }
}

impl Files {
    /// Makes files of the devices that `control` shows. What waits goes on as one of `tasks`.
    pub fn new(control: Arc<Control>, tasks: Arc<Tasks>, mount: Mount) -> Files {
        Files { nodes: Nodes::new(control, tasks), mount, kept: OnceLock::new() }
    }

    /// Says how to drop pages that the kernel keeps.
    pub(crate) fn keep_pages_by(&self, kept: Arc<dyn KeptPages>) {
        let _once = self.kept.set(kept);
    }

    /// Returns the one disk of a device, for whoever shows it by another way than a file: as they are
    /// one, both keep each other out of half-written blocks.
    pub(crate) fn disk_of(&self, device: &Arc<MappedDevice>) -> Arc<Disk> {
        self.nodes.disk_of(device)
    }

    /// Lists who has which device open.
    pub(crate) fn users(&self) -> Vec<User> {
        self.nodes.users()
    }

    /// Returns the inode of the device with this minor number, if the kernel may know it.
    pub(crate) fn seen(&self, minor: u32) -> Option<u64> {
        self.nodes.seen(minor)
    }

    /// Tells whether the device with this minor number holds whatever is asked of it.
    pub(crate) fn holds_all(&self, minor: u32) -> bool {
        self.nodes.control.find_minor(minor).is_some_and(|shown| shown.device.holds_all())
    }

    fn opened(&self, handle: u64) -> Result<Arc<OpenFile>, Errno> {
        self.nodes.opened(handle)
    }

    /// Finds an open file for a request of some bytes.
    fn opened_in(
        &self,
        handle: u64,
        units: Units,
        at: u64,
        len: u64,
    ) -> Result<Arc<OpenFile>, Errno> {
        let file = self.opened(handle)?;
        file.disk.check_units(units, at, len)?;
        Ok(file)
    }

    /// Finds a device by its name, or the marker of one.
    fn look_up(&self, name: &str) -> Option<Entry> {
        let control = &self.nodes.control;
        if let Some(shown) = control.find_shown(name) {
            return Some(Entry(self.attributes_of(&shown)));
        }
        let shown = marker::find(control, name)?;
        Some(Entry(marker::attributes(self.attributes_of(&shown))))
    }

    pub(super) fn statistics(&self) -> Statistics {
        statistics(&self.nodes.control)
    }

    fn attributes(&self, inode: u64) -> Result<Attributes, Errno> {
        match inode {
            ROOT => Ok(self.root()),
            _ => Ok(self.attributes_of(&self.nodes.device(inode)?)),
        }
    }

    pub(super) fn attributes_of(&self, shown: &Shown) -> Attributes {
        Attributes {
            inode: self.nodes.inode(&shown.device),
            kind: Kind::File,
            size: size_of(shown),
            mode: shown.node.mode & 0o7777,
            uid: shown.node.uid.unwrap_or(self.mount.owner.0),
            gid: shown.node.gid.unwrap_or(self.mount.owner.1),
            time: self.mount.mounted,
        }
    }

    fn root(&self) -> Attributes {
        Attributes {
            inode: ROOT,
            kind: Kind::Directory,
            size: 0,
            mode: if self.mount.allow_other { 0o755 } else { 0o700 },
            uid: self.mount.owner.0,
            gid: self.mount.owner.1,
            time: self.mount.mounted,
        }
    }

    fn set_attributes(
        &self,
        inode: u64,
        set: &SetAttributes,
        caller: Caller,
        reply: impl Reply<Attributes>,
    ) {
        let changed = || {
            let shown = self.nodes.device(inode).map_err(|errno| match errno {
                Errno::ISDIR => Errno::PERM,
                other => other,
            })?;
            let truncated = self.truncated(&shown, set, caller)?;
            Ok((self.change_node(shown, set)?, truncated))
        };
        match changed() {
            Err(errno) => reply.error(errno),
            Ok((attributes, None)) => reply.ok(&attributes),
            Ok((attributes, Some((file, size)))) => {
                let disk = file.disk.clone();
                let done = move || Attributes { size: disk.size(), ..attributes };
                self.moving_end(&file, size, reply, |reply| {
                    let in_use = set.handle.is_some();
                    file.disk.truncate(&file.end, size, in_use, done, reply);
                });
            }
        }
    }

    /// Returns which open file is truncated, and to how much.
    fn truncated(
        &self,
        shown: &Shown,
        set: &SetAttributes,
        caller: Caller,
    ) -> Result<Option<(Arc<OpenFile>, u64)>, Errno> {
        let Some(size) = set.size else { return Ok(None) };
        let file = match set.handle {
            Some(handle) => self.opened(handle)?,
            None if size == size_of(shown) => return Ok(None),
            // An open with O_TRUNC, or a truncate(2) to nothing, which looks the same; to anything else
            // it is one. As on a block device: what comes after knows nothing of it.
            None => {
                let opened = self.nodes.just_opened(&shown.device, caller);
                opened.filter(|_| size == 0).ok_or(Errno::INVAL)?
            }
        };
        Ok(Some((file, size)))
    }

    /// Carries out what may move an open file's end to `to`, and begins to drop what pages the kernel
    /// has of the gap before it is answered. That cannot be waited for here, as the kernel may have
    /// some of them locked until it has the answer.
    fn moving_end<R>(&self, file: &OpenFile, to: u64, reply: R, work: impl FnOnce(Preceded<R>)) {
        let kept = self.kept.get().filter(|_| file.end.leaves_gap(to)).cloned();
        let minor = file.minor;
        let drop_pages = kept
            .map(|kept| -> Box<dyn FnOnce() + Send> { Box::new(move || kept.drop_pages(minor)) });
        work(Preceded::new(drop_pages, reply));
    }

    /// Returns what a flush or a close of an open file waits for, so that others see then what it
    /// has made of the gaps that it left.
    fn gaps_shown(&self, file: &OpenFile) -> BoxFuture<'static, ()> {
        match self.kept.get().filter(|_| file.end.get().is_some()) {
            Some(kept) => kept.dropped(file.minor),
            None => Box::pin(ready(())),
        }
    }

    fn change_node(&self, mut shown: Shown, set: &SetAttributes) -> Result<Attributes, Errno> {
        let node = Node {
            mode: set.mode.map_or(shown.node.mode, |mode| mode & 0o7777),
            uid: set.uid.or(shown.node.uid),
            gid: set.gid.or(shown.node.gid),
        };
        if node != shown.node {
            // Whether the caller may has been checked by the kernel (default_permissions).
            self.set_node(&shown, node)?;
            shown.node = node;
        }
        Ok(self.attributes_of(&shown))
    }

    fn set_node(&self, shown: &Shown, node: Node) -> Result<(), Errno> {
        let id = Id::Dev(sim_core::BlockDevice::number(&*shown.device));
        // Noted for the record on the spot, and written without the client waiting for the disk.
        let set = self.nodes.control.perform(Command::SetNode { id, node });
        // Nothing in it waits; where that changes, the client is told that it could not be done.
        match set.now_or_never() {
            Some(Ok(_)) => Ok(()),
            Some(Err(failure)) => Err(failure.errno),
            None => Err(Errno::AGAIN),
        }
    }

    fn open(&self, inode: u64, access: Access, caller: Caller) -> Result<Opened, Errno> {
        let handle = self.nodes.open(inode, access, caller)?;
        let pages = if self.mount.cache { Pages::Kept } else { Pages::Direct };
        Ok(Opened { handle, pages })
    }

    fn seek(&self, handle: u64, at: u64, whence: u32) -> Result<Position, Errno> {
        let what = match whence {
            SEEK_DATA => Seek::Data,
            SEEK_HOLE => Seek::Hole,
            _ => return Err(Errno::INVAL),
        };
        self.opened(handle)?.disk.seek(at, what).map(Position)
    }

    fn ioctl(&self, ioctl: &Ioctl<'_>) -> Result<Output, Errno> {
        let file = self.opened(ioctl.handle)?;
        match (ioctl.command, ioctl.room) {
            (BLKGETSIZE64, 8) => {
                Ok(Output { value: 0, bytes: file.disk.size().to_ne_bytes().to_vec() })
            }
            _ => Err(Errno::NOTTY),
        }
    }
}
