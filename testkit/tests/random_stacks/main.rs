//! Random stacks of linear, striped, zero and error, four deep, against the model: bytes, errors,
//! places, flushes, bios in flight, open counts and health, through reloads and suspends.
//!
//! `DMSIM_SEARCH_SECONDS=600 cargo test -p dmsim-testkit --test random_stacks` searches for ten
//! minutes.

mod check;
mod control;
mod io;
mod plan;
mod rig;
mod tables;
mod waves;

/// Ends the case with a message when the condition does not hold.
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(format!($($message)+));
        }
    };
}
pub(crate) use ensure;

#[test]
fn random_stacks_behave_as_the_model() {
    let test = "-p dmsim-testkit --test random_stacks random_stacks_behave_as_the_model";
    testkit::search(test, 1500, &plan::cases(), |case| rig::run(case).map(drop));
}

#[test]
fn the_same_case_runs_the_same_way_twice() {
    let test = "-p dmsim-testkit --test random_stacks the_same_case_runs_the_same_way_twice";
    testkit::search(test, 50, &plan::cases(), |case| {
        let (first, second) = (rig::run(case)?, rig::run(case)?);
        ensure!(first == second, "trace digests {first:x} and {second:x}");
        Ok(())
    });
}
