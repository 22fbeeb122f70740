//! Replays transcripts of the real kernel and the real dmsetup, in process: what our dmsetup
//! prints, returns and logs, and what the images hold at the end, has to be equal.

#![allow(clippy::unwrap_used, reason = "a transcript that does not read is a failed test")]

#[path = "transcripts/machine.rs"]
mod machine;
#[path = "transcripts/script.rs"]
mod script;

use std::path::Path;
use std::time::{Duration, Instant};

use dmsim_cli::dmsetup::Called;
use machine::Machine;
use script::{Image, Outcome, Step, parse};

/// What cannot be equal: the case, the command, which of its kind in the case, and why.
const NOT_EQUAL: &[(&str, &str, usize, &str)] = &[
    (
        "lifecycle-names-and-listing",
        "ls /dev/mapper",
        1,
        "libdm had made nodes of its own under names that it then did not know any more",
    ),
    (
        "snapshot-bad",
        "dmsetup create bad --table '0 2048 snapshot /dev/loop0 /dev/loop0 P 8'",
        0,
        "the kernel gives the device up twice, and logs the bytes of a name that is gone",
    ),
];

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
    for step in parse(&text) {
        match step {
            Step::Image(image) => machine.attach(&image),
            Step::Run { line, outcome, probe } => {
                let nth = seen.iter().filter(|before| **before == line).count();
                seen.push(line.clone());
                let mut got = machine.run(&line, probe);
                // What goes on in the background may lag behind what was recorded.
                let asked = Instant::now();
                while let Some(own) = got.as_mut().filter(|own| !equal(own, &outcome))
                    && asked.elapsed() < patience
                {
                    std::thread::sleep(Duration::from_millis(5));
                    match is_report(&line) {
                        true => got = machine.run(&line, probe),
                        false => own.kernel.extend(machine.log()),
                    }
                }
                if got.as_ref().is_some_and(|own| !equal(own, &outcome)) {
                    patience = Duration::ZERO;
                }
                if line.starts_with("dmsetup resume ") {
                    // The kernel's background work had the time that a command takes in the guest.
                    std::thread::sleep(Duration::from_millis(10));
                }
                let excused = |known: &&(&str, &str, usize, &str)| {
                    (known.0, known.1, known.2) == (case, line.as_str(), nth)
                };
                if let Some(got) = got
                    && NOT_EQUAL.iter().find(excused).is_none()
                    && !equal(&got, &outcome)
                {
                    differences.push(format!("$ {line}\nkernel: {outcome:#?}\nours: {got:#?}"));
                }
            }
        }
    }
    let images = std::fs::read_to_string(dir.join("images")).unwrap_or_default();
    for image in images.lines() {
        let [name, size, sha256] = image.split(' ').collect::<Vec<_>>()[..] else {
            panic!("a line of images: {image}")
        };
        let (got_size, got) = machine.digest(name);
        if (size, sha256) != (got_size.to_string().as_str(), got.as_str()) {
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

/// Tells whether a command only asks how things are.
fn is_report(line: &str) -> bool {
    ["dmsetup status ", "dmsetup info ", "get "].iter().any(|verb| line.starts_with(verb))
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
    devices_are_made_changed_and_removed_as_recorded "lifecycle-basic",
    busy_devices_are_kept_as_recorded "lifecycle-busy-and-deferred",
    concise_texts_are_read_and_written_as_recorded "lifecycle-concise",
    faults_are_told_as_recorded "lifecycle-errors",
    names_are_mangled_and_listed_as_recorded "lifecycle-names-and-listing",
    reports_and_trees_are_laid_out_as_recorded "dmsetup-reports",
    selections_are_read_as_recorded "dmsetup-selection",
    verbs_take_their_words_as_recorded "dmsetup-verbs",
}

/// An image of zeros.
fn small() -> Image {
    Image { name: "a".to_owned(), minor: 0, sectors: 4096, fill: None, block: 512 }
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
