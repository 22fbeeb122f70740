//! A state as a disk that may be written: what is written stays beside the recording, and goes with the state.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sim_core::{
    Access, Bio, BlkError, BlkResult, BlockDevice, BoxFuture, DevNumber, Errno, Limits, Op,
    SECTOR_SIZE, Sectors,
};

use crate::recording::Recording;
use crate::state::State;

const SECTOR: usize = SECTOR_SIZE as usize;

/// How much may be written to one state, in bytes: more is [`BlkError::NoSpace`].
pub const MAX_SCRATCH: usize = 1 << 30;

/// A disk that shows one state of a recording after the other.
pub struct Disk {
    number: DevNumber,
    recording: Arc<Recording>,
    shown: RwLock<Shown>,
}

struct Shown {
    state: State,
    /// What was written, by sector.
    written: BTreeMap<u64, Box<[u8; SECTOR]>>,
}

impl Disk {
    /// Makes a disk that shows what there was before the recording.
    pub fn new(number: DevNumber, recording: Arc<Recording>) -> Arc<Disk> {
        let state = State { cut: 0, losses: Vec::new() };
        let shown = RwLock::new(Shown { state, written: BTreeMap::new() });
        Arc::new(Disk { number, recording, shown })
    }

    /// Shows a state from now on, and forgets what was written.
    pub fn show(&self, state: State) {
        *self.write() = Shown { state, written: BTreeMap::new() };
    }

    fn run(&self, bio: Bio<'_>) -> BlkResult {
        if bio.op() == Op::Flush {
            return Ok(());
        }
        let on_device = bio.end().is_some_and(|end| end.from_start() <= self.recording.size());
        if !on_device {
            return Err(BlkError::Io);
        }
        let first = bio.sector.0;
        match bio.op() {
            Op::Read => {
                let shown = self.read();
                let into = bio.into_buffer();
                let sectors = (into.len() / SECTOR) as u64;
                self.recording.read(&shown.state, first, into).map_err(|_| BlkError::Io)?;
                for (sector, bytes) in shown.written.range(first..first + sectors) {
                    let at = (sector - first) as usize * SECTOR;
                    into[at..at + SECTOR].copy_from_slice(&bytes[..]);
                }
                Ok(())
            }
            Op::Write => {
                let mut shown = self.write();
                let data = bio.data();
                for (sector, bytes) in (first..).zip(data.chunks_exact(SECTOR)) {
                    let bytes = bytes.try_into().expect("a chunk is a sector");
                    if let Some(there) = shown.written.get_mut(&sector) {
                        **there = bytes;
                    } else if shown.written.len() < MAX_SCRATCH / SECTOR {
                        shown.written.insert(sector, Box::new(bytes));
                    } else {
                        return Err(BlkError::NoSpace);
                    }
                }
                Ok(())
            }
            // Whoever zeroes or drops much would fill memory with it; programs write instead.
            Op::Discard | Op::WriteZeroes | Op::SecureErase => Err(BlkError::NotSupported),
            Op::Flush => Ok(()),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Shown> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shown> {
        self.shown.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockDevice for Disk {
    fn number(&self) -> DevNumber {
        self.number
    }

    fn name(&self) -> String {
        format!("state{}", self.number.minor)
    }

    fn size(&self) -> Sectors {
        self.recording.size()
    }

    fn limits(&self) -> Limits {
        Limits {
            discard_granularity: 0,
            max_discard_sectors: 0,
            max_write_zeroes_sectors: 0,
            max_secure_erase_sectors: 0,
            ..Limits::image(self.recording.unit())
        }
    }

    fn access(&self) -> Access {
        Access::ReadWrite
    }

    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        Ok(self.run(bio))
    }

    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        Box::pin(ready(self.run(bio)))
    }

    fn open(&self, _access: Access) -> Result<(), Errno> {
        Ok(())
    }

    fn release(&self) {}
}
