//! What a target maps onto: block devices, and areas of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::graph::Edge;
use crate::{Bio, BlkError, BlkResult, Errno, Limits, MappedDevice, Op, Sector, Sectors};

/// The major number of mapped devices, as device-mapper is given it on a running Linux.
pub const DM_MAJOR: u32 = 253;

/// A device's `major:minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DevNumber {
    /// The driver's number.
    pub major: u32,
    /// The device's number with its driver.
    pub minor: u32,
}

impl DevNumber {
    /// Returns the number of the mapped device with this minor.
    pub fn mapped(minor: u32) -> DevNumber {
        DevNumber { major: DM_MAJOR, minor }
    }
}

impl fmt::Display for DevNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DevNumber {
    type Err = Errno;

    /// Reads `major:minor`, both decimal.
    fn from_str(text: &str) -> Result<DevNumber, Errno> {
        let (major, minor) = text.split_once(':').ok_or(Errno::INVAL)?;
        let number = |word: &str| {
            if word.bytes().all(|b| b.is_ascii_digit()) {
                word.parse::<u32>().map_err(|_| Errno::INVAL)
            } else {
                Err(Errno::INVAL)
            }
        };
        Ok(DevNumber { major: number(major)?, minor: number(minor)? })
    }
}

/// Whether something may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Reads alone.
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

impl Access {
    /// Tells whether writes are refused.
    pub fn is_read_only(self) -> bool {
        self == Access::ReadOnly
    }
}

/// Whether a run of sectors takes room on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// May hold anything.
    Data,
    /// Known to read as zeros.
    Hole,
}

/// A device that takes bios: an image, memory, a simulated disk, or a mapped device.
///
/// A device has two ways to take a bio. [`try_now`](Self::try_now) carries it out on the spot
/// when nothing in it can wait, without a task or an allocation; [`submit`](Self::submit) always
/// takes it, and may wait.
pub trait BlockDevice: Send + Sync {
    /// Returns the device's number.
    fn number(&self) -> DevNumber;

    /// Returns the device's name as kernel messages print it (`loop0`, `dm-3`).
    fn name(&self) -> String;

    /// Returns the size in sectors.
    fn size(&self) -> Sectors;

    /// Returns the limits of the device's queue.
    fn limits(&self) -> Limits;

    /// Tells whether writes are refused.
    fn access(&self) -> Access;

    /// Carries the bio out at once, or hands it back where that could wait.
    ///
    /// A bio that is handed back may have been carried out in part: it has not ended, so nobody
    /// may rely on the content of its range, and carrying it out again is harmless.
    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>>;

    /// Takes the bio; the future ends when the bio does.
    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult>;

    /// Counts one more user. A mapped device that is to be removed refuses.
    fn open(&self, access: Access) -> Result<(), Errno>;

    /// Counts one user less.
    fn release(&self);

    /// Lends the pages behind a range to `reply`, where they lie in memory in one piece, and
    /// tells whether it did.
    ///
    /// The pages may be gone by the time they are touched: `reply` must do no more with them
    /// than hand them to a system call that answers `EFAULT`.
    fn lend(&self, _sector: Sector, _len: Sectors, _reply: &mut dyn FnMut(&[u8])) -> bool {
        false
    }

    /// Tells what the run of sectors that begins at `at` holds, and how long it is.
    /// `at` lies on the device; the run is never empty.
    fn run_at(&self, at: Sector) -> (Allocation, Sectors) {
        (Allocation::Data, self.size() - at.from_start())
    }

    /// Tells whether what was discarded can be made to read as zeros without undoing the discard:
    /// not where something between here and the data below gives zeros another meaning, as
    /// encryption does.
    fn discard_zeroes(&self) -> bool {
        true
    }

    /// Returns the mapped device that this is, if it is one.
    fn as_mapped(&self) -> Option<&MappedDevice> {
        None
    }
}

/// What is made to fail of what the tables of one device send to a device below: a disk that fails,
/// for one of its users, and on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fails {
    /// Nothing.
    #[default]
    Nothing,
    /// Reads alone.
    Reads,
    /// Whatever is no read: writes, discards, flushes.
    Writes,
    /// Everything.
    All,
}

impl Fails {
    fn refuses(self, op: Op) -> bool {
        match (self, op) {
            (Fails::Nothing, _) => false,
            (Fails::Reads, op) => op == Op::Read,
            (Fails::Writes, op) => op != Op::Read,
            (Fails::All, _) => true,
        }
    }

    fn from_code(code: u8) -> Fails {
        match code {
            0 => Fails::Nothing,
            1 => Fails::Reads,
            2 => Fails::Writes,
            _ => Fails::All,
        }
    }
}

