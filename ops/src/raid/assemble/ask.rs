//! Which set is to be put together, and how.

use std::path::PathBuf;

use sim_core::Access;

use crate::parts::Usage;

/// Which set to put together.
#[derive(Clone, Debug, Default)]
pub struct Assemble {
    /// The images, in any order; those of some legs may be missing.
    pub images: Vec<PathBuf>,
    /// What the device is to be called.
    pub name: String,
    /// Takes parity that was never made right for what a missing leg has; of an array of md, as `mdadm
    /// --assemble --force`.
    pub force: bool,
    /// The image of its journal; nothing where it has none.
    pub journal: Option<PathBuf>,
    /// Of a BIOS's set with several volumes: this one.
    pub volume: Option<String>,
    /// The serial numbers of the disks that the images are of, in their order; none where the names of the
    /// files say them, or nothing asks for them.
    pub serials: Vec<String>,
    /// Whether it may be written.
    pub writes: Writes,
    /// Devices that may have the images as well: other volumes of the set.
    pub beside: Vec<String>,
}

impl Assemble {
    /// Returns how the images are used.
    pub(in super::super) fn usage(&self) -> Usage<'_> {
        Usage { access: self.writes.access(), beside: &self.beside }
    }
}

/// Whether a set may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// It may, whatever is missing.
    #[default]
    Taken,
    /// Not where an image is missing that the others count on: it may have been forgotten, and the first write
    /// would leave it behind for good.
    WhereWhole,
    /// Nothing is written, superblocks neither.
    Refused,
}

impl Writes {
    /// Returns how the images are used.
    pub(in super::super) fn access(self) -> Access {
        match self {
            Writes::Taken | Writes::WhereWhole => Access::ReadWrite,
            Writes::Refused => Access::ReadOnly,
        }
    }
}

/// Says that a set is read-only, as it lacks an image that it counts on.
pub(in super::super) fn read_only_without(what: &str, place: usize) -> String {
    format!(
        "the others count on {what} {place}, and the first write would leave it behind: all is opened \
         read-only; `dmsim raid assemble` takes it for lost"
    )
}

/// A set that was put together.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// The file that shows it.
    pub file: PathBuf,
    /// Of an array of md or a BIOS's set: what was found, and the table that was loaded.
    pub told: Vec<String>,
}
