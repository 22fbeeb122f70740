//! The partition of a ublk disk, which the daemon serves.

use std::fs::File;
use std::io;
use std::sync::Arc;

use sim_core::{Errno, SECTOR_SIZE};

use super::disk::number_in;
use crate::PARTITION;
use crate::ioctls;
use crate::node::{Error, Node, Shown, Whole, failed};
use crate::special::Special;
use crate::ublk::Left;

/// A partition of ours.
pub(super) struct Partition {
    /// The disk's.
    number: u32,
    node: Node,
    part: Arc<Special>,
    shown: Option<Shown>,
    pub(super) left: Left,
}

impl Partition {
    /// Makes the partition of a disk, of one sector; one that is there stays as it is.
    pub(super) fn of(number: u32) -> Result<Partition, Error> {
        let disk = Whole::Ublk(number);
        if !disk.partition().exists() {
            let held = opened(disk)?;
            ioctls::add_partition(&held, PARTITION, SECTOR_SIZE)
                .map_err(failed(format!("adding a partition to {disk}")))?;
        }
        let made = number_in(&disk.partition()).and_then(|dev| Ok((dev, Special::block(dev)?)));
        let (dev, part) = made.map_err(failed(format!("finding the partition of {disk}")))?;
        let left = Left::note(number).map_err(failed(format!("asking for {disk}")))?;
        let node = Node { dev, disk };
        Ok(Partition { number, node, part: Arc::new(part), shown: None, left })
    }

    pub(super) fn node(&self) -> Node {
        self.node
    }

    pub(super) fn part(&self) -> Arc<Special> {
        Arc::clone(&self.part)
    }

    /// Gives the partition its size, and says whether it may be written and how far is read ahead.
    pub(super) fn fit(&mut self, shown: &Shown) -> Result<(), Error> {
        if self.shown.as_ref() == Some(shown) {
            return Ok(());
        }
        if shown.bytes == 0 || !shown.bytes.is_multiple_of(SECTOR_SIZE) {
            return Err(Error::Refused(format!(
                "{}: expected whole sectors, found {} bytes",
                self.node.disk, shown.bytes
            )));
        }
        // What has failed half-way is done anew the next time, whatever is asked for then.
        let before = self.shown.take();
        let is_first = before.is_none();
        let held = opened(self.node.disk)?;
        ioctls::resize_partition(&held, PARTITION, shown.bytes)
            .map_err(self.failed("resizing the partition of"))?;
        let part = self.part.read().map_err(self.failed("opening the partition of"))?;
        ioctls::set_read_only(&part, shown.read_only)
            .map_err(self.failed("setting whether the partition may be written of"))?;
        // Otherwise it stays as programs have set it.
        if before.is_none_or(|before| before.read_ahead != shown.read_ahead) {
            ioctls::set_read_ahead(&part, shown.read_ahead)
                .map_err(self.failed("setting the read-ahead of"))?;
        }
        if is_first {
            // One that was taken over had the server before until now.
            self.left = Left::note(self.number).map_err(self.failed("asking for"))?;
        }
        self.shown = Some(shown.clone());
        Ok(())
    }

    /// Takes it away, or says that somebody has it open.
    pub(super) fn take(&self) -> Result<(), Error> {
        take(&opened(self.node.disk)?, self.node)
    }

    fn failed(&self, what: &str) -> impl FnOnce(io::Error) -> Error + use<> {
        failed(format!("{what} {}", self.node.disk))
    }
}

/// Takes away the partition that an earlier helper has made, or says that somebody has it open.
pub(super) fn remove(number: u32) -> Result<(), Error> {
    let disk = Whole::Ublk(number);
    let held = opened(disk)?;
    let Ok(dev) = number_in(&disk.partition()) else { return Ok(()) };
    take(&held, Node { dev, disk })
}

fn take(held: &File, node: Node) -> Result<(), Error> {
    match ioctls::delete_partition(held, PARTITION) {
        Ok(()) => Ok(()),
        Err(error) => match error.raw_os_error().map(Errno) {
            Some(Errno::BUSY) => Err(Error::Busy(format!("{} is open or mounted", node.dev))),
            // Taken away by somebody, who needs to be told nothing.
            Some(Errno::NXIO) => Ok(()),
            _ => Err(failed(format!("removing the partition of {}", node.disk))(error)),
        },
    }
}

/// Opens a whole disk, which is asked for nothing: it takes the calls that are about its partition.
fn opened(disk: Whole) -> Result<File, Error> {
    let file = number_in(&disk.sys()).and_then(|dev| Special::block(dev)?.read());
    file.map_err(failed(format!("opening {disk}")))
}
