//! The one directory: its names, and what they come to.

use sim_core::{Control, Errno, SECTOR_SIZE};

use super::answers::{Kind, Listed, Listing, Statistics};
use super::nodes::{Nodes, ROOT};

/// The place of the first device in a listing, by its minor number.
const FIRST_DEVICE: u64 = 3;

/// Lists `most` names after a place. A device's place is its minor number and some: it stays what
/// it is when other devices come and go between two calls.
pub(crate) fn list(nodes: &Nodes, inode: u64, after: u64, most: usize) -> Result<Listing, Errno> {
    if inode != ROOT {
        return Err(Errno::NOTDIR);
    }
    let dots = [(1, "."), (2, "..")].into_iter().filter(|(place, _)| *place > after);
    let dots = dots.map(|(place, name)| Listed {
        inode: ROOT,
        place,
        kind: Kind::Directory,
        name: name.to_owned(),
    });
    let mut listed: Vec<Listed> = dots.take(most).collect();
    let minor = u32::try_from(after.saturating_add(1).saturating_sub(FIRST_DEVICE));
    let Ok(minor) = minor else { return Ok(Listing(listed)) };
    for shown in nodes.control.shown_from(minor, most - listed.len()) {
        listed.push(Listed {
            inode: nodes.inode(&shown.device),
            place: FIRST_DEVICE + u64::from(shown.device.minor()),
            kind: Kind::File,
            name: shown.name,
        });
    }
    Ok(Listing(listed))
}

/// Counts the files, and what they hold.
pub(crate) fn statistics(control: &Control) -> Statistics {
    let (files, size) = control.shown_totals();
    let bytes = size.0.saturating_mul(SECTOR_SIZE);
    Statistics { blocks: bytes / u64::from(Statistics::BLOCK), files }
}
