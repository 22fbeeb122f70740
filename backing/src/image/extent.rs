//! How long an image is, and its bytes as they are mapped: what a resize replaces.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use sim_core::Sectors;

use crate::image::health::Health;
use crate::image::mapping::Mapping;
use crate::image::opening::{Kind, has_no_holes};

/// How often an image can be resized before it has to be detached.
pub(crate) const MAX_RESIZES: u32 = 1000;

/// The size that an image has at a time. One that was resized keeps what came before, until it
/// goes: whoever reads by that is not waited for, and no reader takes a lock.
pub(crate) struct Extent {
    pub(crate) size: Sectors,
    /// A file that was cut is bad until it is resized.
    pub(crate) health: Arc<Health>,
    mapping: Option<Mapping>,
    /// Reads go through the mapping, if there is one.
    mapped: AtomicBool,
    next: OnceLock<Box<Extent>>,
}

impl Extent {
    /// Makes the extent of a file that has `size` bytes.
    pub(crate) fn new(file: &File, path: &Path, size: u64, kind: Kind) -> Extent {
        let health = Arc::new(Health::default());
        // A fault on a machine's disk waits where nobody can say for whom: for a device of this very daemon, it
        // may be.
        let mapping = (kind != Kind::Node).then(|| Mapping::new(file, size, health.clone()));
        if let Some(Err(error)) = &mapping {
            tracing::info!(path = %path.display(), %error, "read without a mapping");
        }
        let mapped = AtomicBool::new(kind != Kind::InMemory || has_no_holes(file, size));
        let size = Sectors::in_bytes(size);
        Extent {
            size,
            health,
            mapping: mapping.and_then(Result::ok),
            mapped,
            next: OnceLock::new(),
        }
    }

    /// Returns the mapping if reads go through it.
    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        self.mapping.as_ref().filter(|_| self.mapped.load(Relaxed))
    }

    /// Reads without the mapping from now on.
    pub(crate) fn unmap(&self) {
        self.mapped.store(false, Relaxed);
    }
}

/// The extents of an image, the one of now last.
pub(crate) struct Extents {
    first: Extent,
    resizes: AtomicU32,
}

impl Extents {
    pub(crate) fn new(first: Extent) -> Extents {
        Extents { first, resizes: AtomicU32::new(0) }
    }

    /// Returns the extent of now.
    pub(crate) fn now(&self) -> &Extent {
        let mut now = &self.first;
        while let Some(next) = now.next.get() {
            now = next;
        }
        now
    }

    /// Puts another in the place of the one of now; gives it back where there were too many.
    pub(crate) fn replace(&self, by: Extent) -> Result<(), Box<Extent>> {
        if self.resizes.fetch_add(1, Relaxed) >= MAX_RESIZES {
            self.resizes.fetch_sub(1, Relaxed);
            return Err(Box::new(by));
        }
        let mut by = Box::new(by);
        // Where another resize comes in between, this one looked at the file after it began.
        while let Err(back) = self.now().next.set(by) {
            by = back;
        }
        Ok(())
    }
}
