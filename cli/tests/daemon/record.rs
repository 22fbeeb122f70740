//! What is on record, and comes back.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use crate::harness::{Instance, can_mount, receive, send, wait_until};

/// Builds a stack with everything that a record has.
fn build(instance: &Instance) {
    instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
    instance.ok(&["attach", "b.img", "--create", "1M", "--sector-size", "4096"]);
    let linear = "0 1024 linear /dev/sda 0\n1024 1024 linear 7:4096 0";
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
    // How much room a file takes is no more its own than how many events there were.
    let mut images = instance.json(&["images", "--json"]);
    for image in images.as_array_mut().unwrap() {
        image.as_object_mut().unwrap().remove("allocated_bytes").unwrap();
    }
    [
        images.to_string(),
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
    let restored = instance.run(&["restore"]);
    assert!(restored.status.success());
    let told = String::from_utf8(restored.stderr).unwrap();
    let suspended = "dmsim: warning: still is suspended, as it was left: who uses it waits until `dmsim resume still`\n";
    assert_eq!(told, suspended);
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
                let text = fs::read_to_string(instance.path("record.log")).unwrap();
                assert!(text.contains(&format!("\"{name}\"")), "{text}");
            }
        });
        while !changes.is_finished() {
            let text = fs::read_to_string(instance.path("record.log")).unwrap_or_default();
            // The last line may be on its way.
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
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
    wait_until("the record has lost it", || {
        let text = fs::read_to_string(instance.path("record.log")).unwrap();
        text.lines().last().unwrap().contains("\"gone\":")
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
    fs::create_dir(instance.path("record.log")).unwrap();
    let output = instance.run(&["create", "z", "--table", "0 8 zero"]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("record.log"));
    assert!(instance.path("mapper/z").exists());
    fs::remove_dir(instance.path("record.log")).unwrap();
    // The next change records both.
    instance.ok(&["create", "y", "--table", "0 8 zero"]);
    let text = fs::read_to_string(instance.path("record.log")).unwrap();
    assert!(text.contains("\"z\"") && text.contains("\"y\""), "{text}");
}

#[test]
fn a_record_that_cannot_be_read_is_not_replaced() {
    let instance = Instance::new();
    fs::create_dir(instance.path("")).unwrap();
    for name in ["record.log", "state.json"] {
        fs::write(instance.path(name), "not ours").unwrap();
        let complaint = instance.fails(&["start"]);
        assert!(complaint.contains(name) && complaint.contains("move it away"), "{complaint}");
        assert_eq!(fs::read_to_string(instance.path(name)).unwrap(), "not ours");
        fs::remove_file(instance.path(name)).unwrap();
    }
}

#[test]
fn what_is_changed_through_the_mount_is_on_record() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "z", "--table", "0 8 zero"]);
    fs::set_permissions(instance.path("mapper/z"), fs::Permissions::from_mode(0o640)).unwrap();
    wait_until("it is on record without another command", || {
        let text = fs::read_to_string(instance.path("record.log")).unwrap();
        text.contains(&format!("\"mode\":{}", 0o640))
    });
    instance.crash();
    instance.ok(&["start"]);
    instance.ok(&["restore"]);
    let mode = fs::metadata(instance.path("mapper/z")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

/// Creates devices in one batch from standard input.
fn create_concise(instance: &Instance, text: &str) -> Output {
    let mut create = instance.command(&["create", "--concise"]);
    create.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut create = create.spawn().unwrap();
    create.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    create.wait_with_output().unwrap()
}

#[test]
fn a_batch_is_on_record_when_it_ends_however_it_ends() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["start"]);
    let many: Vec<String> = (0..200).map(|n| format!("z{n},,,,0 8 zero")).collect();
    assert!(create_concise(&instance, &many.join(";")).status.success());
    let output = create_concise(&instance, "good,,,,0 8 zero;bad,,,,0 8 nosuch;never,,,,0 8 zero");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // A client that goes in the middle.
    let mut stream = instance.connect();
    let create = br#"{"Control":{"DevCreate":{"name":"last","uuid":null,"minor":null}}}"#;
    for request in [&br#""Batch""#[..], create] {
        send(&mut stream, request);
        receive(&mut stream);
    }
    let is_on_record = |name: &str| {
        let text = fs::read_to_string(instance.path("record.log")).unwrap();
        text.contains(&format!("\"{name}\""))
    };
    assert!(is_on_record("good") && !is_on_record("last"));
    drop(stream);
    wait_until("the batch is on record", || is_on_record("last"));
    instance.crash();
    instance.ok(&["start"]);
    instance.ok(&["restore"]);
    assert_eq!(instance.ok(&["ls"]).lines().count(), 202);
}

