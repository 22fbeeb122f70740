//! The program: what it writes, how it ends, and what is left when it is killed.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

fn swarm(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_dmsim-swarm");
    Command::new(program).args(arguments).output().expect("the program runs")
}

fn state(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join("state.json")).ok()?).ok()
}

#[test]
fn a_short_run_of_all_targets_finds_nothing_and_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let run = swarm(&["--jobs", "2", "--cases", "400", "--json", "--quiet", "--out", out]);
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(run.status.code(), Some(0), "{report:#}");
    assert_eq!((&report["cases"], &report["found"]), (&400.into(), &0.into()));
    let coverage = report["coverage"].as_object().unwrap();
    for known in targets::registry().iter() {
        let counts = &coverage[known.name()];
        let ran = counts["stacks"].as_u64().unwrap() - counts["refused"].as_u64().unwrap();
        assert!(ran >= 5 && counts["bios"].as_u64().unwrap() > 50, "{}: {counts}", known.name());
    }
    let text = std::fs::read_to_string(folder.path().join("report.txt")).unwrap();
    assert!(text.contains("Nothing was found.") && !text.contains("Never set up"), "{text}");
    // Once more from there: other seeds.
    let run = swarm(&["--cases", "5", "--json", "--quiet", "--out", out]);
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((run.status.code(), &report["cases"]), (Some(0), &405.into()));
}

#[test]
fn a_run_that_is_killed_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let program = env!("CARGO_BIN_EXE_dmsim-swarm");
    let mut command = Command::new(program);
    command.args(["--quiet", "--out", out]).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut done = 0;
    for _ in 0..300 {
        std::thread::sleep(Duration::from_millis(100));
        done = state(folder.path()).map_or(0, |state| state["cases"].as_u64().unwrap());
        if done > 0 {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(done > 0, "nothing was written in half a minute");
    let before = state(folder.path()).unwrap();
    let run = swarm(&["--cases", "3", "--json", "--quiet", "--out", out]);
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(report["cases"].as_u64(), before["cases"].as_u64().map(|cases| cases + 3));
    let run = swarm(&["--cases", "3", "--seed", "7", "--out", out]);
    let why = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(2), "{why}");
    assert!(why.contains("has a run from seed 0"), "{why}");
}

#[test]
fn a_case_is_shown_and_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let shown = swarm(&["show", "5"]);
    assert_eq!(shown.status.code(), Some(0));
    let file = folder.path().join("5.case");
    std::fs::write(&file, &shown.stdout).unwrap();
    let repeated = swarm(&["repeat", file.to_str().unwrap()]);
    assert_eq!((repeated.status.code(), &*repeated.stdout), (Some(0), &b"holds\n"[..]));
    std::fs::write(&file, "schedule random 1\nnonsense\n").unwrap();
    let repeated = swarm(&["repeat", file.to_str().unwrap()]);
    let why = String::from_utf8_lossy(&repeated.stderr).into_owned();
    assert_eq!(repeated.status.code(), Some(2));
    assert!(why.contains("line 2") && why.contains("nonsense"), "{why}");
    assert_eq!(swarm(&["--for", "8"]).status.code(), Some(2));
    assert_eq!(swarm(&["--shard", "4/3"]).status.code(), Some(2));
}
