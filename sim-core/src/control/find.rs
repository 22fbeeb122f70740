//! Finds the device that a word of a table line names.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backing::{Backing, Found};
use super::cell::Cell;
use super::cells::Cells;
use crate::graph::{Edge, Graph, Refused};
use crate::table::devices::{FindDevice, Lookup};
use crate::{BlockDevice, DM_MAJOR, DevNumber, Errno, MappedDevice, Refusal};

/// Looks up devices for the table of one mapped device.
pub(super) struct Finder<'a> {
    pub(super) backing: &'a dyn Backing,
    pub(super) cells: &'a Mutex<Cells>,
    pub(super) graph: &'a Arc<Graph>,
    /// The device that the table is for: it cannot be its own target.
    pub(super) device: &'a Arc<MappedDevice>,
    /// The directory that relative paths start from.
    pub(super) base: &'a str,
}

impl FindDevice for Finder<'_> {
    /// Tries, in this order: `major:minor`; an attached image's name; a mapped device's name,
    /// with `/dev/mapper/` or without; `/dev/dm-N`; the path of an image.
    fn find_device(&self, word: &str) -> Lookup<'_> {
        if let Ok(number) = word.parse::<DevNumber>() {
            let found = match number.major {
                DM_MAJOR => self.mapped(number.minor),
                _ => self.backing.by_number(number).map_err(Refusal::from),
            };
            return Lookup::Now(found);
        }
        if let Some(minor) = word.strip_prefix("/dev/dm-").and_then(|n| n.parse().ok()) {
            return Lookup::Now(self.mapped(minor).map_err(|refusal| match refusal.errno {
                Errno::NXIO => Errno::NOENT.into(),
                _ => refusal,
            }));
        }
        let name = word.strip_prefix("/dev/mapper/").unwrap_or(word);
        if let Some(minor) = self.shown(name) {
            return Lookup::Now(self.mapped(minor));
        }
        let word = word.to_owned();
        Lookup::Later(Box::pin(async move {
            match self.backing.look_up(&word, self.base).await? {
                Found::Device(device) => Ok(device),
                Found::Mapped(name) => {
                    let minor = self.shown(&name).ok_or(Errno::NOENT)?;
                    self.mapped(minor)
                }
            }
        }))
    }

    fn reserve(&self, below: &dyn BlockDevice) -> Result<Option<Edge>, Refused> {
        let below = MappedDevice::of(below);
        below.map(|below| self.graph.reserve(self.device.node(), below.node())).transpose()
    }
}

impl Finder<'_> {
    /// Returns the number of the device that a word names, where there is one.
    pub(super) async fn number_of(&self, word: &str) -> Option<DevNumber> {
        let found = match self.find_device(word) {
            Lookup::Now(found) => found,
            Lookup::Later(found) => found.await,
        };
        found.ok().map(|device| device.number())
    }

    fn shown(&self, name: &str) -> Option<u32> {
        // A device that waits to be removed has lost its name for tables, but not its number.
        self.cells().find_name(name).filter(|cell| cell.has_name()).map(Cell::minor)
    }

    fn mapped(&self, minor: u32) -> Result<Arc<dyn BlockDevice>, Refusal> {
        let cells = self.cells();
        let shows = |cell: &&Cell| cell.has_disk;
        let cell = cells.get(minor).filter(shows).ok_or(Errno::NXIO)?;
        if Arc::ptr_eq(&cell.device, self.device) {
            return Err(Refusal::because(Errno::INVAL, "no device can map onto itself"));
        }
        Ok(cell.device.clone())
    }

    fn cells(&self) -> MutexGuard<'_, Cells> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
