//! The recorded commands of dmsetup, given to the real program in a real kernel. That is for a virtual machine, as all
//! mapped devices are removed: `docs/dmsetup-page --real`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::images::pattern;
use crate::not_equal::{NOT_EQUAL, NotEqual};
use crate::script::{Image, Outcome, Step, parse, words};

/// Set where the kernel's mapped devices may go: to `all`, or to one case.
const REAL: &str = "DMSIM_REAL_DMSETUP";

#[test]
fn the_real_dmsetup_answers_as_recorded() {
    let Ok(which) = std::env::var(REAL) else {
        println!("skipped: {REAL} does not say that this kernel's mapped devices may be removed");
        return;
    };
    let mut differences = 0;
    for entry in std::fs::read_dir("tests/transcripts").expect("the folder of the crate") {
        let path = entry.expect("a case").path();
        let case = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        if ["dmsetup-", "dmstats-", "lifecycle-"].iter().any(|of| case.starts_with(of))
            && (which == "all" || case == which)
        {
            differences += run_case(&case, &path);
        }
    }
    assert_eq!(differences, 0, "commands were answered in another way than recorded");
}

/// Runs the commands of a case; prints what is answered in another way, and counts it.
fn run_case(case: &str, path: &Path) -> usize {
    let text = std::fs::read_to_string(path.join("transcript")).expect("the transcript");
    let (mut loops, mut held, mut ran, mut differ) = (Vec::new(), Vec::new(), 0, 0);
    for step in parse(&text) {
        match step {
            Step::Image(image) => loops.push(attach(&image)),
            Step::Run { line, outcome, .. } => {
                let Some(got) = run(&line, &mut held) else { continue };
                ran += 1;
                // The kernel's log is not read here.
                let recorded = Outcome { kernel: Vec::new(), ended: None, ..outcome };
                let trimmed = |outcome: &Outcome| {
                    let Outcome { stdout, stderr, status, .. } = outcome;
                    (stdout.trim_end().to_owned(), stderr.trim_end().to_owned(), *status)
                };
                let is_excused = NOT_EQUAL.iter().any(|NotEqual { case: of, what, .. }| {
                    *of == case && what.iter().any(|(known, _)| *known == line)
                });
                if trimmed(&got) != trimmed(&recorded) && !is_excused {
                    differ += 1;
                    println!("{case}: $ {line}\nrecorded: {recorded:#?}\nnow: {got:#?}");
                }
            }
        }
    }
    drop(held);
    sh("dmsetup remove_all --force");
    loops.iter().for_each(|device| sh(&format!("losetup -d {device}")));
    println!("{case}: {ran} commands, {differ} answered in another way");
    differ
}

fn sh(line: &str) {
    let ended = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).status();
    if !ended.is_ok_and(|status| status.success()) {
        println!("failed: {line}");
    }
}

/// Shows an image as the loop device that it was recorded with.
fn attach(image: &Image) -> String {
    let (device, path) =
        (format!("/dev/loop{}", image.minor), std::env::temp_dir().join(&image.name));
    let mut file = File::create(&path).expect("an image");
    match image.fill {
        Some(first) => file.write_all(&pattern(first, image.sectors)).expect("an image"),
        None => file.set_len(image.sectors * 512).expect("an image"),
    }
    let read_only = if image.read_only { "-r" } else { "" };
    let block = if image.block == 512 { String::new() } else { format!("-b {}", image.block) };
    sh(&format!("losetup {read_only} {block} {device} {}", path.display()));
    device
}

/// Runs a command of a transcript; none for one that is about something else.
fn run(line: &str, held: &mut Vec<File>) -> Option<Outcome> {
    let mut words = words(line).expect("quotes are closed");
    let stdin = words.iter().position(|word| word == "<<").map(|at| {
        let text = format!("{}\n", words[at + 1]);
        words.truncate(at);
        text
    });
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let text: Vec<&str> = words.iter().map(String::as_str).collect();
    match text[..] {
        ["put", device, sector, count, first] => {
            let data = match first.parse() {
                Ok(first) => pattern(first, number(count)),
                Err(_) => vec![0; usize::try_from(number(count) * 512).expect("little")],
            };
            let file = OpenOptions::new().write(true).open(device).ok()?;
            // What fails was recorded with dd's words.
            let _ = file.write_all_at(&data, number(sector) * 512).and_then(|()| file.sync_all());
            return None;
        }
        ["hold", device] => {
            held.extend(File::open(device));
            return None;
        }
        ["release", ..] => {
            held.clear();
            return None;
        }
        ["dmsetup" | "dmstats", ..] => (),
        _ => return None,
    }
    let mut command = Command::new(text[0]);
    command.args(&text[1..]).env("LC_ALL", "C").stdin(Stdio::piped());
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("dmsetup runs");
    let mut input = child.stdin.take().expect("it is piped");
    // One that reads nothing may have ended.
    let _ = input.write_all(stdin.unwrap_or_default().as_bytes());
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut outcome = Outcome { stdout: text(&output.stdout), ..Outcome::default() };
    // Where no udev makes nodes, libdevmapper tells of those that it does not find.
    for line in text(&output.stderr).lines() {
        if !(line.starts_with("/dev/mapper/") && line.ends_with("No such file or directory")) {
            outcome.stderr += &format!("{line}\n");
        }
    }
    outcome.status = output.status.code().unwrap_or(139);
    Some(outcome)
}
