//! Where a snapshot keeps the content that its origin had: on a device that outlives it, or for as
//! long as it is there.

pub mod format;
mod persistent;
pub mod scan;

use std::sync::Arc;

use sim_core::{Area, BlkError, BlkResult, Errno, Locked, Runtime, Sectors};

pub(crate) use persistent::Persistent;

use self::format::Entry;
use super::ChunkSize;
use super::table::{ExceptionTable, MAX_NEW};

/// The store of a snapshot.
pub(crate) enum Store {
    /// `P`.
    Persistent(Arc<Persistent>),
    /// `N`.
    Transient(Transient),
}

/// Chunks of a store, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) new: u64,
    pub(crate) len: u64,
}

/// How much of a store is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// By header, metadata and data.
    pub(crate) allocated: Sectors,
    /// By header and metadata.
    pub(crate) metadata: Sectors,
}

/// A store, and what was in it.
pub(crate) struct Loaded<S> {
    pub(crate) store: S,
    /// Nothing where the store says of itself that it is invalid.
    pub(crate) exceptions: Option<ExceptionTable>,
}

/// Why a store could not be loaded.
pub(crate) struct Refused {
    pub(crate) errno: Errno,
    pub(crate) detail: String,
}

impl Refused {
    fn io(error: BlkError, what: impl Into<String>) -> Refused {
        Refused { errno: error.errno(), detail: format!("{}: {error}", what.into()) }
    }
}

impl Store {
    pub(crate) fn chunk(&self) -> ChunkSize {
        match self {
            Store::Persistent(store) => store.chunk(),
            Store::Transient(store) => store.chunk,
        }
    }

    /// Gives out up to `len` chunks, one after the other; none where there is no room.
    pub(crate) fn allocate(&self, len: u64) -> Option<Run> {
        match self {
            Store::Persistent(store) => store.allocate(len),
            Store::Transient(store) => store.allocate(len),
        }
    }

    /// Makes exceptions durable whose data is in the store, as far as the store does that.
    pub(crate) async fn commit(&self, entries: impl Iterator<Item = Entry>) -> BlkResult {
        match self {
            Store::Persistent(store) => store.commit(entries).await,
            Store::Transient(_) => Ok(()),
        }
    }

    /// Gives up exceptions whose data could not be copied.
    pub(crate) fn abandon(&self, count: u64) {
        match self {
            Store::Persistent(store) => store.abandon(count),
            Store::Transient(_) => {}
        }
    }

    /// Marks the store as one that cannot be used any more.
    pub(crate) async fn invalidate(&self) {
        match self {
            Store::Persistent(store) => store.invalidate().await,
            Store::Transient(_) => {}
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        match self {
            Store::Persistent(store) => store.usage(),
            Store::Transient(store) => store.usage(),
        }
    }

    /// Moves what is known of the store to another target's; nothing is under way in it.
    pub(crate) fn hand_over(
        &self,
        cow: Area,
        exceptions: &ExceptionTable,
        runtime: &Arc<dyn Runtime>,
    ) -> Store {
        match self {
            Store::Persistent(store) => {
                let store = store.hand_over(cow, exceptions, runtime.clone());
                Store::Persistent(Arc::new(store))
            }
            Store::Transient(store) => Store::Transient(Transient {
                cow,
                chunk: store.chunk,
                next_free: Locked::new(*store.next_free.lock()),
            }),
        }
    }
}

/// A store that is forgotten with its snapshot: chunks of data from the first on.
pub(crate) struct Transient {
    cow: Area,
    chunk: ChunkSize,
    next_free: Locked<u64>,
}

impl Transient {
    pub(crate) fn new(cow: Area, chunk: ChunkSize) -> Transient {
        Transient { cow, chunk, next_free: Locked::new(0) }
    }

    fn allocate(&self, len: u64) -> Option<Run> {
        let mut next_free = self.next_free.lock();
        let chunks = self.chunk.whole_in(self.cow.size()).min(MAX_NEW);
        let len = len.min(chunks.saturating_sub(*next_free));
        let run = Run { new: *next_free, len };
        *next_free += len;
        (len > 0).then_some(run)
    }

    fn usage(&self) -> Usage {
        let allocated = Sectors(*self.next_free.lock() * self.chunk.sectors().0);
        Usage { allocated, metadata: Sectors::ZERO }
    }
}
