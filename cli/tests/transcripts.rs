//! Replays transcripts of the real kernel and the real dmsetup, in process: what our dmsetup
//! prints, returns and logs, and what the images hold at the end, has to be equal.

#![allow(clippy::unwrap_used, reason = "a transcript that does not read is a failed test")]

#[path = "transcripts/machine.rs"]
mod machine;
#[path = "transcripts/script.rs"]
mod script;

use std::path::Path;

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
    devices_are_made_changed_and_removed_as_recorded "lifecycle-basic",
    busy_devices_are_kept_as_recorded "lifecycle-busy-and-deferred",
    concise_texts_are_read_and_written_as_recorded "lifecycle-concise",
    faults_are_told_as_recorded "lifecycle-errors",
    names_are_mangled_and_listed_as_recorded "lifecycle-names-and-listing",
}
