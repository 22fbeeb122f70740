//! Bugs planted in a target, each found by the conformance suite within ten seconds; and the
//! target without them, which passes. No part of the suite is without a bug that it finds.
//!
//! `cargo test -p dmsim-testkit --test planted -- --nocapture` prints the table.

mod lock;
mod shadow;
mod slots;

use std::time::Duration;

use shadow::Shadow;
use slots::Slots;
use testkit::conformance::{FailedCase, Part, Suite};

const TABLE: &str = "0 64 shadow a 8";

mod without_a_bug {
    testkit::conformance!(crate::shadow::Shadow<{ crate::shadow::NONE }>, "0 64 shadow a 8");
}

/// The most seeds of a part that a search tries.
const SEEDS: u64 = 200;

/// The most time that finding one bug takes.
const LIMIT: Duration = Duration::from_secs(10);

/// Asserts that a part finds the bug, and prints a line of the table.
#[track_caller]
fn finds<const BUG: u8>(test: &str, part: Part) {
    let suite = Suite::of::<Shadow<BUG>>(TABLE);
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match (number(testkit::SEED), number(testkit::FROM)) {
        (Some(seed), _) => seed..seed + 1,
        (None, from) => from.unwrap_or(0)..from.unwrap_or(0) + SEEDS,
    };
    let found = suite.find(part, seeds).unwrap_or_else(|| panic!("{test}: nothing found"));
    let FailedCase { seed, seeds, why, took, .. } = found;
    println!(
        "{test} | {} | after {seeds} seeds | {:.1} ms | {}={seed} cargo test -p dmsim-testkit \
         --test planted {test} -- --nocapture\n    {}",
        part.name(),
        took.as_secs_f64() * 1000.0,
        testkit::SEED,
        why.replace('\n', "\n    ")
    );
    assert!(took < LIMIT, "{test}: took {took:?}");
    assert_eq!(suite.case(part, seed), Err(why), "{test}: the seed repeats it");
}

#[test]
fn a_lost_flush_is_found() {
    finds::<{ shadow::LOST_FLUSH }>("a_lost_flush_is_found", Part::Operations);
}

#[test]
fn a_flush_before_the_data_is_found() {
    finds::<{ shadow::FLUSH_BEFORE_DATA }>("a_flush_before_the_data_is_found", Part::Crash);
}

#[test]
fn an_ack_before_the_commit_is_found() {
    finds::<{ shadow::ACK_BEFORE_COMMIT }>("an_ack_before_the_commit_is_found", Part::Crash);
}

#[test]
fn off_by_one_at_a_split_is_found() {
    finds::<{ shadow::OFF_BY_ONE_AT_A_SPLIT }>("off_by_one_at_a_split_is_found", Part::Split);
}

#[test]
fn a_race_of_two_writers_of_a_chunk_is_found() {
    finds::<{ shadow::RACE_OF_TWO_WRITERS }>(
        "a_race_of_two_writers_of_a_chunk_is_found",
        Part::Model,
    );
}

#[test]
fn a_lost_wake_up_is_found() {
    finds::<{ shadow::LOST_WAKE_UP }>("a_lost_wake_up_is_found", Part::Model);
}

#[test]
fn a_wrong_sector_after_a_reload_is_found() {
    finds::<{ shadow::WRONG_SECTOR_AFTER_RELOAD }>(
        "a_wrong_sector_after_a_reload_is_found",
        Part::Reload,
    );
}

#[test]
fn a_stale_read_during_a_copy_is_found() {
    finds::<{ shadow::STALE_READ_DURING_A_COPY }>(
        "a_stale_read_during_a_copy_is_found",
        Part::Model,
    );
}

#[test]
fn metadata_torn_across_two_sectors_is_found() {
    finds::<{ shadow::TORN_METADATA }>("metadata_torn_across_two_sectors_is_found", Part::Crash);
}

#[test]
fn an_error_swallowed_is_found() {
    finds::<{ shadow::ERROR_SWALLOWED }>("an_error_swallowed_is_found", Part::Faults);
}

#[test]
fn an_error_without_a_name_is_found() {
    finds::<{ shadow::NAMELESS_ERROR }>("an_error_without_a_name_is_found", Part::Garble);
}

#[test]
fn a_map_that_flattens_elsewhere_is_found() {
    finds::<{ shadow::FLATTENS_ELSEWHERE }>(
        "a_map_that_flattens_elsewhere_is_found",
        Part::Flatten,
    );
}

#[test]
fn a_message_out_of_bounds_is_found() {
    finds::<{ shadow::MESSAGE_OUT_OF_BOUNDS }>("a_message_out_of_bounds_is_found", Part::Messages);
}

#[test]
fn a_lock_kept_by_a_dropped_bio_is_found() {
    finds::<{ shadow::LOCK_KEPT_BY_A_DROPPED_BIO }>(
        "a_lock_kept_by_a_dropped_bio_is_found",
        Part::Idle,
    );
}

#[test]
fn a_text_of_another_table_is_found() {
    finds::<{ shadow::SHOWS_ANOTHER_TABLE }>("a_text_of_another_table_is_found", Part::Reload);
}

#[test]
fn an_io_after_the_suspend_is_found() {
    finds::<{ shadow::ACK_BEFORE_COMMIT }>("an_io_after_the_suspend_is_found", Part::Suspend);
}

#[test]
fn a_recovery_that_cannot_be_cut_off_is_found() {
    finds::<{ shadow::RECOVERY_ERASES_FIRST }>(
        "a_recovery_that_cannot_be_cut_off_is_found",
        Part::Crash,
    );
}

#[test]
fn a_size_that_is_kept_from_before_is_found() {
    finds::<{ shadow::KEEPS_THE_SIZE_BELOW }>(
        "a_size_that_is_kept_from_before_is_found",
        Part::Early,
    );
}

#[test]
fn a_target_that_does_not_wait_for_a_suspended_device_is_found() {
    finds::<{ shadow::IMPATIENT }>(
        "a_target_that_does_not_wait_for_a_suspended_device_is_found",
        Part::Moving,
    );
}

#[test]
fn a_target_in_a_stack_that_does_not_wait_for_a_suspended_device_is_found() {
    finds::<{ shadow::IMPATIENT }>(
        "a_target_in_a_stack_that_does_not_wait_for_a_suspended_device_is_found",
        Part::Stack,
    );
}

#[test]
fn an_error_swallowed_over_mapped_devices_is_found() {
    finds::<{ shadow::ERROR_SWALLOWED }>(
        "an_error_swallowed_over_mapped_devices_is_found",
        Part::Failing,
    );
}

/// Between two instructions: no schedule of the seeded executor finds it, as nothing waits there.
#[test]
fn a_slot_that_two_writers_take_is_found_by_threads_alone() {
    let table = "0 64 slots a 8";
    let suite = Suite::of::<Slots<true>>(table);
    assert!(suite.find(Part::Model, 0..SEEDS).is_none());
    if std::thread::available_parallelism().is_ok_and(|count| count.get() == 1) {
        return println!("skipped: threads need two processors to meet between two instructions");
    }
    let found = suite.find(Part::Threads, 0..SEEDS).expect("threads find it");
    println!("after {} seeds, {:.1?}: {}", found.seeds, found.took, found.why);
    assert!(found.why.contains("read"), "{found:?}");
    assert!(Suite::of::<Slots<false>>(table).find(Part::Threads, 0..found.seeds.max(20)).is_none());
}
