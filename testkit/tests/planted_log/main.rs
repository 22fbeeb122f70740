//! Bugs planted in a target with a log, each found by the conformance suite as it is stamped within
//! ten seconds; and the target without them, which passes.
//!
//! `cargo test -p dmsim-testkit --test planted_log -- --nocapture` prints the table.

mod format;
mod logged;

use std::time::{Duration, Instant};

use logged::Logged;
use testkit::conformance::{FailedCase, Part, Suite};

const TABLE: &str = "0 64 logged a 8 b 8 40";

mod without_a_bug {
    testkit::conformance!(
        crate::logged::Logged<{ crate::logged::NONE }>,
        crate::TABLE,
        checksums: [b],
        seal: [b: crate::format::seal]
    );
}

/// The most time that the default suite takes to find one bug.
const LIMIT: Duration = Duration::from_secs(10);

/// Asserts that the suite as it is stamped finds the bug, and prints a line of the table.
#[track_caller]
fn found<const BUG: u8>(test: &str) {
    let suite = Suite::of::<Logged<BUG>>(TABLE).checked("b").seal("b", format::seal);
    let started = Instant::now();
    let found = Part::ALL.into_iter().find_map(|part| suite.find_by_default(part));
    let FailedCase { part, seed, seeds, why, took, story, .. } = found.expect("nothing found");
    println!(
        "{test} | {} | seed {seed}, after {seeds} | {:.1} ms, with the parts before it {:.1?}\n    {}\n{story}",
        part.name(),
        took.as_secs_f64() * 1000.0,
        started.elapsed(),
        why.replace('\n', "\n    ")
    );
    // One that does not even come up was sent no bio.
    let has_bios = story.contains("  bio ") || why.starts_with("resume: ");
    assert!(has_bios && story.contains("  >> "), "{test}: {story}");
    assert!(story.lines().count() < 150, "{test}: nobody reads that in a minute: {story}");
    assert!(took < LIMIT, "{test}: took {took:?}");
    assert_eq!(suite.case(part, seed), Err(why), "{test}: the seed repeats it");
}

macro_rules! planted {
    ($($name:ident: $bug:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                found::<{ logged::$bug }>(stringify!($name));
            }
        )+
    };
}

planted! {
    a_write_without_fua_is_found: NO_FUA,
    a_flush_that_does_nothing_is_found: NO_FLUSH,
    a_flush_of_the_wrong_device_is_found: WRONG_DEVICE_FLUSHED,
    an_early_end_is_found: EARLY_ACK,
    unordered_appends_are_found: UNORDERED_APPENDS,
    a_superblock_without_fua_is_found: SUPER_WITHOUT_FUA,
    a_race_with_a_reader_is_found: READER_RACE,
    a_map_before_the_write_is_found: MAP_BEFORE_WRITE,
    a_superblock_in_doubt_is_found: SUPER_IN_DOUBT,
    a_stale_record_is_found: STALE_RECORD,
    a_header_that_is_not_checked_is_found: HEADER_SUM_IGNORED,
    data_that_is_not_checked_is_found: DATA_SUM_IGNORED,
    a_recovery_in_place_is_found: RECOVERY_IN_PLACE,
    a_renewal_without_a_flush_is_found: RENEWAL_WITHOUT_FLUSH,
    blocks_that_are_taken_for_512_bytes_are_found: SMALL_BLOCKS,
}

/// What is not checked is found by bits that are the other way round alone, too.
#[test]
fn changed_bits_are_found_where_nothing_is_checked() {
    fn found<const BUG: u8>() -> Option<FailedCase> {
        Suite::of::<Logged<BUG>>(TABLE).checked("b").find_by_default(Part::Corrupt)
    }
    assert!(found::<{ logged::HEADER_SUM_IGNORED }>().is_some(), "headers");
    assert!(found::<{ logged::DATA_SUM_IGNORED }>().is_some(), "data");
}

/// Behind checksums that are right, which a reader takes for a reason to believe.
#[test]
fn fields_that_are_not_checked_are_found() {
    fn found<const BUG: u8>() -> Option<FailedCase> {
        let suite = Suite::of::<Logged<BUG>>(TABLE).seal("b", format::seal);
        suite.find_by_default(Part::Format)
    }
    let found = found::<{ logged::FIELDS_TRUSTED }>().expect("nothing found");
    assert!(found.why.contains("panicked") && found.took < LIMIT, "{found:?}");
    assert!(found.story.contains("changed now: "), "{}", found.story);
    // Without the seal it is the checksum that refuses it.
    let suite = Suite::of::<Logged<{ logged::FIELDS_TRUSTED }>>(TABLE);
    assert!(suite.find_by_default(Part::Format).is_none());
}