/// A block device held open by a table, or by whoever else uses it; released when dropped.
pub struct OpenDevice {
    device: Arc<dyn BlockDevice>,
    access: Access,
    /// A [`Fails`].
    fails: AtomicU8,
    /// Where a table maps onto a mapped device. Given back after the release below.
    _edge: Option<Edge>,
}

impl OpenDevice {
    /// Opens a device.
    pub fn new(device: Arc<dyn BlockDevice>, access: Access) -> Result<OpenDevice, Errno> {
        OpenDevice::below(device, access, None)
    }

    /// Opens a device for a table, which maps onto it by this edge.
    pub(crate) fn below(
        device: Arc<dyn BlockDevice>,
        access: Access,
        edge: Option<Edge>,
    ) -> Result<OpenDevice, Errno> {
        device.open(access)?;
        let fails = AtomicU8::new(Fails::Nothing as u8);
        Ok(OpenDevice { device, access, fails, _edge: edge })
    }

    /// Returns the device.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// Returns what the device was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Returns what is made to fail of what is sent through here.
    pub fn fails(&self) -> Fails {
        Fails::from_code(self.fails.load(Relaxed))
    }

    /// Makes what is sent through here fail from now on, before it reaches the device. Whoever has
    /// folded this device into a map has to fold it anew.
    pub(crate) fn set_fails(&self, fails: Fails) {
        self.fails.store(fails as u8, Relaxed);
    }

    /// Submits a bio whose sectors are those of the device.
    pub(crate) fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        match self.fails().refuses(bio.op()) {
            true => Box::pin(std::future::ready(Err(BlkError::Io))),
            false => self.device.submit(bio),
        }
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        self.device.release();
    }
}

impl fmt::Debug for OpenDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device.name(), self.device.number())
    }
}

/// A range of a device that a target maps onto.
#[derive(Clone, Debug)]
pub struct Area {
    device: Arc<OpenDevice>,
    /// The first sector on the device.
    pub start: Sector,
    /// Nothing for the whole of the device, however long it is at the time.
    len: Option<Sectors>,
}

impl Area {
    /// Makes an area of `len` sectors from `start` on. Whether the device is that large is
    /// checked when the table is complete, as the kernel does.
    pub fn new(device: Arc<OpenDevice>, start: Sector, len: Sectors) -> Area {
        Area { device, start, len: Some(len) }
    }

    /// Returns the length. Of the whole of a device it is the device's own, which may be another
    /// whenever the device is resumed: nobody may keep it.
    pub fn size(&self) -> Sectors {
        self.len.unwrap_or_else(|| self.device().size())
    }

    /// Returns the device.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        self.device.device()
    }

    /// Tells whether something of what is sent to the device is made to fail.
    pub(crate) fn fails(&self) -> bool {
        self.device.fails() != Fails::Nothing
    }

    /// Makes an area of the whole of a device, which need not have a size yet.
    pub fn whole(device: Arc<OpenDevice>) -> Area {
        Area { device, start: Sector::ZERO, len: None }
    }

    /// Returns the whole of the area's device.
    pub fn whole_device(&self) -> Area {
        Area::whole(self.device.clone())
    }

    /// Submits a bio at `sector` of the area if it ends at once; nothing where the device could
    /// wait.
    pub fn submit_now(&self, sector: Sector, bio: Bio<'_>) -> Option<BlkResult> {
        match self.place(sector, bio) {
            Ok(bio) if self.device.fails().refuses(bio.op()) => Some(Err(BlkError::Io)),
            Ok(bio) => self.device().try_now(bio).ok(),
            Err(error) => Some(Err(error)),
        }
    }

    /// Submits a bio at `sector` of the area, which waits as long as the device does.
    pub async fn submit(&self, sector: Sector, bio: Bio<'_>) -> BlkResult {
        let bio = self.place(sector, bio)?;
        if self.device.fails().refuses(bio.op()) {
            return Err(BlkError::Io);
        }
        match self.device().try_now(bio) {
            Ok(result) => result,
            Err(bio) => self.device().submit(bio).await,
        }
    }

    /// Moves a bio to `sector` of the area, as an address on the device.
    ///
    /// A target that sends a bio past the end of its area is at fault; the neighbours on the
    /// device are kept from it.
    pub fn place<'b>(&self, sector: Sector, bio: Bio<'b>) -> Result<Bio<'b>, BlkError> {
        let within = sector.checked_add(bio.len()).is_some_and(|end| end.0 <= self.size().0);
        let start = self.start.checked_add(sector.from_start());
        match start {
            Some(start) if within => Ok(bio.at(start)),
            _ => Err(BlkError::Io),
        }
    }
}
