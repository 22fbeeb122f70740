//! What is on record, and comes back.

use std::fs;

use crate::harness::{Instance, can_mount};

/// Builds a stack with everything that a record has.
fn build(instance: &Instance) {
    instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
    instance.ok(&["attach", "b.img", "--create", "1M", "--sector-size", "4096"]);
    let linear = "0 1024 linear /dev/sda 0\n1024 1024 linear 7:0 0";
    instance.ok(&["create", "low", "-u", "UUID-1", "-j", "253", "-m", "5", "--table", linear]);
    instance.ok(&["create", "top", "-j", "253", "-m", "2", "--table", "0 2048 linear low 0"]);
    instance.ok(&["create", "still", "--readonly", "--table", "0 8 zero"]);
    instance.ok(&["suspend", "still"]);
    instance.ok(&["load", "top", "--table", "0 8 error"]);
    instance.ok(&["create", "empty", "--notable"]);
}

/// What is there, as the program reports it.
fn report(instance: &Instance) -> String {
    let devices = instance.json(&["info", "--json"]).to_string();
    let numbers = regex::Regex::new(r#""event_nr":\d+"#).unwrap();
    [
        instance.ok(&["images"]),
        numbers.replace_all(&devices, "").into_owned(),
        instance.ok(&["table"]),
        instance.ok(&["table", "--inactive"]),
    ]
    .join("\n")
}

#[test]
fn a_restore_brings_everything_back_after_a_crash_and_after_a_stop() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    build(&instance);
    let before = report(&instance);
    fs::write(instance.path("mapper/top"), vec![7; 4096]).unwrap();
    instance.crash();
    let note = instance.run(&["start"]);
    assert!(note.status.success());
    assert!(String::from_utf8(note.stderr).unwrap().contains("dmsim restore"));
    assert_eq!(instance.json(&["info", "--json"]).to_string(), "[]", "nothing by itself");
    instance.ok(&["restore"]);
    assert_eq!(report(&instance), before);
    assert_eq!(fs::read(instance.path("mapper/top")).unwrap()[..4096], [7; 4096]);
    instance.ok(&["stop"]);
    instance.ok(&["restore"]);
    assert_eq!(report(&instance), before);
    assert_eq!(instance.ok(&["restore"]), "", "nothing is left to restore");
}

#[test]
fn what_cannot_be_restored_is_named_and_stays_on_record() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    build(&instance);
    instance.ok(&["stop"]);
    let (away, home) = (instance.root().join("away"), instance.root().join("a.img"));
    fs::rename(&home, &away).unwrap();
    let complaint = instance.fails(&["restore"]);
    for name in ["/dev/sda", "low", "top"] {
        assert!(complaint.contains(&format!("dmsim: restore: {name}: ")), "{complaint}");
    }
    assert!(instance.ok(&["ls"]).contains("still"));
    // Neither a change nor another crash loses it.
    instance.ok(&["create", "new", "--table", "0 8 zero"]);
    instance.crash();
    fs::rename(&away, &home).unwrap();
    instance.ok(&["start"]);
    // It took the lowest free minor, which was that of one on record.
    let complaint = instance.fails(&["restore"]);
    assert!(complaint.contains("top: 253:2 is `new` now"), "{complaint}");
    instance.ok(&["remove", "new"]);
    instance.ok(&["restore"]);
    let names = instance.ok(&["ls"]);
    for name in ["low", "top", "still", "empty"] {
        assert!(names.contains(name), "{names}");
    }
    assert!(instance.ok(&["table", "--inactive", "top"]).contains("error"));
}

#[test]
fn a_record_from_before_is_dropped_when_told_so() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "z", "--table", "0 8 zero"]);
    instance.crash();
    instance.ok(&["start"]);
    instance.ok(&["restore", "--forget"]);
    assert_eq!(instance.ok(&["restore"]), "");
    instance.ok(&["stop"]);
    assert!(instance.run(&["start"]).stderr.is_empty());
}

#[test]
fn the_record_is_whole_at_every_moment_and_there_before_the_answer() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["start"]);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            for n in 0..30 {
                let name = format!("z{n}");
                instance.ok(&["create", &name, "--table", "0 8 zero"]);
                let text = fs::read_to_string(instance.path("state.json")).unwrap();
                assert!(text.contains(&format!("\"{name}\"")), "{text}");
            }
        });
        while !changes.is_finished() {
            if let Ok(text) = fs::read_to_string(instance.path("state.json")) {
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
        }
    });
}

#[test]
fn a_deferred_removal_is_on_record_once_the_last_user_has_gone() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "gone", "--table", "0 8 zero"]);
    let file = fs::File::open(instance.path("mapper/gone")).unwrap();
    instance.ok(&["remove", "--deferred", "gone"]);
    drop(file);
    crate::harness::wait_until("the record has lost it", || {
        !fs::read_to_string(instance.path("state.json")).unwrap().contains("gone")
    });
}

#[test]
fn a_device_that_was_just_closed_is_not_busy() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    for _ in 0..20 {
        instance.ok(&["create", "z", "--table", "0 8 zero"]);
        drop(fs::File::open(instance.path("mapper/z")).unwrap());
        instance.ok(&["remove", "z"]);
    }
}

#[test]
fn a_change_that_cannot_be_recorded_is_made_and_told() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["start"]);
    // Nothing can be renamed over a directory.
    fs::create_dir(instance.path("state.json")).unwrap();
    let output = instance.run(&["create", "z", "--table", "0 8 zero"]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("state.json"));
    assert!(instance.path("mapper/z").exists());
    fs::remove_dir(instance.path("state.json")).unwrap();
}

#[test]
fn a_record_that_cannot_be_read_is_not_replaced() {
    let instance = Instance::new();
    fs::create_dir(instance.path("")).unwrap();
    fs::write(instance.path("state.json"), "not ours").unwrap();
    let complaint = instance.fails(&["start"]);
    assert!(complaint.contains("state.json") && complaint.contains("move it away"), "{complaint}");
    assert_eq!(fs::read_to_string(instance.path("state.json")).unwrap(), "not ours");
}
