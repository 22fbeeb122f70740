//! Replays transcripts of the real kernel and the real dmsetup, in process: what our dmsetup
//! prints, returns and logs, and what the images hold at the end, has to be equal.

#![allow(clippy::unwrap_used, reason = "a transcript that does not read is a failed test")]

#[path = "../../targets/tests/data/images.rs"]
mod images;
#[path = "transcripts/loops.rs"]
mod loops;
#[path = "transcripts/machine.rs"]
mod machine;
#[path = "transcripts/not_equal.rs"]
mod not_equal;
#[path = "transcripts/page.rs"]
mod page;
#[path = "transcripts/real.rs"]
mod real;
#[path = "transcripts/script.rs"]
mod script;

use std::path::Path;
use std::time::{Duration, Instant};

use dmsim_cli::dmsetup::Called;
use machine::Machine;
use not_equal::NOT_EQUAL;
use script::{Image, Outcome, Step, parse};

/// How long a report may differ because of what goes on in the background; after one that stays
/// different, no time.
const PATIENCE: Duration = Duration::from_secs(8);

fn replay(case: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(case);
    let text = std::fs::read_to_string(dir.join("transcript")).expect("the transcript");
    let mut machine = Machine::new();
    let mut differences = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let mut patience = PATIENCE;
    let images = std::fs::read_to_string(dir.join("images")).unwrap_or_default();
    for step in parse(&text) {
        match step {
            Step::Image(image) => machine.attach(&image),
            Step::Run { line, outcome, probe } => {
                let nth = seen.iter().filter(|before| **before == line).count();
                seen.push(line.clone());
                let mut got = machine.run(&line, probe);
                let goes_on = case.starts_with("mirror") && changes_tables(&line)
                    || case.starts_with("raid")
                        && (changes_tables(&line) || line.contains(" message "));
                if goes_on {
                    wait_for_resync(&mut machine);
                    got.as_mut().expect("a command of ours").kernel.extend(machine.log());
                }
                if let Some(name) =
                    line.strip_prefix("keep ").and_then(|rest| rest.split(' ').next())
                {
                    wait_for(&mut machine, name, &line, &images);
                }
                if let Some(got) = got.as_mut().filter(|_| outcome.ended.is_some()) {
                    got.ended = machine.background_status();
                }
                if case.starts_with("raid") && line.starts_with("put /dev/mapper/r ") {
                    // So long that the set is called clean, as in the guest.
                    std::thread::sleep(Duration::from_millis(230));
                }
                if case == "mirror-log-fails" && !is_report(&line) {
                    // So long that regions are clean, as they are at once in the kernel.
                    std::thread::sleep(Duration::from_millis(450));
                }
                // What goes on in the background may lag behind what was recorded.
                let asked = Instant::now();
                while let Some(own) = got.as_mut().filter(|own| !equal(own, &outcome))
                    && !is_excused(case, &line, nth)
                    && asked.elapsed() < patience
                {
                    std::thread::sleep(Duration::from_millis(5));
                    match is_report(&line) {
                        true => got = machine.run(&line, probe),
                        false => own.kernel.extend(machine.log()),
                    }
                }
                let excused = is_excused(case, &line, nth);
                if !excused && got.as_ref().is_some_and(|own| !equal(own, &outcome)) {
                    patience = Duration::ZERO;
                }
                if line.starts_with("dmsetup resume ") {
                    // The kernel's background work had the time that a command takes in the guest.
                    std::thread::sleep(Duration::from_millis(10));
                }
                if let Some(got) = got
                    && !is_excused(case, &line, nth)
                    && !equal(&got, &outcome)
                {
                    differences
                        .push(format!("$ {line} ({nth})\nkernel: {outcome:#?}\nours: {got:#?}"));
                }
            }
        }
    }
    for image in images.lines() {
        let [name, size, sha256] = image.split(' ').collect::<Vec<_>>()[..] else {
            panic!("a line of images: {image}")
        };
        let (got_size, got) = machine.digest(name);
        let same = (size, sha256) == (got_size.to_string().as_str(), got.as_str());
        if !same && !is_excused(case, name, 0) {
            differences.push(format!("image {name}: {sha256} ({size}), ours {got} ({got_size})"));
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// Tells whether something need not be equal.
fn is_excused(case: &str, line: &str, nth: usize) -> bool {
    let mut known = NOT_EQUAL.iter().filter(|known| known.case == case);
    known.any(|known| {
        assert!(!known.why.is_empty());
        known.what.iter().any(|(known, which)| *known == line && which.contains(&nth))
    })
}

/// Keeps an image again until it is as recorded: its log may be written in the background.
fn wait_for(machine: &mut Machine, name: &str, line: &str, images: &str) {
    let asked = Instant::now();
    let recorded = |(size, hash): (u64, String)| images.contains(&format!("{name} {size} {hash}"));
    while !recorded(machine.digest(name)) && asked.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(10));
        machine.run(line, false);
    }
}

/// Tells whether the guest waited after this command until mirrors were in sync, or as far as they
/// got.
fn changes_tables(line: &str) -> bool {
    ["dmsetup create ", "dmsetup resume "].iter().any(|verb| line.starts_with(verb))
}

fn wait_for_resync(machine: &mut Machine) {
    let (mut status, mut quiet) = (None, 0);
    while quiet < 10 {
        std::thread::sleep(Duration::from_millis(5));
        let now = machine.dmsetup(Called::Dmsetup, &["status"], "");
        quiet = if status.as_ref() == Some(&now) { quiet + 1 } else { 0 };
        status = Some(now);
    }
}

/// Tells whether a command only asks how things are.
fn is_report(line: &str) -> bool {
    ["dmsetup status ", "dmsetup info ", "dmsetup measure ", "get "]
        .iter()
        .any(|verb| line.starts_with(verb))
}

fn equal(got: &Outcome, recorded: &Outcome) -> bool {
    // The recording dropped empty lines at the end of an output.
    let trimmed = |outcome: &Outcome| Outcome {
        stdout: outcome.stdout.trim_end_matches('\n').to_owned(),
        ..outcome.clone()
    };
    trimmed(got) == trimmed(recorded)
}

macro_rules! transcripts {
    ($($test:ident $case:literal,)*) => {
        $(#[test] fn $test() { replay($case); })*

        const REPLAYED: &[&str] = &[$($case),*];
    };
}

transcripts! {
    linear_devices_map_as_recorded "linear-basic",
    bad_linear_tables_are_refused_as_recorded "linear-bad",
    striped_devices_map_as_recorded "striped-two-16",
    bad_striped_tables_are_refused_as_recorded "striped-bad",
    zero_devices_read_as_recorded "zero-basic",
    bad_zero_tables_are_refused_as_recorded "zero-bad",
    error_devices_fail_as_recorded "error-basic",
    bad_error_tables_are_refused_as_recorded "error-bad",
    sectors_are_encrypted_as_recorded "crypt-xts-512",
    sectors_are_chained_as_recorded "crypt-cbc",
    options_of_crypt_are_taken_as_recorded "crypt-options",
    bad_crypt_tables_are_refused_as_recorded "crypt-bad",
    keys_are_set_and_wiped_as_recorded "crypt-messages",
    arguments_of_crypt_are_read_as_recorded "crypt-arguments",
    exceptions_of_a_snapshot_are_kept_as_recorded "snapshot-persistent-8",
    a_snapshot_may_be_forgotten_as_recorded "snapshot-transient",
    a_snapshot_is_merged_as_recorded "snapshot-merge",
    bad_snapshot_tables_are_refused_as_recorded "snapshot-bad",
    more_bad_snapshot_tables_are_refused_as_recorded "snapshot-bad-more",
    areas_in_order_are_written_as_recorded "snapshot-areas-sequential",
    areas_backwards_are_written_as_recorded "snapshot-areas-reverse",
    areas_out_of_order_are_written_as_recorded "snapshot-areas-scattered",
    discards_of_snapshots_do_as_recorded "snapshot-discard",
    discards_of_merges_do_as_recorded "snapshot-discard-merge",
    a_store_without_room_for_an_area_fails_as_recorded "snapshot-exact-fill",
    stores_are_handed_over_as_recorded "snapshot-handover",
    stores_are_handed_over_in_odd_orders_as_recorded "snapshot-handover-odd",
    stores_are_handed_over_to_merges_as_recorded "snapshot-handover-merge",
    invalid_snapshots_stay_invalid_as_recorded "snapshot-invalid",
    merges_fail_as_recorded "snapshot-merge-errors",
    failing_stores_are_invalidated_as_recorded "snapshot-errors",
    merges_spare_other_snapshots_as_recorded "snapshot-merge-others",
    snapshots_are_used_oddly_as_recorded "snapshot-odd-uses",
    several_snapshots_have_one_origin_as_recorded "snapshot-several",
    full_stores_overflow_as_recorded "snapshot-overflow",
    full_stores_are_invalidated_as_recorded "snapshot-overflow-origin",
    bad_counts_of_raid_are_refused_as_recorded "raid-bad-counts",
    bad_parameters_of_raid_are_refused_as_recorded "raid-bad-params",
    bad_regions_of_raid_are_refused_as_recorded "raid-bad-regions",
    bad_lines_of_raid0_are_refused_as_recorded "raid-bad-raid0",
    bad_lines_of_raid10_are_refused_as_recorded "raid-bad-raid10",
    raid1_is_checked_and_repaired_as_recorded "raid-1-checks",
    raid1_loses_legs_and_gets_them_back_as_recorded "raid-1-legs",
    raid1_starts_as_recorded "raid-1-start",
    raid5_is_laid_out_as_recorded "raid-5-layouts",
    more_of_raid5_is_laid_out_as_recorded "raid-5-layouts-more",
    limits_of_raid5_are_as_recorded "raid-5-limits",
    raid5_starts_as_recorded "raid-5-start",
    raid6_is_laid_out_as_recorded "raid-6-layouts",
    more_of_raid6_is_laid_out_as_recorded "raid-6-layouts-more",
    raid6_starts_as_recorded "raid-6-start",
    raid5_is_checked_and_repaired_as_recorded "raid-5-checks",
    raid6_is_checked_and_repaired_as_recorded "raid-6-checks",
    bad_counts_of_raid5_are_refused_as_recorded "raid-bad-raid5-counts",
    other_bad_lines_of_raid5_are_refused_as_recorded "raid-bad-raid5-others",
    bad_parameters_of_raid5_are_refused_as_recorded "raid-bad-raid5-params",
    raid5_loses_legs_and_gets_them_back_as_recorded "raid-5-legs",
    raid6_loses_legs_and_gets_them_back_as_recorded "raid-6-legs",
    a_journal_of_raid5_is_kept_as_recorded "raid-5-journal",
    bad_journals_of_raid5_are_refused_as_recorded "raid-bad-journal",
    a_journal_of_raid5_fails_as_recorded "raid-5-journal-fails",
    raid5_gets_legs_as_recorded "raid-5-grow",
    raid5_gives_legs_up_as_recorded "raid-5-shrink",
    raid5_changes_its_layout_as_recorded "raid-5-layout-change",
    raid5_gets_a_second_parity_as_recorded "raid-takeover-q",
    sets_of_two_legs_change_level_as_recorded "raid-takeover-two-legs",
    raid0_gets_parity_as_recorded "raid-takeover-up",
    raid6_gives_parity_up_as_recorded "raid-takeover-z-down",
    what_raid0_becomes_is_loaded_as_recorded "raid-takeover-tables-1",
    raid1_gets_legs_and_gives_them_up_as_recorded "raid-1-grow",
    raid10_gets_legs_as_recorded "raid-10-grow",
    raid10_is_reshaped_as_recorded "raid-10-reshape",
    raid10_near_is_laid_out_as_recorded "raid-10-near",
    raid10_far_is_laid_out_as_recorded "raid-10-far",
    raid10_offset_is_laid_out_as_recorded "raid-10-offset",
    bad_counts_of_multipath_are_refused_as_recorded "multipath-bad-counts",
    bad_features_of_multipath_are_refused_as_recorded "multipath-bad-features",
    bad_selectors_of_multipath_are_refused_as_recorded "multipath-bad-selectors",
    handlers_of_multipath_are_refused_as_recorded "multipath-bad-handlers",
    multipath_tables_are_shown_as_recorded "multipath-accepted",
    devices_for_requests_are_stacked_as_recorded "multipath-types",
    paths_fail_and_come_back_as_recorded "multipath-paths-bio",
    paths_of_requests_fail_as_recorded "multipath-paths-rq",
    messages_to_multipath_do_as_recorded "multipath-messages",
    groups_take_turns_as_recorded "multipath-groups-order",
    groups_are_used_as_recorded "multipath-groups",
    bios_wait_for_a_path_as_recorded "multipath-queueing-bio",
    requests_wait_for_a_path_as_recorded "multipath-queueing-rq",
    selectors_choose_as_recorded "multipath-selectors",
    multipath_is_suspended_as_recorded "multipath-suspended",
    bad_unstriped_tables_are_refused_as_recorded "unstriped-bad",
    a_stripe_is_shown_as_recorded "unstriped-basic",
    odd_stripes_are_shown_as_recorded "unstriped-odd",
    bad_switch_tables_are_refused_as_recorded "switch-bad",
    regions_go_by_their_paths_as_recorded "switch-basic",
    messages_switch_regions_as_recorded "switch-messages",
    bad_delay_tables_are_refused_as_recorded "delay-bad",
    delayed_bios_go_where_recorded "delay-basic",
    bios_are_held_and_let_go_as_recorded "delay-held",
    bad_flakey_tables_are_refused_as_recorded "flakey-bad",
    flakey_devices_fail_as_recorded "flakey-features",
    flakey_devices_are_down_as_recorded "flakey-down",
    bad_dust_tables_are_refused_as_recorded "dust-bad",
    bad_blocks_come_and_go_as_recorded "dust-basic",
    large_bad_blocks_come_and_go_as_recorded "dust-blocks",
    bad_log_writes_tables_are_refused_as_recorded "log-writes-bad",
    writes_are_logged_as_recorded "log-writes-basic",
    writes_of_a_later_target_are_logged_as_recorded "log-writes-begins-later",
    a_log_is_full_as_recorded "log-writes-full",
    large_blocks_are_logged_as_recorded "log-writes-large-blocks",
    logs_are_in_order_as_recorded "log-writes-order",
    bad_ebs_tables_are_refused_as_recorded "ebs-bad",
    blocks_are_emulated_as_recorded "ebs-basic",
    blocks_of_all_sizes_are_emulated_as_recorded "ebs-sizes",
    a_mirror_is_resynced_as_recorded "mirror-core-sync",
    the_log_of_a_mirror_is_kept_as_recorded "mirror-disk-log",
    logs_are_taken_over_as_recorded "mirror-log-states",
    a_leg_fails_as_recorded "mirror-leg-fails",
    the_second_leg_fails_as_recorded "mirror-one-leg-dead",
    the_first_leg_fails_as_recorded "mirror-primary-dead",
    a_write_finds_a_bad_leg_as_recorded "mirror-primary-write-first",
    logs_fail_as_recorded "mirror-log-fails",
    writes_out_of_sync_do_as_recorded "mirror-out-of-sync",
    resyncs_fail_as_recorded "mirror-sync-error",
    reads_of_resyncs_fail_as_recorded "mirror-sync-read-error",
    three_legs_do_as_recorded "mirror-three-legs",
    legs_are_discarded_as_recorded "mirror-discard",
    bad_mirror_tables_are_refused_as_recorded "mirror-bad",
    more_bad_mirror_tables_are_refused_as_recorded "mirror-bad-more",
    devices_are_made_changed_and_removed_as_recorded "lifecycle-basic",
    busy_devices_are_kept_as_recorded "lifecycle-busy-and-deferred",
    concise_texts_are_read_and_written_as_recorded "lifecycle-concise",
    faults_are_told_as_recorded "lifecycle-errors",
    names_are_mangled_and_listed_as_recorded "lifecycle-names-and-listing",
    statistics_are_kept_as_recorded "lifecycle-stats",
    messages_about_statistics_are_answered_as_recorded "lifecycle-stats-messages",
    regions_are_made_and_listed_as_recorded "dmstats-verbs",
    regions_are_grouped_as_recorded "dmstats-groups",
    statistics_are_reported_as_recorded "dmstats-reports",
    reports_and_trees_are_laid_out_as_recorded "dmsetup-reports",
    trees_are_cut_as_recorded "dmsetup-tree",
    selections_are_read_as_recorded "dmsetup-selection",
    verbs_take_their_words_as_recorded "dmsetup-verbs",
    wrong_words_are_refused_as_recorded "dmsetup-words",
    options_of_dmsetup_do_as_recorded "dmsetup-options",
    verbs_act_on_what_is_selected_as_recorded "dmsetup-acts",
    targets_are_measured_as_recorded "dmsetup-measure",
}

#[test]
fn a_bio_that_is_handed_back_waits_for_the_resume_whoever_is_faster() {
    let mut machine = Machine::new();
    machine.attach(&small());
    let run = |machine: &mut Machine, line: &str| {
        let ran = machine.run(line, false).expect("a command of ours");
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{line}");
    };
    let mirror = "mirror core 2 512 nosync 2 /dev/loop0 0 /dev/mapper/broken 0 1 handle_errors";
    run(&mut machine, "dmsetup create broken --table '0 1024 error'");
    for round in 0..20 {
        run(&mut machine, &format!("dmsetup create m --table '0 1024 {mirror}'"));
        run(&mut machine, "put /dev/mapper/m 0 8 0 (in the background)");
        run(&mut machine, "dmsetup load m --table '0 1024 linear /dev/loop0 0'");
        run(&mut machine, "dmsetup suspend --noflush m");
        run(&mut machine, "dmsetup resume m");
        assert_eq!(machine.background_status(), Some(0), "round {round}");
        run(&mut machine, "dmsetup remove m");
    }
}

/// An image of zeros.
fn small() -> Image {
    Image {
        name: "a".to_owned(),
        minor: 0,
        sectors: 4096,
        fill: None,
        block: 512,
        read_only: false,
    }
}

#[test]
fn dmsim_points_at_the_word_at_fault() {
    let mut machine = Machine::new();
    machine.attach(&small());
    let text = "# a table\n0 1024 linear /dev/loop0 x";
    let told = machine.dmsetup(Called::Dmsim, &["create", "bad", "--table", text], "");
    assert_eq!(told.status, 1);
    let mut lines = told.stderr.lines();
    let head = lines.next().unwrap();
    assert!(head.starts_with("dmsim: create bad: table line 2: linear: argument 2: "), "{head}");
    assert!(head.ends_with(": Invalid device sector"), "{head}");
    assert_eq!(lines.next(), Some("  0 1024 linear /dev/loop0 x"));
    assert_eq!(lines.next(), Some("                           ^"));
    let told = machine.dmsetup(Called::Dmsim, &["ls", "--bogus"], "");
    assert_eq!(
        (told.stderr.as_str(), told.status),
        ("dmsim: usage: unrecognized option '--bogus'\n", 2)
    );
    let told = machine.dmsetup(Called::Dmsim, &["table", "nosuch"], "");
    assert_eq!((told.stderr.as_str(), told.status), ("dmsim: table nosuch: no such device\n", 1));
}

#[test]
fn every_recorded_case_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    for entry in std::fs::read_dir(folder).expect("the cases") {
        let entry = entry.expect("a case");
        let case = entry.file_name().into_string().expect("a name");
        let is_case = entry.path().join("transcript").exists();
        assert!(!is_case || REPLAYED.contains(&&*case), "{case}: no test replays it");
    }
}

#[test]
fn dmsim_reports_as_json() {
    let mut machine = Machine::new();
    machine.attach(&small());
    let table = "0 1024 linear /dev/loop0 16";
    machine.dmsetup(Called::Dmsim, &["create", "d", "--table", table], "");
    let json = |args: &[&str]| {
        let said = machine.dmsetup(Called::Dmsim, args, "").stdout;
        serde_json::from_str::<serde_json::Value>(&said).expect("JSON")
    };
    let targets = serde_json::json!([{ "name": "d", "targets": [
        { "start": 0, "len": 1024, "type": "linear", "params": "7:0 16" },
    ]}]);
    assert_eq!(json(&["table", "--json"]), targets);
    let deps = serde_json::json!([{ "name": "d", "deps": [
        { "major": 7, "minor": 0, "name": "loop0" },
    ]}]);
    assert_eq!(json(&["deps", "--json"]), deps);
    assert_eq!(json(&["ls", "--json"])[0]["name"], "d");
    assert_eq!(json(&["version", "--json"])["driver"], "4.48.0");
    assert!(json(&["targets", "--json"]).as_array().unwrap().len() >= 4);
    assert_eq!(json(&["status", "--json"])[0]["targets"][0]["type"], "linear");
}
