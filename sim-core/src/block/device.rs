//! Block devices: what takes bios.

use std::any::Any;
use std::fmt;
use std::future::ready;
use std::str::FromStr;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{Bio, BlkError, BlkResult, Errno, Limits, Sector, Sectors};

/// The major number of mapped devices, as device-mapper is given it on a running Linux.
pub const DM_MAJOR: u32 = 253;

/// The major number of loop devices, and of images whose name says nothing else.
pub const LOOP_MAJOR: u32 = 7;

/// How many bits a minor number has at most (`MINORBITS`).
pub const MINOR_BITS: u32 = 20;

/// The most minor numbers that a major has.
pub const MAX_MINORS: u32 = 1 << MINOR_BITS;

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

    /// Packs it into 32 bits as the kernel's `new_encode_dev` does: 12 bits of major, 20 of minor.
    pub fn packed(self) -> u32 {
        let (major, minor) = (self.major & 0xfff, self.minor & (MAX_MINORS - 1));
        minor & 0xff | major << 8 | (minor & !0xff) << 12
    }

    /// Takes a packed number apart again.
    pub fn unpacked(packed: u32) -> DevNumber {
        DevNumber { major: packed >> 8 & 0xfff, minor: packed & 0xff | packed >> 12 & 0xf_ff00 }
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
/// This is the device's own side, with two ways to take a bio: [`try_now`](Self::try_now) carries it
/// out on the spot when nothing in it can wait, without a task or an allocation;
/// [`submit`](Self::submit) always takes it, and may wait. Whoever uses a device opens it, and
/// sends bios by [`OpenDevice::submit`](crate::OpenDevice::submit), which is both.
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

    /// Takes the room below that the range is going to need, where it has none yet; what it reads as
    /// stays. [`BlkError::NotSupported`] where nothing here knows of room, or where it is not known
    /// which will be needed. What has failed may have taken some.
    fn reserve(&self, _at: Sector, _len: Sectors) -> BoxFuture<'_, BlkResult> {
        Box::pin(ready(Err(BlkError::NotSupported)))
    }

    /// Tells whether the device takes requests, as the kernel's multi-queue drivers do, and so may lie
    /// below a table that is made of them: a mapped device of another type does not.
    fn takes_requests(&self) -> bool {
        true
    }

    /// Returns the device as what it is, where somebody looks for its kind: a mapped device is
    /// found by [`MappedDevice::of`](crate::MappedDevice::of).
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}