#[test]
fn a_damaged_record_is_kept_and_told() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    for name in ["a", "b", "c"] {
        instance.ok(&["create", name, "--table", "0 8 zero"]);
    }
    instance.crash();
    let whole = fs::read_to_string(instance.path("record.log")).unwrap();
    fs::write(instance.path("record.log"), whole.replacen("\"b\"", "\"x\"", 1)).unwrap();
    let note = String::from_utf8(instance.run(&["start"]).stderr).unwrap();
    assert!(note.contains("damaged") && note.contains("record.log.damaged-1"), "{note}");
    assert!(fs::read_to_string(instance.path("record.log.damaged-1")).unwrap().contains("\"x\""));
    instance.ok(&["restore"]);
    assert!(instance.ok(&["ls"]).contains('a'));
}

#[test]
fn a_state_json_is_restored_as_a_record_is() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    fs::create_dir(instance.path("")).unwrap();
    // As dmsim wrote it before there was record.log.
    let old = r#"{"version":1,"images":[],"devices":[{"name":"low","uuid":null,"minor":4,"live":{
        "access":"ReadWrite","targets":[{"start":0,"len":8,"target_type":"zero","params":""}],
        "without_keys":false},"inactive":null,"suspended":false,"read_ahead":null,
        "node":{"mode":384,"uid":null,"gid":null}}],"past":{"images":[],"devices":[]}}"#;
    fs::write(instance.path("state.json"), old).unwrap();
    let note = String::from_utf8(instance.run(&["start"]).stderr).unwrap();
    assert!(note.contains("1 images and devices are on record"), "{note}");
    assert!(!instance.path("state.json").exists());
    instance.ok(&["restore"]);
    assert_eq!(instance.ok(&["table", "low"]).trim(), "0 8 zero");
}

#[test]
fn what_is_on_record_is_forgotten_without_a_daemon_too() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    assert!(instance.fails(&["restore", "--forget"]).contains("no record"));
    assert_eq!(instance.pid(), None, "nothing is started for the sake of nothing");
    build(&instance);
    instance.crash();
    instance.ok(&["restore", "--forget"]);
    assert_eq!(instance.pid(), None, "it has ended with the command");
    let started = instance.run(&["start"]);
    assert!(started.status.success() && started.stderr.is_empty(), "{started:?}");
    assert_eq!(instance.json(&["info", "--json"]).to_string(), "[]");
}

#[test]
fn one_entry_that_cannot_come_back_is_forgotten_alone() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    for name in ["a", "b"] {
        instance.ok(&[
            "attach",
            &format!("{name}.img"),
            "--create",
            "1M",
            "--as",
            &format!("/dev/sd{name}"),
        ]);
        instance.ok(&["create", name, "--table", &format!("0 8 linear /dev/sd{name} 0")]);
    }
    instance.crash();
    fs::remove_file(instance.root().join("a.img")).unwrap();
    let told = instance.fails(&["restore"]);
    assert!(told.contains("`dmsim restore --forget /dev/sda` drops one of it alone"), "{told}");
    let told = instance.fails(&["restore", "--forget", "/dev/sda", "b"]);
    assert!(told.contains("b: nothing of this name is on record from before"), "{told}");
    assert!(
        instance.fails(&["restore"]).contains("/dev/sda"),
        "one of the two was none: both stay"
    );
    instance.ok(&["restore", "--forget", "/dev/sda"]);
    let told = instance.fails(&["restore"]);
    assert!(told.contains("restore: a: "), "{told}");
    instance.ok(&["restore", "--forget", "a"]);
    instance.ok(&["restore"]);
    instance.crash();
    // What is back was never forgotten.
    assert_eq!(instance.ok(&["restore"]), "/dev/sdb\nb\n");
    assert_eq!(instance.run(&["restore", "c"]).status.code(), Some(2));
}

