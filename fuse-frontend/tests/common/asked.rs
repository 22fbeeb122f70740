//! Requests on a device, and a device that ends none until it is told to.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuse_frontend::Tasks;
use fuse_frontend::request::{Disk, Durability, Refuse, Reply};
use sim_core::{
    Access, Allocation, Bio, BlkError, BlkResult, BlockDevice, BoxFuture, DevNumber, Errno, Limits,
    Op, Sector, Sectors,
};

use super::World;

/// Sends the answer to whoever waits for it.
pub(crate) struct Channel<T>(std::sync::mpsc::Sender<Result<T, Errno>>);

impl<T: ?Sized + ToOwned<Owned = U>, U: Send + 'static> Reply<T> for Channel<U> {
    fn ok(self, answer: &T) {
        self.0.send(Ok(answer.to_owned())).unwrap();
    }
}

impl<T: Send + 'static> Refuse for Channel<T> {
    fn error(self, errno: Errno) {
        self.0.send(Err(errno)).unwrap();
    }
}

pub(crate) type Answer<T> = Receiver<Result<T, Errno>>;

pub(crate) fn ask<T>(start: impl FnOnce(Channel<T>)) -> Answer<T> {
    let (sender, answer) = channel();
    start(Channel(sender));
    answer
}

pub(crate) fn end<T>(answer: Answer<T>) -> Result<T, Errno> {
    answer.recv_timeout(Duration::from_secs(20)).expect("an answer")
}

pub(crate) fn read(disk: &Arc<Disk>, at: u64, len: usize) -> Result<Vec<u8>, Errno> {
    end(ask(|reply| disk.read(at, len, reply)))
}

pub(crate) fn write(disk: &Arc<Disk>, at: u64, data: &[u8]) -> Result<u32, Errno> {
    end(ask(|reply| disk.write(at, data, Durability::AtFlush, reply)))
}

pub(crate) fn allocate(disk: &Arc<Disk>, mode: u32, at: u64, len: u64) -> Result<(), Errno> {
    end(ask(|reply| disk.allocate(mode, at, len, reply)))
}

impl World {
    pub(crate) fn disk(&self, device: Arc<dyn BlockDevice>) -> Arc<Disk> {
        Disk::new(device, Arc::new(Tasks::new(self.pool.clone())))
    }

    pub(crate) fn disk_with(&self, table: &str) -> Arc<Disk> {
        self.disk(self.create("d", table))
    }
}

/// Holds every bio until it is told to go on, and notes what it was given.
pub(crate) struct Slow {
    pub(crate) under: Arc<dyn BlockDevice>,
    pub(crate) gate: sim_core::Gate,
    seen: Mutex<Vec<String>>,
    pub(crate) limits: Limits,
}

impl Slow {
    pub(crate) fn over(under: Arc<dyn BlockDevice>) -> Arc<Slow> {
        let limits = under.limits();
        Arc::new(Slow { under, gate: sim_core::Gate::default(), seen: Mutex::default(), limits })
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

impl BlockDevice for Slow {
    fn number(&self) -> DevNumber {
        self.under.number()
    }
    fn name(&self) -> String {
        "slow".to_owned()
    }
    fn size(&self) -> Sectors {
        self.under.size()
    }
    fn limits(&self) -> Limits {
        self.limits.clone()
    }
    fn access(&self) -> Access {
        Access::ReadWrite
    }
    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        Err(bio)
    }
    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        self.seen.lock().unwrap().push(format!("{bio:?}"));
        if bio.op() == Op::WriteZeroes && self.limits.max_write_zeroes_sectors == 0 {
            return Box::pin(std::future::ready(Err(BlkError::NotSupported)));
        }
        if bio.op() == Op::Discard && self.limits.max_discard_sectors == 0 {
            return Box::pin(std::future::ready(Err(BlkError::NotSupported)));
        }
        Box::pin(async move {
            let _pass = self.gate.enter().await.map_err(|_| BlkError::Gone)?;
            match (bio.op(), self.limits.discard_granularity) {
                // Discards that are taken and do nothing.
                (Op::Discard, 0) => Ok(()),
                _ => self.under.submit(bio).await,
            }
        })
    }
    fn open(&self, _: Access) -> Result<(), Errno> {
        Ok(())
    }
    fn release(&self) {}
    fn run_at(&self, at: Sector) -> (Allocation, Sectors) {
        self.under.run_at(at)
    }
}

pub(crate) fn slow(world: &World) -> (Arc<Slow>, Arc<Disk>) {
    let slow = Slow::over(world.create("d", "0 8192 linear disk 0"));
    (slow.clone(), world.disk(slow))
}
