//! What `diff` and `dump` say of stores whose content is known.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Instance, bytes, text, write_at};
use crate::images::image;
use crate::snapshots::digest;

const MIB: u64 = 1 << 20;

/// Writes a recorded image to a file.
fn recorded(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, image(name)).expect("room for it");
    path
}

/// Dumps a store; no instance is needed.
fn dump(path: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let args = [&["dump", "--json", text(path)], more].concat();
    let output = crate::harness::command(path.parent().expect("a folder"), &args).output();
    let output = output.expect("dmsim runs");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

#[test]
fn stores_of_the_kernel_are_what_it_said_of_them() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, status, exceptions, runs, sha256) in [
        ("areas-sequential.cow", "4832/8192 32", 600, 3, "5884a629"),
        ("areas-scattered.cow", "2584/8192 24", 320, 0, "f40813c0"),
        ("areas-reverse.cow", "2424/4096 24", 300, 300, "abc94727"),
        ("merge-cut-second-area.cow", "2272/4096 24", 281, 281, "c2419130"),
        ("merge-cut-first-area.cow", "1416/4096 16", 175, 175, "7117de7f"),
    ] {
        let path = recorded(dir.path(), name);
        assert!(digest(&path).starts_with(sha256), "{name}");
        let (code, said) = dump(&path, &["--entries"]);
        assert_eq!(code, Some(0), "{name}: {said}");
        assert_eq!(said["status"], status, "{name}");
        assert_eq!(said["exceptions"], exceptions, "{name}");
        assert_eq!(
            (&said["chunk_size_bytes"], &said["damaged"]),
            (&4096.into(), &false.into()),
            "{name}"
        );
        let entries = said["entries"].as_array().expect("a list");
        let sum: u64 = entries.iter().map(|run| run["len"].as_u64().expect("a number")).sum();
        assert_eq!(sum, exceptions, "{name}");
        assert_eq!(said["run_count"], entries.len(), "{name}");
        if runs > 0 {
            assert_eq!(entries.len(), runs, "{name}");
        }
        // Header, areas, exceptions, what is unused and what is free are all there is.
        let count = |key: &str| said[key].as_u64().expect("a number");
        let areas = (count("chunks") - 1).div_ceil(count("entries_per_area") + 1);
        let all = 1 + areas + exceptions + count("unused_chunks") + count("free_chunks");
        assert_eq!(all, count("chunks"), "{name}");
    }
    let (_, said) = dump(&dir.path().join("areas-sequential.cow"), &["--entries"]);
    let first = serde_json::json!({"old": 1, "new": 2, "len": 256});
    assert_eq!(said["entries"][0], first);
}

#[test]
fn damaged_stores_are_told_of_entry_by_entry() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = std::fs::read(recorded(dir.path(), "areas-sequential.cow")).expect("an image");
    let damaged = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let (path, mut bytes) = (dir.path().join(name), good.clone());
        change(&mut bytes);
        std::fs::write(&path, bytes).expect("room for it");
        path
    };
    let entry = |bytes: &mut Vec<u8>, at: usize, old: u64, new: u64| {
        bytes[4096 + 16 * at..][..8].copy_from_slice(&old.to_le_bytes());
        bytes[4096 + 16 * at + 8..][..8].copy_from_slice(&new.to_le_bytes());
    };

    let several = damaged("several", &|bytes| {
        entry(bytes, 0, 1, 1);
        entry(bytes, 3, 4, 5000);
        entry(bytes, 7, 1 << 62, 9);
        entry(bytes, 8, 8, 10);
        entry(bytes, 9, 7, 11);
        entry(bytes, 20, 21, 30);
    });
    let (code, said) = dump(&several, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(said["status"], "(cannot be loaded)");
    let why = |at: usize| said["damage"][at]["why"].as_str().unwrap_or_default().to_owned();
    assert_eq!(why(0), "area 0, entry 0: chunk 1 of the store is metadata");
    assert_eq!(why(1), "area 0, entry 3: chunk 5000 of the store, which has 1024");
    assert!(why(2).contains("which no device has"), "{}", why(2));
    assert_eq!(why(3), "area 0, entry 9: a second exception of chunk 7");
    assert_eq!((&said["damaged_entries"], &said["shared"]), (&4.into(), &serde_json::json!([30])));
    let output = crate::harness::command(dir.path(), &["dump", text(&several)]).output();
    let output = output.expect("dmsim runs");
    let told = String::from_utf8(output.stdout).expect("text");
    assert_eq!(told.matches("\ndamaged: ").count(), 5, "{told}");
    assert!(told.contains("damaged: chunk 30 of the store is named twice"), "{told}");

    // So many that not all of them are told of.
    let many = damaged("many", &|bytes| {
        for area in [1, 258, 515] {
            for at in 0..256 {
                bytes[4096 * area + 16 * at + 8..][..8].copy_from_slice(&1u64.to_le_bytes());
            }
        }
        bytes.splice(4096 * 772..4096 * 773, bytes[4096..8192].to_vec());
        bytes.splice(4096 * 1023..4096 * 1024, vec![0; 4096]);
    });
    let (code, said) = dump(&many, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said["damaged_entries"], 1024);
    assert_eq!(said["damage"].as_array().expect("a list").len(), 1000);
    let fault = said["fault"].as_str().unwrap_or_default();
    assert!(fault.contains("past the end"), "{fault}");

    let header = |name: &str, at: usize, byte: u8| {
        let path = damaged(name, &|bytes| bytes[at] = byte);
        let output = crate::harness::command(dir.path(), &["dump", text(&path)]).output();
        let output = output.expect("dmsim runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    for (name, at, byte, words) in [
        ("version", 8, 2, "expected version 1 of the store, found 2"),
        ("odd", 12, 7, "not a power of 2"),
        ("high", 15, 0x40, "power of 2"),
    ] {
        let (code, told) = header(name, at, byte);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("damaged header") && told.contains(words), "{told}");
    }
    let invalid = damaged("invalid", &|bytes| bytes[4] = 0);
    assert_eq!(dump(&invalid, &[]).1["status"], "Invalid");
    // What is no store is a container or nothing, as before.
    let other = damaged("other", &|bytes| bytes[0] = 1);
    assert_eq!(dump(&other, &[]).0, Some(4));
    assert_eq!(dump(&other, &["--entries"]).0, Some(1));
    let short = damaged("short", &|bytes| bytes.truncate(8));
    assert_eq!(dump(&short, &[]).0, Some(1));
}

