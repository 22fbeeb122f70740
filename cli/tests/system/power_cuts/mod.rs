//! `dmsim crash`: states of a log that the kernel wrote, judged by programs.

mod programs;
mod record;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{DMSIM, SOON, can_mount, text};

/// A log that Linux 6.12 has written; what is in it is told where the states are tested.
const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crash/tests/states/kernel.log");

/// A folder with the log.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a folder");
        fs::copy(LOG, dir.path().join("run.log")).expect("room for it");
        Place(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(DMSIM);
        command.arg("crash").args(args).current_dir(self.0.path()).env("NO_COLOR", "1");
        command.output().expect("dmsim runs")
    }

    /// Runs it, which must end with this status, and returns what it printed.
    fn ends(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).expect("text")
    }
}

/// Fails a state where the sector at 4 KiB does not begin with `c`.
const HAS_C: &str = "dd if={} bs=512 skip=8 count=1 status=none | grep -q ^c";

#[test]
fn the_moments_of_a_log_are_listed() {
    let place = Place::new();
    let told = place.ends(0, &["states", "run.log"]);
    let expected = "15 entries: 9 writes, 2 flushes, 4 marks\n\
        after 4: 3 writes can be lost, between `begin` and `one flushed`\n\
        after 10: 4 writes can be lost, between `one flushed` and `two`\n\
        after 14: 2 writes can be lost, between `two` and `dm-log-writes-end`\n\
        after 15: 2 writes can be lost, after `dm-log-writes-end`\n";
    assert_eq!(told, expected);
    let one = place.ends(0, &["states", "run.log", "--between", "one flushed", "two"]);
    assert_eq!(one.lines().count(), 2, "{one}");
    let json: Value =
        serde_json::from_str(&place.ends(0, &["states", "run.log", "--list", "--json"]))
            .expect("JSON");
    let listed = place.ends(0, &["states", "run.log", "--list"]);
    let states: Vec<&str> = json["states"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| s.as_str().expect("text"))
        .collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), states);
    assert!(states.contains(&"10-7-8") && states.contains(&"4-1"), "{states:?}");
}

#[test]
fn a_promise_that_is_kept_and_one_that_is_not() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    // What was flushed before the mark is there ever after.
    let told =
        place.ends(0, &["check", "run.log", "--between", "one flushed", "two", "--with", HAS_C]);
    assert!(told.ends_with(": none fails\n"), "{told}");
    // Before, it need not be.
    let told = place.ends(1, &["check", "run.log", "--with", HAS_C]);
    let first = "a power cut after entry 4 of 15, between the marks `begin` and `one flushed`, fails the check: exit status 1\n";
    assert!(told.starts_with(first), "{told}");
    assert!(told.contains("\n  lost: entry 3, a write of 8 KiB at sector 8\n"), "{told}");
    let again = told.lines().find_map(|line| line.strip_prefix("again:  dmsim ")).expect("a line");
    assert_eq!(again, format!("crash check run.log --state 4-3 --with '{HAS_C}'"));
    // Several states that fail, and are the same when they are shrunk, are told once.
    let within = ["check", "run.log", "--between", "begin", "one flushed", "--failures", "4"];
    let json = place.run(&[&within[..], &["--with", HAS_C, "--json"]].concat());
    let several: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let several = several["failures"].as_array().expect("a list");
    assert_eq!(several.iter().map(|story| &story["state"]).collect::<Vec<_>>(), ["4-3"]);
    // The line repeats it.
    let output = Command::new("sh")
        .args(["-c", &format!("{DMSIM} {again}")])
        .current_dir(place.0.path())
        .output()
        .expect("sh runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with(first));
    // What is kept gives the state, as does an image.
    place.ends(0, &["write", "run.log", "4-3", "state.img"]);
    let kept = place.ends(0, &["states", "run.log.failures/1.log"]);
    assert!(kept.starts_with("2 entries: 2 writes, 0 flushes, 0 marks\n"), "{kept}");
    let image = fs::read(place.path("state.img")).expect("an image");
    place.ends(0, &["write", "run.log.failures/1.log", "2", "again.img"]);
    let again = fs::read(place.path("again.img")).expect("an image");
    assert_eq!(image[..again.len()], again[..]);
    assert!(image[again.len()..].iter().all(|byte| *byte == 0));
    assert_eq!((image[0], image[4096], image[8192]), (b'a', 0, b'b'));
    place.ends(1, &["write", "run.log", "4-3", "state.img"]);
    // Torn ones, too: of 8 KiB all, or nothing, is what a disk need not keep to.
    let whole = "n=$(dd if={} bs=512 skip=8 count=16 status=none | tr -cd c | wc -c); \
                 test $n = 0 || test $n = 8192";
    let between = ["check", "run.log", "--between", "begin", "one flushed", "--with"];
    let told = place.ends(1, &[&between[..], &[whole]].concat());
    let torn = "\n  torn, with the first 1 of 16 units: entry 3, a write of 8 KiB at sector 8\n";
    assert!(told.contains(torn), "{told}");
    // But one that writes 8 KiB as one does.
    let told = place.ends(0, &[&between[..], &[whole, "--atomic", "8192"]].concat());
    assert!(told.ends_with(": none fails\n"), "{told}");
}

