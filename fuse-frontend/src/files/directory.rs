//! The one directory: its names, and what they come to.

use sim_core::{Control, Errno};

use super::Kind;
use super::nodes::{Nodes, ROOT, size_of};

/// The place of the first device in a listing, by its minor number.
const FIRST_DEVICE: u64 = 3;

/// Names of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing(pub Vec<Listed>);

/// One name of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The inode.
    pub inode: u64,
    /// Where a listing goes on after it.
    pub place: u64,
    /// Which kind of file it is.
    pub kind: Kind,
    /// The name.
    pub name: String,
}

/// What `statfs` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// How large all devices are together, in blocks of [`BLOCK`](Self::BLOCK) bytes.
    pub blocks: u64,
    /// How many files there are.
    pub files: u64,
}

impl Statistics {
    /// The unit of a size.
    pub const BLOCK: u32 = 4096;

    /// The longest name.
    pub const NAME: u32 = sim_core::control::MAX_NAME as u32;

    pub(crate) fn of(control: &Control) -> Statistics {
        let shown = control.shown();
        let bytes = shown.iter().map(size_of).fold(0, u64::saturating_add);
        Statistics { blocks: bytes / u64::from(Statistics::BLOCK), files: shown.len() as u64 }
    }
}

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
