//! What is held to the parts: a target type, a table of it, and what it is exempt from.

use std::collections::BTreeMap;
use std::sync::Arc;

use sim_core::{Registry, Sectors, TargetType};

use super::ground::{DISKS, Known};
use super::part::Part;
use super::through::{Inverts, Through};
use crate::Shape;

/// The size of the disks `a`, `b` and `c` of the suite: 512 KiB each, unless the case has
/// smaller or larger ones.
pub const DISK: Sectors = Sectors(1024);

/// Runs the case under another schedule than its seed's: `exact 2 0.1.1`.
pub const SCHEDULE: &str = "DMSIM_SCHEDULE";

/// A target type and a table of it, to be held to the parts.
#[derive(Clone)]
pub struct Suite {
    pub(super) registry: Registry,
    pub(super) table: String,
    /// The table is set up over mapped devices, each all of a disk.
    pub(super) over_mapped: bool,
    pub(super) except: BTreeMap<String, String>,
    /// How long the logical blocks of the disks may be, in bytes.
    pub(super) blocks: Vec<u32>,
    /// The sizes of disks that have another than [`DISK`].
    pub(super) sizes: BTreeMap<String, Sectors>,
    /// Disks that must be zeros at first, each with a reason.
    pub(super) blank: BTreeMap<String, String>,
    /// Disks on which the target would notice a bit that is the other way round.
    pub(super) checked: Vec<String>,
    /// What makes the checksums of a disk right again, once its content has changed.
    pub(super) seals: BTreeMap<String, fn(&mut [u8])>,
    /// What bios are like, where the seed does not choose that.
    pub(super) shape: Option<Shape>,
    pub(super) known: Arc<Known>,
    /// The arguments of `cargo test` that name the stamped tests.
    pub(super) filter: String,
}

impl Suite {
    /// Makes the suite of a target type.
    pub fn of<T: TargetType>(table: &str) -> Suite {
        Suite::new(Registry::new().with::<T>(), table)
    }

    /// Makes the suite of a table whose types are in `registry`.
    pub fn new(registry: Registry, table: &str) -> Suite {
        Suite {
            registry: registry.with::<Through>().with::<Inverts>(),
            table: table.to_owned(),
            over_mapped: false,
            except: BTreeMap::new(),
            blocks: vec![512, 4096],
            sizes: BTreeMap::new(),
            blank: BTreeMap::new(),
            checked: Vec::new(),
            seals: BTreeMap::new(),
            shape: None,
            known: Arc::default(),
            filter: String::new(),
        }
    }

    /// Says how long the logical blocks of the disks are, 512 and 4096 bytes unless something is
    /// said; the seed chooses. A table that such blocks do not suit is run on blocks of 512.
    ///
    /// # Panics
    /// When there is none, or one that is no such length.
    #[must_use]
    pub fn blocks(mut self, blocks: &[u32]) -> Suite {
        let are_lengths = blocks.iter().all(|block| matches!(block, 512 | 4096));
        assert!(!blocks.is_empty() && are_lengths, "blocks have 512 or 4096 bytes, not {blocks:?}");
        self.blocks = blocks.to_vec();
        self
    }

    /// Gives a disk a size of its own, in sectors, which stays the same in all cases.
    #[must_use]
    pub fn disk(mut self, disk: &str, sectors: u64) -> Suite {
        self.sizes.insert(named(disk), Sectors(sectors));
        self
    }

    /// Has a disk be zeros at first in all cases, for a reason. Without it half of the cases begin
    /// with what somebody else has left, unless the target refuses that.
    ///
    /// # Panics
    /// When there is no reason.
    #[must_use]
    pub fn blank(mut self, disk: &str, reason: &str) -> Suite {
        assert!(!reason.trim().is_empty(), "disk `{disk}` is blank for a reason");
        self.blank.insert(named(disk), reason.to_owned());
        self
    }

    /// Says that the target has checksums over all that it keeps on this disk: it is held to notice
    /// each bit that is the other way round.
    #[must_use]
    pub fn checked(mut self, disk: &str) -> Suite {
        self.checked.push(named(disk));
        self
    }

    /// Says how the checksums of a disk are made right again, given all of its content: without it,
    /// what the part `format` changes is refused by its checksum, and goes no further.
    #[must_use]
    pub fn seal(mut self, disk: &str, seal: fn(&mut [u8])) -> Suite {
        self.seals.insert(named(disk), seal);
        self
    }

    /// Says what the bios of all cases are like.
    #[must_use]
    pub fn traffic(mut self, shape: Shape) -> Suite {
        self.shape = Some(shape);
        self
    }

    /// Returns what the bios of a case are like.
    pub(super) fn shape(&self, seed: u64) -> Shape {
        self.shape.unwrap_or_else(|| Shape::of(seed))
    }

    /// Returns the same suite over mapped devices.
    pub(super) fn over_mapped(&self) -> Suite {
        Suite { over_mapped: true, ..self.clone() }
    }

    /// Returns why a part is left out, if it is.
    pub(super) fn excepted(&self, part: &str) -> Option<&String> {
        let same = match Part::ALL.into_iter().find(|known| known.name() == part) {
            Some(Part::Failing) => Some(Part::Faults.name()),
            Some(Part::Stack) => Some(Part::Moving.name()),
            _ => None,
        };
        self.except.get(part).or_else(|| self.except.get(same?))
    }

    /// Says which package and module the stamped tests are in, for the line that repeats a case.
    #[must_use]
    pub fn named(mut self, package: &str, module: &str) -> Suite {
        let module = module.split_once("::").map_or("", |(_crate, module)| module);
        let separator = if module.is_empty() { "" } else { "::" };
        self.filter = format!("-p {package} {module}{separator}");
        self
    }

    /// Leaves a part out.
    ///
    /// # Panics
    /// When there is no such part, or no reason.
    #[must_use]
    pub fn except(mut self, part: &str, reason: &str) -> Suite {
        assert!(Part::ALL.iter().any(|known| known.name() == part), "there is no part `{part}`");
        assert!(!reason.trim().is_empty(), "part `{part}` is left out for a reason");
        self.except.insert(part.to_owned(), reason.to_owned());
        self
    }

    /// Tells whether the device is an array of bytes.
    pub(super) fn is_storage(&self) -> bool {
        !self.except.contains_key(Part::Model.name())
    }
}

/// Returns the name of a disk that there is.
fn named(disk: &str) -> String {
    assert!(DISKS.contains(&disk), "the disks are a, b and c, and not `{disk}`");
    disk.to_owned()
}
