//! A disk in memory that several threads use at once, and that may have each of them wait.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use backing::Memory;
use sim_core::{
    Access, Bio, BlkResult, BlockDevice, BoxFuture, DevNumber, Errno, Limits, Runtime, Sector,
    Sectors,
};

use super::Noting;
use crate::io::letter;

/// The longest that a bio waits, in microseconds.
const LONGEST: u64 = 60;

/// A disk in memory, named by its letter.
pub(super) struct Busy {
    memory: Arc<Memory>,
    /// Has bios wait; none where each is carried out on the spot.
    runtime: Option<Arc<Noting>>,
    in_flight: AtomicU64,
    open_count: AtomicU32,
}

impl Busy {
    /// Makes a disk with this content, zeros where there is none.
    pub(super) fn new(
        number: DevNumber,
        size: Sectors,
        block: u32,
        content: Option<&[u8]>,
        runtime: Option<Arc<Noting>>,
    ) -> Arc<Busy> {
        let memory = Memory::new(number, &letter(number.minor).to_string(), size, block);
        if let Some(content) = content {
            let written = memory.try_now(Bio::write(Sector::ZERO, content));
            assert!(matches!(written, Ok(Ok(()))), "the content is as long as the disk");
        }
        let (in_flight, open_count) = (AtomicU64::new(0), AtomicU32::new(0));
        Arc::new(Busy { memory, runtime, in_flight, open_count })
    }

    /// Returns how many bios have not ended.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(SeqCst)
    }

    /// Returns how many users have the disk open.
    pub(super) fn open_count(&self) -> u32 {
        self.open_count.load(SeqCst)
    }
}

/// Counts a bio, also where it is dropped before its end.
struct Pending<'a>(&'a AtomicU64);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Lets another task of the thread come first.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl BlockDevice for Busy {
    fn number(&self) -> DevNumber {
        self.memory.number()
    }

    fn name(&self) -> String {
        self.memory.name()
    }

    fn size(&self) -> Sectors {
        self.memory.size()
    }

    fn limits(&self) -> Limits {
        self.memory.limits()
    }

    fn access(&self) -> Access {
        Access::ReadWrite
    }

    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        match &self.runtime {
            Some(runtime) if runtime.random().is_multiple_of(2) => Err(bio),
            _ => self.memory.try_now(bio),
        }
    }

    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        self.in_flight.fetch_add(1, SeqCst);
        let pending = Pending(&self.in_flight);
        Box::pin(async move {
            let _pending = pending;
            if let Some(runtime) = &self.runtime {
                match runtime.random() % 4 {
                    0 => {}
                    1 | 2 => yield_once().await,
                    _ => {
                        let micros = runtime.random() % LONGEST;
                        runtime.sleep(Duration::from_micros(micros)).await;
                    }
                }
            }
            self.memory.submit(bio).await
        })
    }

    fn reserve(&self, at: Sector, len: Sectors) -> BoxFuture<'_, BlkResult> {
        self.memory.reserve(at, len)
    }

    fn open(&self, _access: Access) -> Result<(), Errno> {
        self.open_count.fetch_add(1, SeqCst);
        Ok(())
    }

    fn release(&self) {
        self.open_count.fetch_sub(1, SeqCst);
    }
}
