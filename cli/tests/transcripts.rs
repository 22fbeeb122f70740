//! Replays transcripts of the real kernel and the real dmsetup, in process: what our dmsetup
//! prints, returns and logs, and what the images hold at the end, has to be equal.

#![allow(clippy::unwrap_used, reason = "a transcript that does not read is a failed test")]

#[path = "transcripts/machine.rs"]
mod machine;
#[path = "transcripts/script.rs"]
mod script;

use std::path::Path;

use dmsim_cli::dmsetup::Called;
use machine::Machine;
use script::{Outcome, Step, parse};

/// What cannot be equal: the case, the command, which of its kind in the case, and why.
const NOT_EQUAL: &[(&str, &str, usize, &str)] = &[(
    "lifecycle-names-and-listing",
    "ls /dev/mapper",
    1,
    "libdm had made nodes of its own under names that it then did not know any more",
)];

fn replay(case: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(case);
    let text = std::fs::read_to_string(dir.join("transcript")).expect("the transcript");
    let mut machine = Machine::new();
    let mut differences = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for step in parse(&text) {
        match step {
            Step::Image { name, minor, sectors, fill } => {
                machine.attach(&name, minor, sectors, fill);
            }
            Step::Run { line, outcome, probe } => {
                let nth = seen.iter().filter(|before| **before == line).count();
                seen.push(line.clone());
                let got = machine.run(&line, probe);
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
    devices_are_made_changed_and_removed_as_recorded "lifecycle-basic",
    busy_devices_are_kept_as_recorded "lifecycle-busy-and-deferred",
    concise_texts_are_read_and_written_as_recorded "lifecycle-concise",
    faults_are_told_as_recorded "lifecycle-errors",
    names_are_mangled_and_listed_as_recorded "lifecycle-names-and-listing",
    reports_and_trees_are_laid_out_as_recorded "dmsetup-reports",
    selections_are_read_as_recorded "dmsetup-selection",
    verbs_take_their_words_as_recorded "dmsetup-verbs",
}

#[test]
fn dmsim_points_at_the_word_at_fault() {
    let mut machine = Machine::new();
    machine.attach("a", 0, 4096, None);
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
    machine.attach("a", 0, 4096, None);
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
