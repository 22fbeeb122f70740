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
mod corrupt;
mod format;
mod ground;
mod life;
mod lives;
mod machine;
mod part;
mod power;
mod rig;
mod suite;
mod text;
mod through;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

pub use part::Part;
use sim_core::panic_text;
pub use suite::{DISK, SCHEDULE, Suite};

use crate::search::{SEED, seeds};
use crate::{story, watch};

/// Stamps the tests of a target: `conformance!(MyTarget, "0 64 mine a 10")`.
///
/// The table may name the disks `a`, `b` and `c` of [`DISK`] sectors. The seed of a case chooses
/// whether their logical blocks have 512 or 4096 bytes (512 alone, where the load refuses the table
/// over 4096), whether they are a little larger or as small as the table allows, and whether they
/// are zeros at first or full of what somebody else has left, unless the target refuses that. A part
/// is left out by its name and a reason:
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
/// What else may be said comes before `except`, in this order:
///
/// ```
/// mod linear {
///     testkit::conformance!(
///         targets::Linear,
///         "0 64 linear a 8",
///         disks { b: 40 },                // sectors, the same in all cases
///         block: [512, 4096],             // as it is without a word
///         checksums: [b],                 // a bit that is the other way round on b is noticed
///         seal: [b: |content| content[511] = 0], // makes the checksums of b right again
///         traffic: testkit::Shape { times: 2, ..testkit::Shape::default() },
///         blank { c: "is read as it is" } // zeros at first in all cases
///     );
/// }
/// ```
///
/// A target exempt from `model` is not held to its content by the other parts either. Two uses in
/// one file need a module each.
#[macro_export]
macro_rules! conformance {
    (
        $target:ty, $table:expr
        $(, disks { $($disk:ident : $size:expr),+ $(,)? })?
        $(, block: [$($block:expr),+ $(,)?])?
        $(, checksums: [$($checked:ident),+ $(,)?])?
        $(, seal: [$($sealed:ident : $seal:expr),+ $(,)?])?
        $(, traffic: $shape:expr)?
        $(, blank { $($blank:ident : $why:literal),+ $(,)? })?
        $(, except { $($part:ident : $reason:literal),+ $(,)? })?
        $(,)?
    ) => {
        fn suite() -> $crate::conformance::Suite {
            $crate::conformance::Suite::of::<$target>($table)
                .named(env!("CARGO_PKG_NAME"), module_path!())
                $($(.disk(stringify!($disk), $size))+)?
                $(.blocks(&[$($block),+]))?
                $($(.checked(stringify!($checked)))+)?
                $($(.seal(stringify!($sealed), $seal))+)?
                $(.traffic($shape))?
                $($(.blank(stringify!($blank), $why))+)?
                $($(.except(stringify!($part), $reason))+)?
        }
        $crate::conformance! { @tests
            model split reload garble flatten faults crash suspend operations messages idle
            early moving failing corrupt stack threads format speed
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

/// A case that fails.
#[derive(Clone, Debug)]
pub struct FailedCase {
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
    /// What led to it, line by line: the bios, the I/O of the disks, the power cuts.
    pub story: String,
}

impl Suite {
    /// Runs one case; a panic in it is a failure like any other.
    pub fn case(&self, part: Part, seed: u64) -> Result<(), String> {
        let _watched = watch::case(part.name(), seed, self.repeat(part, seed));
        let run = AssertUnwindSafe(|| run(part, self, seed));
        catch_unwind(run).unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&panic))))
    }

    /// Runs the part `format` once, with what is changed on the disks chosen by these bytes: for a
    /// fuzzer. A panic is passed on.
    ///
    /// # Errors
    /// What the part found.
    pub fn format(&self, bytes: &[u8]) -> Result<(), String> {
        format::format_by(self, bytes)
    }

    /// Runs the power cuts of one seed, and returns how many there were.
    pub fn crash_states(&self, seed: u64) -> Result<u64, String> {
        lives::crash(self, seed)
    }

    /// Runs the cases of some seeds until one fails.
    pub fn find(&self, part: Part, seeds: Range<u64>) -> Option<FailedCase> {
        let started = Instant::now();
        let mut cases = (1..).zip(seeds);
        cases.find_map(|(count, seed)| self.failure(part, seed, count, started))
    }

    /// Runs the cases that the stamped test of a part runs, until one fails; none of a part that is
    /// left out.
    pub fn find_by_default(&self, part: Part) -> Option<FailedCase> {
        let cases = if self.excepted(part.name()).is_some() { 0 } else { part.cases() };
        self.find(part, 0..cases)
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
                let FailedCase { seeds, why, took, repeat, story, .. } = found;
                panic!("{why}\n\n{story}\nafter {seeds} cases in {took:.1?}; to repeat:\n{repeat}");
            }
        }
        self.refusals().iter().for_each(|why| println!("{why}"));
        println!("{count} cases in {:.1?}", started.elapsed());
    }

    /// Returns the command that repeats a case.
    fn repeat(&self, part: Part, seed: u64) -> String {
        format!("{SEED}={seed} cargo test {}{} -- --exact", self.filter, part.name())
    }

    fn failure(&self, part: Part, seed: u64, seeds: u64, started: Instant) -> Option<FailedCase> {
        let why = self.case(part, seed).err()?;
        let took = started.elapsed();
        let repeat = self.repeat(part, seed);
        if part == Part::Threads {
            // Told once, it goes another way: the order of threads is the machine's.
            let story = "no story: the seed chooses disks and bios here, and the machine the order";
            let story = story.to_owned();
            return Some(FailedCase { part, seed, seeds, why, took, repeat, story });
        }
        let (again, story) = story::of(|| self.case(part, seed));
        let mut story = story.text(&why, &repeat);
        if again.as_ref() != Err(&why) {
            story.insert_str(0, "the second time the case went another way: ");
        }
        Some(FailedCase { part, seed, seeds, why, took, repeat, story })
    }
}

/// Runs one case of a part.
fn run(part: Part, suite: &Suite, seed: u64) -> Result<(), String> {
    match part {
        Part::Model => bytes::model(suite, seed),
        Part::Split => bytes::split(suite, seed),
        Part::Reload => text::reload(suite, seed),
        Part::Garble => text::garble(suite),
        Part::Flatten => bytes::flatten(suite, seed),
        Part::Faults => power::faults(suite, seed),
        Part::Crash => lives::crash(suite, seed).map(drop),
        Part::Suspend => life::suspend(suite, seed),
        Part::Operations => power::operations(suite, seed),
        Part::Messages => text::messages(suite, seed),
        Part::Idle => life::idle(suite, seed),
        Part::Early => below::early(suite, seed),
        Part::Moving => below::moving(suite, seed),
        Part::Failing => power::faults(&suite.over_mapped(), seed),
        Part::Corrupt => corrupt::corrupt(suite, seed),
        Part::Stack => below::stack(suite, seed),
        Part::Threads => machine::threads(suite, seed),
        Part::Format => format::format(suite, seed),
        Part::Speed => machine::speed(suite),
    }
}