#[test]
fn each_state_is_written_for_itself() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let before = fs::read(place.path("run.log")).expect("a log");
    let spoil =
        "grep -q Z {} && exit 1; printf Z | dd of={} conv=notrunc status=none && grep -q Z {}";
    let json = place.ends(0, &["check", "run.log", "--json", "--jobs", "3", "--with", spoil]);
    let told: Value = serde_json::from_str(&json).expect("JSON");
    let listed = place.ends(0, &["states", "run.log", "--list"]).lines().count();
    assert_eq!(told["checked"], listed);
    assert_eq!(
        (&told["failures"], &told["interrupted"]),
        (&Value::Array(Vec::new()), &false.into())
    );
    assert!(told["lost_write_count"].as_u64().expect("a number") > 5, "{told}");
    assert_eq!(fs::read(place.path("run.log")).expect("a log"), before);
}

#[test]
fn the_command_is_told_what_was_promised() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let seen = place.path("seen");
    let with = format!(
        "echo \"$DMSIM_MARKS/$DMSIM_MARK/$(wc -l < $DMSIM_MARKS_FILE)/$DMSIM_STATE\" >> {}; test -e {{}}",
        text(&seen)
    );
    place.ends(0, &["check", "run.log", "--jobs", "1", "--with", &with]);
    let seen = fs::read_to_string(seen).expect("it was written");
    assert!(seen.contains("1/begin/4/4-1-2-3\n"), "{seen}");
    assert!(seen.contains("2/one flushed/4/10-6\n"), "{seen}");
    assert!(seen.contains("4/dm-log-writes-end/4/15\n"), "{seen}");
}

#[test]
fn a_command_that_hangs_dies_with_all_that_it_started() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let begin = Instant::now();
    let with = "sleep 1234 & sleep 1235; true {}";
    let told =
        place.ends(1, &["check", "run.log", "--timeout", "0.3", "--no-shrink", "--with", with]);
    assert!(told.contains("fails the check: did not end within 0.3 s"), "{told}");
    assert!(begin.elapsed() < SOON);
    // What it says may be anything.
    let with = "head -c 100000 /dev/zero | tr '\\0' x; test {} = no";
    let told = place.ends(1, &["check", "run.log", "--no-shrink", "--with", with]);
    assert!(told.contains(&format!("\n  | {}...\n", "x".repeat(200))), "{}", told.len());
    let left = fs::read_dir("/proc").expect("processes").flatten().any(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x001234\x00")
    });
    assert!(!left, "something that the command started is left");
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = Place::new();
    fs::write(place.path("text"), vec![b'x'; 4096]).expect("room");
    fs::write(place.path("small"), vec![0; 4096]).expect("room");
    for (code, args, expected) in [
        (1, &["states", "none"][..], "dmsim: none: No such file or directory"),
        (1, &["states", "text"], "text: no log of log-writes"),
        (1, &["states", "run.log", "--base", "small"], "it is of another device"),
        (2, &["states", "run.log", "--atomic", "700"], "multiple of 512"),
        (
            1,
            &["states", "run.log", "--between", "two", "begin"],
            "the log has no mark `begin` after the first",
        ),
        (1, &["states", "run.log", "--between", "three", "two"], "the log has no mark `three`"),
        (
            2,
            &["check", "run.log", "--with", "true"],
            "expected `{}` where the path of the state is to be",
        ),
        (2, &["check", "run.log"], "--with"),
        (
            2,
            &["check", "run.log", "--with", "true {}", "--state", "4-x"],
            "expected CUT-ENTRY-ENTRY",
        ),
        (
            1,
            &["check", "run.log", "--with", "true {}", "--state", "4-9"],
            "entry 9 is no write that can be lost at 4",
        ),
        (1, &["write", "run.log", "99", "x"], "the log has 15 entries"),
    ] {
        let told = place.ends(code, args);
        assert!(told.contains(expected), "{args:?}: {told}");
        assert!(!Path::new(&place.path("x")).exists(), "{args:?}");
    }
    if can_mount() {
        let told = place.ends(1, &["check", "run.log", "--with", "no-such-program {}"]);
        assert!(told.contains("no-such-program"), "{told}");
    }
}
