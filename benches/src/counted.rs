//! Images whose flushes are counted, and take a while: memory has none that do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backing::{Images, Pool};
use sim_core::{
    Access, Allocation, Backing, Bio, BlkResult, BlockDevice, BoxFuture, DevNumber, Errno, Limits,
    Op, Runtime, Sector, Sectors,
};
use targets::snapshot::store::format::Layout;

/// What went to images so far.
#[derive(Default)]
pub struct Counts {
    /// Requests to make everything durable: each is one `fdatasync`, or shares one.
    pub flushes: AtomicU64,
    /// Writes of metadata.
    pub commits: AtomicU64,
}

/// Which writes are commits.
#[derive(Clone)]
pub enum Commits {
    /// Those to where the stores of snapshots have their metadata: on the images whose names begin
    /// with `/dev/cow`.
    Stores(Layout),
    /// Those to the image `/dev/log`.
    Log,
}

/// What is counted, and what images are like.
#[derive(Clone)]
pub struct Kind {
    /// Where it is counted.
    pub counts: Arc<Counts>,
    /// How long a flush takes at least.
    pub flush: Duration,
    /// Which writes are counted as commits.
    pub commits: Commits,
}

/// Finds the images of an instance, and counts what goes to them.
pub(crate) struct CountedImages {
    images: Arc<Images>,
    pool: Arc<Pool>,
    kind: Kind,
    /// One wrapper for each image, as tables look for the device that others have.
    known: Mutex<HashMap<DevNumber, Arc<Counted>>>,
}

struct Counted {
    image: Arc<dyn BlockDevice>,
    pool: Arc<Pool>,
    has_metadata: bool,
    kind: Kind,
}

impl CountedImages {
    pub(crate) fn new(images: Arc<Images>, pool: Arc<Pool>, kind: Kind) -> CountedImages {
        CountedImages { images, pool, kind, known: Mutex::default() }
    }

    fn counted(&self, image: Arc<dyn BlockDevice>, word: &str) -> Arc<dyn BlockDevice> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let number = image.number();
        let new = || {
            let (pool, kind) = (self.pool.clone(), self.kind.clone());
            let has_metadata = match kind.commits {
                Commits::Stores(_) => word.starts_with("/dev/cow"),
                Commits::Log => word == "/dev/log",
            };
            Arc::new(Counted { image, pool, has_metadata, kind })
        };
        known.entry(number).or_insert_with(new).clone()
    }
}

impl Backing for CountedImages {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        self.images.by_number(number).map(|image| self.counted(image, ""))
    }

    fn by_word<'a>(
        &'a self,
        word: &'a str,
        base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        Box::pin(async move {
            let image = self.images.by_word(word, base).await?;
            Ok(self.counted(image, word))
        })
    }
}

impl Counted {
    fn count_write(&self, bio: &Bio<'_>) {
        let is_metadata = || match &self.kind.commits {
            Commits::Stores(layout) => layout.is_metadata(layout.chunk().of(bio.sector)),
            Commits::Log => true,
        };
        if self.has_metadata && bio.op() == Op::Write && is_metadata() {
            self.kind.counts.commits.fetch_add(1, Relaxed);
        }
    }

    async fn flush(&self) -> BlkResult {
        self.kind.counts.flushes.fetch_add(1, Relaxed);
        if !self.kind.flush.is_zero() {
            self.pool.sleep(self.kind.flush).await;
        }
        self.image.submit(Bio::flush()).await
    }

    async fn run(&self, mut bio: Bio<'_>) -> BlkResult {
        let fua = std::mem::take(&mut bio.flags.fua);
        if std::mem::take(&mut bio.flags.preflush) || bio.op() == Op::Flush {
            self.flush().await?;
        }
        if bio.op() != Op::Flush {
            self.count_write(&bio);
            self.image.submit(bio).await?;
        }
        if fua { self.flush().await } else { Ok(()) }
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
        let (op, flags) = (bio.op(), bio.flags);
        if op == Op::Flush || flags.preflush || flags.fua {
            return Err(bio);
        }
        self.count_write(&bio);
        self.image.try_now(bio)
    }

    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        Box::pin(self.run(bio))
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
