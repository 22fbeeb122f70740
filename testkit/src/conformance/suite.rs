//! What is held to the parts: a target type, a table of it, and what it is exempt from.

use std::collections::BTreeMap;

use sim_core::{Registry, Sectors, TargetType};

use super::part::Part;
use super::through::Through;

/// The size of the disks `a`, `b` and `c` of the suite: 512 KiB each, zeros at first.
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
        let (table, except, filter) = (table.to_owned(), BTreeMap::new(), String::new());
        let registry = registry.with::<Through>();
        Suite { registry, table, over_mapped: false, except, filter }
    }

    /// Returns the same suite over mapped devices.
    pub(super) fn over_mapped(&self) -> Suite {
        Suite { over_mapped: true, ..self.clone() }
    }

    /// Returns why a part is left out, if it is.
    pub(super) fn excepted(&self, part: &str) -> Option<&String> {
        let same = (part == Part::Failing.name()).then(|| Part::Faults.name());
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
