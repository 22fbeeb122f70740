//! An attached image as a block device.

pub(crate) mod attach;
pub(crate) mod extent;
mod file_system;
#[allow(unsafe_code, reason = "a signal handler is installed, runs, and touches memory")]
mod guard;
pub(crate) mod health;
#[allow(unsafe_code, reason = "memory that may go at any time is copied from")]
mod mapping;
pub(crate) mod memory;
pub(crate) mod numbering;
pub(crate) mod opening;
pub(crate) mod path;
mod place;
mod transfer;
mod trouble;

use std::fs::File;
use std::future::ready;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{SeekFrom, seek};
use sim_core::{
    Access, Allocation, Bio, BlkError, BlkResult, BlockDevice, BoxFuture, DevNumber, Errno, Limits,
    Op, SECTOR_SIZE, Sector, Sectors,
};

use self::attach::{AttachError, Attached};
use self::extent::{Extent, Extents, MAX_RESIZES};
use self::file_system::FileSystem;
use self::health::{Fault, Health};
use self::mapping::Mapping;
use self::opening::{Kind, Opened, size_of};
use self::path::Lost;
pub(crate) use self::place::{Place, Places};
use self::trouble::Trouble;
use crate::runtime::flusher::{Flusher, SyncFile};

/// An image file, or a block device node, that tables can use.
///
/// The order of the last fields is the order in which they go: the thread that flushes, then the
/// file with its lock, then the place among the attached images.
pub(crate) struct Image {
    number: DevNumber,
    name: Option<String>,
    kernel_name: String,
    path: PathBuf,
    extents: Extents,
    access: Access,
    limits: Limits,
    kind: Kind,
    on_the_spot: bool,
    users: Mutex<Users>,
    /// For good: a flush failed. What a resize mends is in the extent.
    health: Arc<Health>,
    trouble: Trouble,
    file_system: FileSystem,
    flusher: Flusher,
    file: Arc<File>,
    _place: Place,
}

#[derive(Default)]
struct Users {
    count: u32,
    /// Detached: nobody can open it any more.
    gone: bool,
}

/// What an image is to its instance.
pub(crate) struct Label {
    pub(crate) number: DevNumber,
    pub(crate) name: Option<String>,
    pub(crate) kernel_name: String,
    pub(crate) access: Access,
    pub(crate) sector_size: u32,
    pub(crate) on_the_spot: bool,
}

impl Image {
    pub(crate) fn new(label: Label, opened: Opened, place: Place) -> Image {
        let file = opened.file.clone();
        let sync = Box::new(move || Ok(rustix::fs::fdatasync(&file)?));
        let mut image = Image::with_sync(label, opened, sync, place);
        if image.kind == Kind::InMemory {
            image.flusher.sync_on_the_spot();
        }
        image
    }

    fn with_sync(label: Label, opened: Opened, sync: SyncFile, place: Place) -> Image {
        let Opened { file, path, size, kind, identity: _ } = opened;
        let health = Arc::new(Health::default());
        let extent = Extent::new(&file, &path, size, kind);
        let limits = Limits::image(label.sector_size);
        let write_cache = !label.access.is_read_only();
        Image {
            number: label.number,
            name: label.name,
            kernel_name: label.kernel_name,
            path,
            extents: Extents::new(extent),
            access: label.access,
            limits: Limits { write_cache, ..limits },
            kind,
            on_the_spot: label.on_the_spot,
            users: Mutex::default(),
            flusher: Flusher::new(health.clone(), sync),
            health,
            trouble: Trouble::default(),
            file_system: FileSystem::default(),
            file,
            _place: place,
        }
    }

    /// Describes the image.
    pub(crate) fn attached(&self) -> Attached {
        Attached {
            number: self.number,
            name: self.name.clone(),
            kernel_name: self.kernel_name.clone(),
            path: self.path.clone(),
            size: self.size(),
            access: self.access,
            sector_size: self.limits.logical_block_size,
            host_device: self.kind == Kind::Node,
            on_the_spot: self.on_the_spot,
            users: self.users().count,
            fault: self.fault().map(Fault::text),
            last_error: self.trouble.last(),
            allocated: self.allocated(),
            lost: self.lost(),
        }
    }

    /// Looks whether the path still leads to the file; the first time that it does not, the log says so. A node
    /// is the disk's, whatever it is called.
    fn lost(&self) -> Option<Lost> {
        let lost =
            (self.kind != Kind::Node).then(|| Lost::look(&self.file, &self.path)).flatten()?;
        if self.trouble.is_first_lost() {
            tracing::warn!(path = %self.path.display(), "{}", lost.text());
        }
        Some(lost)
    }