#[test]
fn a_difference_is_what_was_changed_and_nothing_else() {
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", MIB);
    // The last chunk is cut short.
    let device = instance.create("data", "0 2045 linear /dev/sda 0");
    write_at(&device, 0, &bytes(1, 2045 * 512)).expect("room for it");
    instance.dmsim(&["snapshot", "data", "snap", "--chunk", "4K"]);
    instance.dmsim(&["snapshot", "data", "short", "--chunk", "4K", "--transient"]);
    let diff = |name: &str| -> Value {
        serde_json::from_str(&instance.dmsim(&["diff", name, "--json"])).expect("JSON")
    };
    assert_eq!(diff("snap")["changed_chunks"], 0);
    assert_eq!(diff("snap")["runs"], serde_json::json!([]));
    // By the origin: chunks 2 to 4, and the last; by the snapshot: chunk 100; and chunk 50, which
    // is written as it was.
    write_at(&device, 2 * 4096 + 100, &bytes(2, 2 * 4096)).expect("room for it");
    write_at(&device, 2044 * 512, &bytes(3, 512)).expect("room for it");
    write_at(&instance.device("snap"), 100 * 4096, &[0]).expect("room for it");
    write_at(&device, 50 * 4096, &bytes(1, 51 * 4096)[50 * 4096..]).expect("room for it");
    let said = diff("snap");
    assert_eq!((&said["chunks"], &said["exceptions"]), (&256.into(), &6.into()));
    assert_eq!((&said["changed_chunks"], &said["changed_bytes"]), (&5.into(), &(37 * 512).into()));
    let runs = serde_json::json!([
        {"start": 16, "len": 24, "chunk": 2},
        {"start": 800, "len": 8, "chunk": 100},
        {"start": 2040, "len": 5, "chunk": 255},
    ]);
    assert_eq!(said["runs"], runs);
    // The transient one has no list, and never saw the other's change.
    let said = diff("short");
    assert_eq!((&said["exceptions"], &said["changed_chunks"]), (&Value::Null, &4.into()));

    let told = instance.dmsim(&["diff", "snap", "--width", "32"]);
    let mut lines = told.lines();
    let picture = lines.next().expect("a picture");
    assert_eq!(picture.chars().count(), 32, "{picture}");
    assert!(told.contains("in 5 of 256 chunks of 4 KiB"), "{told}");
    assert!(told.contains("6 chunks have exceptions, 1 of them as in the origin"), "{told}");
    assert!(told.contains("16+24") && told.contains("8192+12288"), "{told}");
    // In a pipe there is no picture unless it is asked for.
    assert!(instance.dmsim(&["diff", "snap"]).starts_with("snap differs"));
    assert!(instance.refused(&["diff", "data"]).contains("is no snapshot"));
    instance.dmsim(&["suspend", "snap"]);
    assert!(instance.refused(&["diff", "snap"]).contains("`dmsim resume snap` first"));
    instance.dmsim(&["resume", "snap"]);
}
