//! A simulated disk: bytes, a volatile cache, and I/O that ends when the executor says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use sim_core::{
    Access, Bio, BlkError, BlkResult, BlockDevice, DevNumber, Errno, Limits, Op, Runtime, Sector,
    Sectors,
};

use crate::Handle;
use crate::cache::{Bytes, Cache};

/// The major number of simulated disks: that of loop devices.
pub const DISK_MAJOR: u32 = 7;

/// A disk in memory, for tests.
///
/// A bio that is submitted is a pending I/O until the executor ends it, in any order; then all of
/// it happens at once. A discarded range reads as zeros.
///
/// The cache is volatile: a write is durable after a flush that was submitted when the write had
/// ended, or at its own end with FUA. [`durable`](Self::durable) is what is on the medium.
pub struct SimDisk {
    minor: u32,
    limits: Limits,
    sim: Handle,
    state: Mutex<State>,
}

struct State {
    cache: Cache,
    speed: Speed,
    faults: Vec<Fault>,
    counts: Counts,
    in_flight: u64,
    open_count: u32,
}

/// Whether bios can be carried out on the spot ([`BlockDevice::try_now`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speed {
    /// Each bio is a pending I/O first.
    #[default]
    Waits,
    /// The seed decides for each bio.
    Mixed,
    /// No bio waits, as with an image in the page cache.
    AtOnce,
}

/// Which bios of a disk fail. A bio that fails changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One bio, of any kind, after so many others: 0 is the next to end.
    After(u64),
    /// Every bio that touches the range.
    Range(Sector, Sectors),
}

/// How many bios of each kind have ended, well or with an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the operations")]
pub struct Counts {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    pub discards: u64,
    pub write_zeroes: u64,
    pub secure_erases: u64,
}

impl SimDisk {
    /// Makes a disk of zeros, all durable, with the number 7:`minor`.
    pub fn new(sim: Handle, minor: u32, size: Sectors) -> Arc<SimDisk> {
        let limits = Limits {
            max_secure_erase_sectors: u32::MAX,
            discard_granularity: 512,
            ..Limits::image(512)
        };
        SimDisk::with_limits(sim, minor, size, limits)
    }

    /// As [`new`](Self::new), with other limits than those of an image.
    pub fn with_limits(sim: Handle, minor: u32, size: Sectors, limits: Limits) -> Arc<SimDisk> {
        let state = State {
            cache: Cache::new(size),
            speed: Speed::default(),
            faults: Vec::new(),
            counts: Counts::default(),
            in_flight: 0,
            open_count: 0,
        };
        Arc::new(SimDisk { minor, limits, sim, state: Mutex::new(state) })
    }

    /// Says whether bios wait.
    pub fn set_speed(&self, speed: Speed) {
        self.state().speed = speed;
    }

    /// Makes bios fail with [`BlkError::Io`], besides those that fail already.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Returns how many bios have ended.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Returns how many bios are pending.
    pub fn in_flight(&self) -> u64 {
        self.state().in_flight
    }

    /// Returns how many users have the disk open.
    pub fn open_count(&self) -> u32 {
        self.state().open_count
    }

    /// Returns the content as a read sees it.
    pub fn content(&self) -> Vec<u8> {
        self.state().cache.current().to_vec()
    }

    /// Returns the content of a sector as a read sees it.
    pub fn sector(&self, sector: Sector) -> Vec<u8> {
        self.state().cache.read(sector, Sectors(1)).to_vec()
    }

    /// Changes the content behind the cache's back: durable at once, without an I/O.
    ///
    /// # Panics
    /// When the bytes are not whole sectors on the disk.
    pub fn fill(&self, at: Sector, bytes: &[u8]) {
        self.state().cache.write(at, Bytes::Given(bytes), true);
    }

    /// Returns the content of a sector should the power fail now and the cache be lost.
    pub fn durable(&self, sector: Sector) -> Vec<u8> {
        self.state().cache.durable(sector).to_vec()
    }

