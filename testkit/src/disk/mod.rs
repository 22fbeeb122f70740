//! A simulated disk: bytes, a volatile cache, and I/O that ends when the executor says so.

pub(crate) mod cache;
pub(crate) mod fault;
pub(crate) mod journal;
pub(crate) mod latency;
pub(crate) mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use sim_core::{
    Access, Bio, BlkError, BlkResult, BlockDevice, DevNumber, Errno, LOOP_MAJOR, Limits, Runtime,
    Sector, Sectors,
};

use crate::disk::cache::{Bytes, Cache};
use crate::disk::fault::{Fault, Faults};
use crate::disk::state::{State, Submitted};
use crate::{Counts, Handle, Io, Journal, Latency, Speed};

/// The major number of simulated disks: that of loop devices.
pub const DISK_MAJOR: u32 = LOOP_MAJOR;

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
    state: Mutex<State>,
}

impl SimDisk {
    /// Makes a disk of zeros, all durable, with the number 7:`minor`.
    pub fn new(sim: Handle, minor: u32, size: Sectors) -> Arc<SimDisk> {
        SimDisk::in_blocks(sim, minor, size, 512)
    }

    /// As [`new`](Self::new), with logical blocks of so many bytes: a bio that is not whole blocks
    /// fails, as on an image.
    pub fn in_blocks(sim: Handle, minor: u32, size: Sectors, block: u32) -> Arc<SimDisk> {
        let limits = Limits {
            max_secure_erase_sectors: u32::MAX,
            discard_granularity: block,
            ..Limits::image(block)
        };
        SimDisk::with_limits(sim, minor, size, limits)
    }

    /// As [`new`](Self::new), with other limits than those of an image.
    pub fn with_limits(sim: Handle, minor: u32, size: Sectors, limits: Limits) -> Arc<SimDisk> {
        let state = State {
            minor,
            block: limits.logical_block(),
            sim,
            cache: Cache::new(size),
            speed: Speed::default(),
            latency: None,
            head: 0,
            faults: Faults::default(),
            journal: None,
            ios: None,
            counts: Counts::default(),
            in_flight: 0,
            open_count: 0,
        };
        Arc::new(SimDisk { minor, limits, state: Mutex::new(state) })
    }

    /// Says whether bios wait.
    pub fn set_speed(&self, speed: Speed) {
        self.state().speed = speed;
    }

    /// Says how long bios take that wait; nothing where there is none, which leaves their order to
    /// the executor alone.
    pub fn set_latency(&self, latency: Option<Latency>) {
        self.state().latency = latency;
    }

    /// Makes bios go wrong, besides those that do already. One that fails does so with
    /// [`BlkError::Io`](sim_core::BlkError::Io).
    pub fn inject(&self, fault: Fault) {
        self.state().faults.add(fault);
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

    /// Returns how many bios have ended, of any kind, and how many are pending.
    pub fn activity(&self) -> (u64, u64) {
        let Counts { reads, writes, flushes, discards, write_zeroes, secure_erases } =
            self.counts();
        (reads + writes + flushes + discards + write_zeroes + secure_erases, self.in_flight())
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

    /// Writes what the disk does into a record from now on.
    pub fn record(&self, journal: Arc<Journal>) {
        self.state().journal = Some(journal);
    }

    /// Lists every bio that comes from now on.
    pub fn watch(&self) {
        self.state().ios = Some(Vec::new());
    }

    /// Takes the bios that came since the last call, in the order of their coming.
    pub fn take_ios(&self) -> Vec<Io> {
        self.state().ios.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Turns the power off and on again with what is current: all of it is durable, nothing is
    /// broken, recorded or watched, and `sim` says when an I/O ends.
    pub fn power_cycle(&self, sim: Handle) {
        let mut state = self.state();
        state.cache.settle();
        state.faults.clear();
        (state.sim, state.journal, state.ios) = (sim, None, None);
    }

    /// Loses what the cache holds that is not durable.
    pub fn lose_cache(&self) {
        let mut state = self.state();
        state.cache.lose();
    }

    /// Returns a point to go back to with [`rewind`](Self::rewind).
    pub fn checkpoint(&self) -> usize {
        self.state().cache.checkpoint()
    }

    /// Undoes every change since the point, sector by sector; what is left is durable.
    pub fn rewind(&self, checkpoint: usize) {
        self.state().cache.rewind(checkpoint);
    }

    /// Calls `look` with the content of a range, as a read sees it.
    pub fn look<T>(&self, at: Sector, len: Sectors, look: impl FnOnce(&[u8]) -> T) -> T {
        look(self.state().cache.read(at, len))
    }

    /// Carries a bio out, submitted when the cache and the record were at these places.
    fn carry_out(&self, mut bio: Bio<'_>, submitted: Submitted) -> BlkResult {
        let mut state = self.state();
        let result = state.carry_out(&mut bio, submitted);
        let sim = state.sim.clone();
        drop(state);
        let number = self.number();
        match &result {
            Ok(()) => sim.note(format_args!("{number} {bio:?}")),
            Err(error) => sim.note(format_args!("{number} {bio:?}: {error}")),
        }
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut state = self.state();
        let now = match state.speed {
            Speed::Waits => false,
            Speed::AtOnce => true,
            Speed::Mixed => state.sim.random() & 1 == 0,
        };
        if !now {
            return Err(bio);
        }
        let submitted = state.submitted(&bio);
        drop(state);
        Ok(self.carry_out(bio, submitted))
    }

    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        // Here, not at the first poll: a flush covers what had ended when it was submitted.
        let mut state = self.state();
        let (submitted, sim) = (state.submitted(&bio), state.sim.clone());
        let time = state.takes(&bio);
        state.in_flight += 1;
        drop(state);
        let pending = Pending(self);
        Box::pin(async move {
            let _pending = pending;
            if let Some(time) = time {
                sim.sleep(time).await;
            }
            sim.turn().await;
            self.carry_out(bio, submitted)
        })
    }

    /// All of it has its room.
    fn reserve(&self, at: Sector, len: Sectors) -> BoxFuture<'_, BlkResult> {
        let on_disk = at.checked_add(len).is_some_and(|end| end.from_start() <= self.size());
        Box::pin(std::future::ready(on_disk.then_some(()).ok_or(BlkError::Io)))
    }

    fn open(&self, _access: Access) -> Result<(), Errno> {
        self.state().open_count += 1;
        Ok(())
    }

    fn release(&self) {
        self.state().open_count -= 1;
    }
}
