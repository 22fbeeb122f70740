//! What every target must do, as tests that cost its author one line.
//!
//! [`conformance!`](crate::conformance!) stamps a test for each [`Part`]. A part runs one case
//! from one seed; a test runs a few of them, and `DMSIM_SEARCH_SECONDS=600` makes it go on for as
//! long. A case that fails prints the line that repeats it.
//!
//! The device under test is an array of bytes: what was written reads back, and survives a power
//! cut as far as flushes and FUA promise. A target that is no storage names the exception, and is
//! then held to everything but its content.

mod below;
mod bytes;
mod life;
mod power;
mod rig;
mod text;

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sim_core::{MappedDevice, Registry, Sectors, TargetType};

use crate::World;
use crate::search::{SEED, seeds};

/// The size of the disks `a`, `b` and `c` of the suite: 512 KiB each, zeros at first.
pub const DISK: Sectors = Sectors(1024);

/// Runs the case under another schedule than its seed's: `exact 2 0.1.1`.
pub const SCHEDULE: &str = "DMSIM_SCHEDULE";

/// Stamps the tests of a target: `conformance!(MyTarget, "0 64 mine a 10")`.
///
/// The table may name the disks `a`, `b` and `c` of [`DISK`] sectors, which are zeros at first. A
/// part is left out by its name and a reason:
///
/// ```
/// mod zero {
///     testkit::conformance!(
///         targets::Zero,
///         "0 64 zero",
///         except { model: "reads as zeros whatever is written" }
///     );
/// }
/// ```
///
/// A target exempt from `model` is not held to its content by the other parts either. Two uses in
/// one file need a module each.
#[macro_export]
macro_rules! conformance {
    ($target:ty, $table:expr $(, except { $($part:ident : $reason:literal),+ $(,)? })? $(,)?) => {
        fn suite() -> $crate::conformance::Suite {
            $crate::conformance::Suite::of::<$target>($table)
                .named(env!("CARGO_PKG_NAME"), module_path!())
                $($(.except(stringify!($part), $reason))+)?
        }
        $crate::conformance! { @tests
            model split reload garble flatten faults crash suspend operations messages idle
            early moving failing
        }
    };
    (@tests $($part:ident)+) => {
        $(
            #[test]
            fn $part() {
                suite().check(stringify!($part));
            }
        )+
    };
}

/// One thing that every target must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bios from several tasks under any schedule: each ends, and reads give what was written.
    Model,
    /// Any split of any I/O gives the same bytes.
    Split,
    /// The table's text loads to itself, and the content is still there.
    Reload,
    /// A word of the table that is cut or garbled gives an error that names it.
    Garble,
    /// The flattened map does what `map` does.
    Flatten,
    /// Any I/O below may fail: nothing is lost that was acknowledged, and nothing hangs.
    Faults,
    /// A power cut at every step, another during the recovery: what is read is legal.
    Crash,
    /// A suspend drains the device, and a resume goes on, with the same table or another.
    Suspend,
    /// Discard, write-zeroes, flush and FUA mean what they say.
    Operations,
    /// Messages of any words are answered or refused.
    Messages,
    /// Bios that are given up leave nothing behind, and a removed device holds nothing open.
    Idle,
    /// Over mapped devices that have only inactive tables when the target is made.
    Early,
    /// Over mapped devices that are suspended, resumed and reloaded meanwhile.
    Moving,
    /// As `Faults`, over mapped devices; left out where that is.
    Failing,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 14] = [
        Part::Model,
        Part::Split,
        Part::Reload,
        Part::Garble,
        Part::Flatten,
        Part::Faults,
        Part::Crash,
        Part::Suspend,
        Part::Operations,
        Part::Messages,
        Part::Idle,
        Part::Early,
        Part::Moving,
        Part::Failing,
    ];

    /// Returns the name: that of the stamped test.
    pub fn name(self) -> &'static str {
        match self {
            Part::Model => "model",
            Part::Split => "split",
            Part::Reload => "reload",
            Part::Garble => "garble",
            Part::Flatten => "flatten",
            Part::Faults => "faults",
            Part::Crash => "crash",
            Part::Suspend => "suspend",
            Part::Operations => "operations",
            Part::Messages => "messages",
            Part::Idle => "idle",
            Part::Early => "early",
            Part::Moving => "moving",
            Part::Failing => "failing",
        }
    }

    /// Returns how many seeds a test runs, unless it is told otherwise.
    fn cases(self) -> u64 {
        match self {
            Part::Model | Part::Suspend | Part::Idle | Part::Moving => 100,
            Part::Split | Part::Flatten => 20,
            Part::Operations | Part::Messages => 20,
            Part::Faults | Part::Crash | Part::Early => 20,
            Part::Failing => 10,
            Part::Reload => 5,
            Part::Garble => 1,
        }
    }

    fn run(self, suite: &Suite, seed: u64) -> Result<(), String> {
        match self {
            Part::Model => bytes::model(suite, seed),
            Part::Split => bytes::split(suite, seed),
            Part::Reload => text::reload(suite, seed),
            Part::Garble => text::garble(suite),
            Part::Flatten => bytes::flatten(suite, seed),
            Part::Faults => power::faults(suite, seed),
            Part::Crash => power::crash(suite, seed).map(drop),
            Part::Suspend => life::suspend(suite, seed),
            Part::Operations => power::operations(suite, seed),
            Part::Messages => text::messages(suite, seed),
            Part::Idle => life::idle(suite, seed),
            Part::Early => below::early(suite, seed),
            Part::Moving => below::moving(suite, seed),
            Part::Failing => power::faults(&suite.over_mapped(), seed),
        }
    }
}