    /// Returns how many bytes of the file take room; nothing for a block device.
    fn allocated(&self) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        let metadata = self.file.metadata().ok().filter(|_| self.kind != Kind::Node);
        // In units of 512 bytes, whatever the file system's blocks (stat(2)).
        metadata.map(|metadata| metadata.blocks() * 512)
    }

    /// Takes the image away from everybody, unless it is open: then returns how often.
    pub(crate) fn retire(&self) -> Result<(), u32> {
        let mut users = self.users();
        match users.count {
            0 => users.gone = true,
            count => return Err(count),
        }
        Ok(())
    }

    /// Tells whether it was taken away.
    pub(crate) fn is_gone(&self) -> bool {
        self.users().gone
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks how long the file is, and goes by that from now on: what is mapped onto the image sees
    /// it at once. A file that was cut can be used again, as far as it goes.
    pub(crate) fn resize(&self) -> Result<Sectors, AttachError> {
        let (size, before) =
            (size_of(&self.file, &self.path, self.limits.logical_block())?, self.now());
        let as_before = Sectors::in_bytes(size) == before.size;
        if as_before && before.health.is_good() {
            return Ok(before.size);
        }
        let extent = Extent::new(&self.file, &self.path, size, self.kind);
        if self.kind == Kind::InMemory {
            // A discard on its way may make a hole unseen.
            extent.unmap();
        }
        let now = extent.size;
        self.extents.replace(extent).map_err(|_| AttachError::ResizedTooOften {
            path: self.path.clone(),
            times: MAX_RESIZES,
        })?;
        let healed = before.health.fault().map(Fault::text);
        self.trouble.is_over();
        tracing::info!(path = %self.path.display(), %now, before = %before.size, healed, "resized");
        Ok(now)
    }

    /// Goes by the size that a block device of this machine has now; does nothing with a file.
    pub(crate) fn follow(&self) {
        if self.kind != Kind::Node {
            return;
        }
        let size = size_of(&self.file, &self.path, self.limits.logical_block());
        let followed = match size {
            Ok(size) if Sectors::in_bytes(size) == self.size() => return,
            Ok(_) => self.resize().map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = followed {
            tracing::warn!(%error, path = %self.path.display(), "a block device's size is unknown");
        }
    }

    fn now(&self) -> &Extent {
        self.extents.now()
    }

    fn fault(&self) -> Option<Fault> {
        self.health.fault().or_else(|| self.now().health.fault())
    }

    fn mapping(&self) -> Option<&Mapping> {
        self.now().mapping()
    }

    fn file_len(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    async fn run(&self, bio: Bio<'_>) -> BlkResult {
        let at = self.check(&bio)?;
        let read_only = self.access.is_read_only();
        match bio.op() {
            Op::Flush if read_only => Ok(()),
            Op::Flush => self.flusher.flush().await,
            Op::Read => self.read_all(at, bio.into_buffer()).await,
            Op::Write => {
                if bio.flags.preflush {
                    self.flusher.flush().await?;
                }
                self.write_all(at, bio.data()).await?;
                if bio.flags.fua {
                    self.flusher.flush().await?;
                }
                Ok(())
            }
            Op::Discard => self.discard(at, bio.len().bytes()).await,
            Op::WriteZeroes => self.write_zeroes(at, bio.len().bytes()).await,
            Op::SecureErase => Err(BlkError::NotSupported),
        }
    }

    async fn discard(&self, at: u64, len: u64) -> BlkResult {
        self.will_have_holes(at, len)?;
        let discarded = self.file_system.discard(&self.file, at, len).await;
        discarded.map_err(|error| self.failed("discard", &error))
    }

    async fn write_zeroes(&self, at: u64, len: u64) -> BlkResult {
        self.will_have_holes(at, len)?;
        let zeroed = self.file_system.zero(&self.file, at, len).await;
        zeroed.map_err(|error| self.failed("write zeroes", &error))
    }

    fn take_room(&self, at: Sector, len: Sectors) -> BlkResult {
        if self.access.is_read_only() || !self.health.is_good() {
            return Err(BlkError::Io);
        }
        let end = at.checked_add(len).filter(|end| end.from_start() <= self.size());
        let end = end.and_then(Sector::bytes).ok_or(BlkError::Io)?;
        self.check_whole(end)?;
        match self.file_system.reserve(&self.file, end - len.bytes(), len.bytes()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(BlkError::NotSupported),
            Err(error) => Err(self.failed("reserve", &error)),
        }
    }

    fn will_have_holes(&self, at: u64, len: u64) -> BlkResult {
        self.check_whole(at + len)?;
        if self.kind == Kind::InMemory {
            self.now().unmap();
        }
        Ok(())
    }

    /// Returns where the bio begins, in bytes, if it can be carried out.
    fn check(&self, bio: &Bio<'_>) -> Result<u64, BlkError> {
        let refused = bio.op().is_write() && self.access.is_read_only();
        let now = self.now();
        if refused {
            return Err(BlkError::Io);
        }
        if !self.is_good() {
            self.tell_fault();
            return Err(BlkError::Io);
        }
        if bio.op() == Op::Flush {
            return Ok(0);
        }
        check_range(bio, now.size, self.limits.logical_block())
    }

    fn is_good(&self) -> bool {
        self.health.is_good() && self.now().health.is_good()
    }

    fn poison(&self) -> BlkError {
        self.now().health.poison(Fault::Unreadable);
        self.tell_fault();
        BlkError::Io
    }

    /// Says once why all I/O fails from here on.
    fn tell_fault(&self) {
        if let Some(fault) = self.fault().filter(|_| self.trouble.is_news()) {
            tracing::error!(path = %self.path.display(), why = fault.text(), "an image fails");
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> BlkError {
        tracing::warn!(path = %self.path.display(), %error, "{what}");
        self.trouble.keep(format!("{what}: {error}"));
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => BlkError::NoSpace,
            // What write_all makes of a write that took nothing.
            None if error.kind() == io::ErrorKind::WriteZero => BlkError::NoSpace,
            _ => BlkError::Io,
        }
    }

    /// Finds the run at `at` by the holes of the file; `None` where that cannot be told.
    fn hole_or_data(&self, at: u64) -> Option<(Allocation, u64)> {
        let size = self.size().bytes();
        // Nothing else uses the position of the file.
        let data = match seek(&*self.file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // No data up to the end, or no longer an end there.
            Err(rustix::io::Errno::NXIO) if self.file_len() >= size => size,
            Err(_) => return None,
        };
        // A resize may come in between.
        if data > at && size > at {
            return Some((Allocation::Hole, data.min(size)));
        }
        let hole = seek(&*self.file, SeekFrom::Hole(at)).ok()?;
        (hole.min(size) > at).then_some((Allocation::Data, hole.min(size)))
    }
}

impl BlockDevice for Image {
    fn number(&self) -> DevNumber {
        self.number
    }

    fn name(&self) -> String {
        self.kernel_name.clone()
    }

    fn size(&self) -> Sectors {
        self.now().size
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn access(&self) -> Access {
        self.access
    }

    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        if self.may_wait_for_us() {
            return Err(bio);
        }
        match (bio.op(), bio.flags.fua || bio.flags.preflush) {
            (Op::Read, _) => Ok(self.check(&bio).and_then(|at| self.read(at, bio.into_buffer()))),
            (Op::Write, false) => Ok(self.check(&bio).and_then(|at| self.write(at, bio.data()))),
            (Op::Write, true) => Err(bio),
            (Op::Flush | Op::Discard | Op::WriteZeroes | Op::SecureErase, _) => Err(bio),
        }
    }

    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        Box::pin(self.run(bio))
    }

    fn reserve(&self, at: Sector, len: Sectors) -> BoxFuture<'_, BlkResult> {
        Box::pin(ready(self.take_room(at, len)))
    }

    fn open(&self, _access: Access) -> Result<(), Errno> {
        let mut users = self.users();
        if users.gone {
            return Err(Errno::NXIO);
        }
        users.count += 1;
        Ok(())
    }

    fn release(&self) {
        let mut users = self.users();
        users.count = users.count.checked_sub(1).expect("released as often as opened");
    }

    fn lend(&self, sector: Sector, len: Sectors, reply: &mut dyn FnMut(&[u8])) -> bool {
        let Some(mapping) = self.mapping().filter(|_| self.is_good()) else { return false };
        let block = self.limits.logical_block().0;
        let Some(end) = sector.checked_add(len).and_then(Sector::bytes) else { return false };
        let on_grid = sector.0.is_multiple_of(block) && len.0.is_multiple_of(block);
        // The last page cannot be lent: see `read`.
        if !on_grid || len.is_zero() || end > mapping.tail() {
            return false;
        }
        let len = len.bytes();
        mapping.lend(end - len, len as usize, reply)
    }

    fn run_at(&self, at: Sector) -> (Allocation, Sectors) {
        // A mapped device may reach past the end of an image that was resized.
        let Some(left) = self.size().0.checked_sub(at.0).filter(|left| *left > 0) else {
            return (Allocation::Data, Sectors(u64::MAX - at.0));
        };
        let unknown = (Allocation::Data, Sectors(left));
        if !self.is_good() {
            return unknown;
        }
        let start = at.from_start().bytes();
        match self.hole_or_data(start) {
            Some((Allocation::Hole, end)) => {
                match Sectors::in_bytes(end) - Sectors::in_bytes(start) {
                    // A hole smaller than a sector is none.
                    Sectors::ZERO => (Allocation::Data, Sectors(1)),
                    len => (Allocation::Hole, len),
                }
            }
            Some((Allocation::Data, end)) => {
                (Allocation::Data, Sectors::in_bytes(end.next_multiple_of(SECTOR_SIZE) - start))
            }
            None => unknown,
        }
    }
}

/// Returns where a bio begins, in bytes, if its range lies on a device of `size` and on its grid
/// of logical blocks.
pub(crate) fn check_range(bio: &Bio<'_>, size: Sectors, block: Sectors) -> Result<u64, BlkError> {
    let on_device = bio.end().is_some_and(|end| end.from_start() <= size);
    let on_grid = bio.sector.0.is_multiple_of(block.0) && bio.len().0.is_multiple_of(block.0);
    match bio.sector.bytes() {
        Some(at) if on_device && on_grid => Ok(at),
        Some(_) | None => Err(BlkError::Io),
    }
}

#[cfg(test)]
mod tests;