    /// Returns the contents that a sector may have after a power cut: the durable one first, the
    /// current one last.
    pub fn versions(&self, sector: Sector) -> Vec<Vec<u8>> {
        self.state().cache.versions(sector).map(<[u8]>::to_vec).collect()
    }

    /// Returns how many sector writes the cache holds that are not durable.
    pub fn volatile_writes(&self) -> usize {
        self.state().cache.volatile_writes()
    }

    fn carry_out(&self, mut bio: Bio<'_>, flushed: u64) -> BlkResult {
        let mut state = self.state();
        let result = state.carry_out(&mut bio, flushed);
        drop(state);
        let number = self.number();
        match &result {
            Ok(()) => self.sim.note(format_args!("{number} {bio:?}")),
            Err(error) => self.sim.note(format_args!("{number} {bio:?}: {error}")),
        }
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Carries a bio out. `flushed` is what the cache held when it was submitted.
    fn carry_out(&mut self, bio: &mut Bio<'_>, flushed: u64) -> BlkResult {
        self.counts.add(bio.op());
        if self.fails(bio) || bio.end().is_none_or(|end| end.0 > self.cache.size().0) {
            return Err(BlkError::Io);
        }
        if bio.op() == Op::Flush || bio.flags.preflush {
            self.cache.flush(flushed);
        }
        let (sector, len, fua) = (bio.sector, bio.len(), bio.flags.fua);
        match bio.op() {
            Op::Read => bio.buffer().copy_from_slice(self.cache.read(sector, len)),
            Op::Write => self.cache.write(sector, Bytes::Given(bio.data()), fua),
            Op::Flush => {}
            Op::Discard | Op::WriteZeroes | Op::SecureErase => {
                self.cache.write(sector, Bytes::Zeros(len), fua);
            }
        }
        Ok(())
    }

    fn fails(&mut self, bio: &Bio<'_>) -> bool {
        let mut fails = false;
        self.faults.retain_mut(|fault| match fault {
            Fault::After(0) => {
                fails = true;
                false
            }
            Fault::After(others) => {
                *others -= 1;
                true
            }
            Fault::Range(start, len) => {
                let (bio_end, end) = (bio.sector.0.saturating_add(bio.len().0), start.0 + len.0);
                fails |= bio.op() != Op::Flush && bio.sector.0 < end && start.0 < bio_end;
                true
            }
        });
        fails
    }
}

impl Counts {
    fn add(&mut self, op: Op) {
        let count = match op {
            Op::Read => &mut self.reads,
            Op::Write => &mut self.writes,
            Op::Flush => &mut self.flushes,
            Op::Discard => &mut self.discards,
            Op::WriteZeroes => &mut self.write_zeroes,
            Op::SecureErase => &mut self.secure_erases,
        };
        *count += 1;
    }
}

/// Counts a pending bio, also where it is dropped before its end.
struct Pending<'a>(&'a SimDisk);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
    }
}

impl BlockDevice for SimDisk {
    fn number(&self) -> DevNumber {
        DevNumber { major: DISK_MAJOR, minor: self.minor }
    }

    fn name(&self) -> String {
        format!("loop{}", self.minor)
    }

    fn size(&self) -> Sectors {
        self.state().cache.size()
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn access(&self) -> Access {
        Access::ReadWrite
    }

    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        let now = match self.state().speed {
            Speed::Waits => false,
            Speed::AtOnce => true,
            Speed::Mixed => self.sim.random() & 1 == 0,
        };
        if !now {
            return Err(bio);
        }
        let flushed = self.state().cache.mark();
        Ok(self.carry_out(bio, flushed))
    }

    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        // Here, not at the first poll: a flush covers what had ended when it was submitted.
        let flushed = self.state().cache.mark();
        self.state().in_flight += 1;
        let pending = Pending(self);
        Box::pin(async move {
            let _pending = pending;
            self.sim.turn().await;
            self.carry_out(bio, flushed)
        })
    }

    fn open(&self, _access: Access) -> Result<(), Errno> {
        self.state().open_count += 1;
        Ok(())
    }

    fn release(&self) {
        self.state().open_count -= 1;
    }
}