/// A target type and a table of it, to be held to the parts.
#[derive(Clone)]
pub struct Suite {
    registry: Registry,
    table: String,
    /// The table is set up over mapped devices, each all of a disk.
    over_mapped: bool,
    except: BTreeMap<String, String>,
    /// The arguments of `cargo test` that name the stamped tests.
    filter: String,
}

/// A case that fails.
#[derive(Clone, Debug)]
pub struct Found {
    /// The part.
    pub part: Part,
    /// The seed.
    pub seed: u64,
    /// How many seeds were tried, this one among them.
    pub seeds: u64,
    /// What is wrong.
    pub why: String,
    /// How long the search took.
    pub took: Duration,
    /// The command that repeats the case.
    pub repeat: String,
}

impl Suite {
    /// Makes the suite of a target type.
    pub fn of<T: TargetType>(table: &str) -> Suite {
        Suite::new(Registry::new().with::<T>(), table)
    }

    /// Makes the suite of a table whose types are in `registry`.
    pub fn new(registry: Registry, table: &str) -> Suite {
        let (table, except, filter) = (table.to_owned(), BTreeMap::new(), String::new());
        let registry = registry.with::<below::Through>();
        Suite { registry, table, over_mapped: false, except, filter }
    }

    /// Returns the same suite over mapped devices.
    fn over_mapped(&self) -> Suite {
        Suite { over_mapped: true, ..self.clone() }
    }

    /// Sets the device up in a world that has its disks.
    fn set_up(&self, world: &World) -> Result<Arc<MappedDevice>, String> {
        if self.over_mapped { below::set_up(self, world) } else { world.try_set_up(0, &self.table) }
    }

    /// Returns why a part is left out, if it is.
    fn excepted(&self, part: &str) -> Option<&String> {
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

    /// Runs one case; a panic in it is a failure like any other.
    pub fn case(&self, part: Part, seed: u64) -> Result<(), String> {
        let run = AssertUnwindSafe(|| part.run(self, seed));
        catch_unwind(run).unwrap_or_else(|panic| Err(format!("panicked: {}", words(&*panic))))
    }

    /// Runs the power cuts of one seed, and returns how many there were.
    pub fn crash_states(&self, seed: u64) -> Result<u64, String> {
        power::crash(self, seed)
    }

    /// Runs the cases of some seeds until one fails.
    pub fn find(&self, part: Part, seeds: Range<u64>) -> Option<Found> {
        let started = Instant::now();
        let mut cases = (1..).zip(seeds);
        cases.find_map(|(count, seed)| self.failure(part, seed, count, started))
    }

    /// Runs a part as the stamped test does.
    ///
    /// # Panics
    /// When a case fails.
    pub fn check(&self, part: &str) {
        if let Some(reason) = self.excepted(part) {
            println!("skipped: {reason}");
            return;
        }
        let part = Part::ALL.into_iter().find(|known| known.name() == part);
        let part = part.expect("the tests are stamped for parts alone");
        let started = Instant::now();
        let mut count = 0;
        for seed in seeds(part.cases()) {
            count += 1;
            if let Some(found) = self.failure(part, seed, count, started) {
                let Found { seeds, why, took, repeat, .. } = found;
                panic!("{why}\nafter {seeds} cases in {took:.1?}; to repeat:\n{repeat}");
            }
        }
        println!("{count} cases in {:.1?}", started.elapsed());
    }

    fn failure(&self, part: Part, seed: u64, seeds: u64, started: Instant) -> Option<Found> {
        let why = self.case(part, seed).err()?;
        let repeat = format!("{SEED}={seed} cargo test {}{}", self.filter, part.name());
        Some(Found { part, seed, seeds, why, took: started.elapsed(), repeat })
    }

    /// Tells whether the device is an array of bytes.
    fn is_storage(&self) -> bool {
        !self.except.contains_key(Part::Model.name())
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied()).unwrap_or("without words")
}