#[test]
fn stacks_that_are_made_anew_after_each_stop_are_on_record_once() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    let mut sizes = Vec::new();
    for _ in 0..50 {
        instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
        instance.ok(&["attach", "b.img", "--create", "1M"]);
        instance.ok(&["create", "low", "--table", "0 1024 linear /dev/sda 0"]);
        instance.ok(&["create", "top", "--table", "0 8 linear low 0"]);
        instance.ok(&["stop"]);
        for image in ["a.img", "b.img"] {
            fs::remove_file(instance.root().join(image)).unwrap();
        }
        sizes.push(fs::metadata(instance.path("record.log")).unwrap().len());
        let note = String::from_utf8(instance.run(&["start"]).stderr).unwrap();
        assert!(note.contains(" 4 images and devices are on record"), "{note}");
        instance.ok(&["stop"]);
    }
    let files = fs::read_dir(instance.path("")).unwrap().count();
    assert!(files <= 6, "{files} files");
    // A log of changes is written anew when what does not count outweighs the rest.
    assert!(sizes.iter().all(|size| *size < 2 << 20), "{sizes:?}");
    for image in ["a.img", "b.img"] {
        fs::File::create(instance.root().join(image)).unwrap().set_len(1 << 20).unwrap();
    }
    let back = instance.ok(&["restore"]);
    assert_eq!(back.lines().count(), 4, "{back}");
}

#[test]
fn a_device_that_is_to_go_keeps_its_file_for_as_long_as_it_is_open() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "going", "--table", "0 8 zero"]);
    let path = instance.path("mapper/going");
    let file = fs::File::open(&path).unwrap();
    instance.ok(&["remove", "--deferred", "going"]);
    let names = || -> Vec<_> {
        fs::read_dir(instance.path("mapper"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect()
    };
    assert_eq!(names(), ["going"]);
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
    assert_eq!(fs::read(&path).unwrap(), [0; 4096], "it can be opened, as in the kernel");
    assert!(instance.ok(&["info", "going"]).contains("DEFERRED REMOVE"));
    // A table does not find it by its name, as with dmsetup.
    instance.fails(&["create", "above", "--table", "0 8 linear /dev/mapper/going 0"]);
    drop(file);
    wait_until("it is gone", || !path.exists());
    assert!(names().is_empty());
}

#[test]
fn what_is_missing_is_replaced_by_nothing_that_has_its_number() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    let image = |name: &str| {
        fs::File::create(instance.root().join(name)).unwrap().set_len(1 << 20).unwrap();
    };
    for name in ["a", "b", "c"] {
        image(name);
    }
    // Two sessions, none of which knows of the other: both have 7:4096 and 253:0.
    instance.ok(&["create", "one", "--table", "0 8 linear a 0"]);
    instance.ok(&["stop"]);
    instance.ok(&["create", "two", "--table", "0 8 linear b 0"]);
    instance.ok(&["create", "else", "--table", "0 8 linear c 0"]);
    instance.ok(&["create", "over-two", "--table", "0 8 linear two 0"]);
    instance.crash();
    fs::rename(instance.root().join("b"), instance.root().join("gone")).unwrap();
    let told = instance.fails(&["restore"]);
    // Of the first session all is there. What lies on it by number alone stays away.
    assert!(told.contains("/b: open: no such file"), "{told}");
    assert!(told.contains("two: 7:4096 is ") && told.contains("/a now, and was "), "{told}");
    assert!(told.contains("over-two: 253:0 is `one` now, and was `two`"), "{told}");
    assert_eq!(instance.ok(&["table", "one"]).trim(), "0 8 linear 7:4096 0");
    instance.fails(&["table", "two"]);
    instance.fails(&["table", "over-two"]);
    instance.ok(&["remove", "one"]);
    // With the image back, and the other away, all of it is.
    fs::rename(instance.root().join("gone"), instance.root().join("b")).unwrap();
    instance.ok(&["detach", "a"]);
    instance.run(&["restore"]);
    assert_eq!(instance.ok(&["table", "over-two"]).trim(), "0 8 linear 253:0 0");
    assert_eq!(instance.ok(&["table", "two"]).trim(), "0 8 linear 7:4096 0");
}
