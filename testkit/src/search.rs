//! Runs a property over many generated cases; each case comes from one number that repeats it.

use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Repeats one case: its seed.
pub const SEED: &str = "DMSIM_SEED";

/// Goes on for so many seconds, whatever the number of cases.
pub const SECONDS: &str = "DMSIM_SEARCH_SECONDS";

/// Starts from another seed than 0, to search where nobody has yet.
pub const FROM: &str = "DMSIM_SEARCH_FROM";

/// How many steps proptest takes to make a failing case smaller.
const SHRINK_STEPS: u32 = 4096;

/// Checks `property` for `cases` values of `strategy`, from the seeds 0, 1, 2 and on.
///
/// The environment changes that: [`SEED`] runs the one case, [`SECONDS`] goes on for as long, and
/// [`FROM`] starts elsewhere. `test` is what `cargo test` needs to run this test alone, such as
/// `-p dmsim-testkit --test random_stacks name`.
///
/// # Panics
/// At the first case that fails, with the smallest value found that fails too, and the line
/// which repeats it.
pub fn search<S: Strategy>(
    test: &str,
    cases: u64,
    strategy: &S,
    property: impl Fn(&S::Value) -> Result<(), String>,
) where
    S::Value: Clone,
{
    each_seed(test, cases, |seed| check(seed, strategy, &property));
}

/// As [`search`], for a property that makes its case of the seed itself.
///
/// # Panics
/// At the first seed that fails, with the line which repeats it.
pub fn each_seed(test: &str, cases: u64, mut property: impl FnMut(u64) -> Result<(), String>) {
    let started = Instant::now();
    let mut count = 0;
    for seed in seeds(cases) {
        count += 1;
        if let Err(error) = property(seed) {
            panic!(
                "{error}\nafter {count} cases in {:.1?}; to repeat:\n{SEED}={seed} cargo test {test}",
                started.elapsed()
            );
        }
    }
    println!("{test}: {count} cases in {:.1?}", started.elapsed());
}

/// The seeds of a search of `cases` cases, unless the environment asks for other ones.
pub(crate) fn seeds(cases: u64) -> impl Iterator<Item = u64> {
    let started = Instant::now();
    let only = number(SEED);
    let first = only.or(number(FROM)).unwrap_or(0);
    let lasts = number(SECONDS).map(Duration::from_secs);
    let on = move |count: &u64| match (only, lasts) {
        (Some(_), _) => *count == 0,
        (None, Some(time)) => started.elapsed() < time,
        (None, None) => *count < cases,
    };
    (0..).take_while(on).map(move |count| first.wrapping_add(count))
}

/// Runs the one case of a seed.
fn check<S: Strategy>(
    seed: u64,
    strategy: &S,
    property: &impl Fn(&S::Value) -> Result<(), String>,
) -> Result<(), String>
where
    S::Value: Clone,
{
    let config = Config {
        cases: 1,
        max_shrink_iters: SHRINK_STEPS,
        // The seed repeats the case: there is nothing to keep in a file.
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let run = |value: S::Value| property(&value).map_err(TestCaseError::fail);
    match runner.run(strategy, run) {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, value)) => Err(format!("{why}\nsmallest case: {value:#?}")),
        Err(TestError::Abort(why)) => Err(format!("gave up: {why}")),
    }
}

/// Reads a number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: expected a number, found `{text}`")))
}
