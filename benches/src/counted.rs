//! Images whose flushes are counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use backing::Images;
use sim_core::{
    Access, Allocation, Backing, Bio, BlkResult, BlockDevice, BoxFuture, DevNumber, Errno, Limits,
    Op, Sector, Sectors,
};

/// What went to images so far.
#[derive(Default)]
pub struct Counts {
    /// Requests to make everything durable: each is one `fdatasync`, or shares one.
    pub flushes: AtomicU64,
    /// Writes that had to be durable when they ended.
    pub durable_writes: AtomicU64,
}

/// Finds the images of an instance, and counts what goes to them.
pub(crate) struct CountedImages {
    images: Arc<Images>,
    counts: Arc<Counts>,
    /// One wrapper for each image, as tables look for the device that others have.
    known: Mutex<HashMap<DevNumber, Arc<Counted>>>,
}

struct Counted {
    image: Arc<dyn BlockDevice>,
    counts: Arc<Counts>,
}

impl CountedImages {
    pub(crate) fn new(images: Arc<Images>, counts: Arc<Counts>) -> CountedImages {
        CountedImages { images, counts, known: Mutex::default() }
    }

    fn counted(&self, image: Arc<dyn BlockDevice>) -> Arc<dyn BlockDevice> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = self.counts.clone();
        known.entry(image.number()).or_insert_with(|| Arc::new(Counted { image, counts })).clone()
    }
}

impl Backing for CountedImages {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        self.images.by_number(number).map(|image| self.counted(image))
    }

    fn by_word(&self, word: &str, base: &str) -> Result<Arc<dyn BlockDevice>, Errno> {
        self.images.by_word(word, base).map(|image| self.counted(image))
    }
}

impl Counted {
    fn count(&self, bio: &Bio<'_>) {
        let flushes = [bio.op() == Op::Flush, bio.flags.preflush, bio.flags.fua];
        let flushes = flushes.into_iter().filter(|flushes| *flushes).count();
        self.counts.flushes.fetch_add(flushes as u64, Relaxed);
        self.counts.durable_writes.fetch_add(bio.flags.fua.into(), Relaxed);
    }
}

impl BlockDevice for Counted {
    fn number(&self) -> DevNumber {
        self.image.number()
    }

    fn name(&self) -> String {
        self.image.name()
    }

    fn size(&self) -> Sectors {
        self.image.size()
    }

    fn limits(&self) -> Limits {
        self.image.limits()
    }

    fn access(&self) -> Access {
        self.image.access()
    }

    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        // What has to be flushed waits, and comes again by the other way.
        self.image.try_now(bio)
    }

    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        self.count(&bio);
        self.image.submit(bio)
    }

    fn open(&self, access: Access) -> Result<(), Errno> {
        self.image.open(access)
    }

    fn release(&self) {
        self.image.release();
    }

    fn run_at(&self, at: Sector) -> (Allocation, Sectors) {
        self.image.run_at(at)
    }
}
