//! `trace`: the bios of a device, as they pass.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::process::{Child, Output, Stdio};

use serde_json::Value;

use crate::harness::{Instance, can_mount};

/// Two linear devices on top of one another, and an image below; one that fails.
fn stack() -> Instance {
    let instance = Instance::new();
    instance.ok(&["attach", "a.img", "--create", "8M", "--as", "/dev/vda"]);
    instance.ok(&["create", "lin", "--table", "0 2048 linear /dev/vda 8"]);
    instance.ok(&["create", "top", "--table", "0 2048 linear lin 0"]);
    instance.ok(&["create", "err", "--table", "0 64 error"]);
    instance
}

/// Begins a trace, and returns when it has begun.
fn trace(instance: &Instance, args: &[&str]) -> Child {
    let args = [&["trace"], args].concat();
    let mut command = instance.command(&args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = [0; 6];
    child.stderr.as_mut().unwrap().read_exact(&mut told).unwrap();
    assert_eq!(&told, b"dmsim:");
    // Who is told is traced.
    let mut byte = [0];
    while byte != *b"\n" {
        child.stderr.as_mut().unwrap().read_exact(&mut byte).unwrap();
    }
    child
}

/// Ends a trace by a signal.
fn end(child: Child) -> Output {
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

/// The columns of blkparse that do not depend on the machine: device, action, and what follows.
fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words.len() > 6, "{line}");
        format!("{} {}", words[0], words[5..].join(" "))
    };
    text.lines().map(line).collect()
}

/// What Linux 6.12 traced of the same on such a stack, without the steps of the disk's own queue.
#[test]
fn a_bio_is_followed_through_the_layers_as_the_kernel_does() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let child = trace(&instance, &["top", "--deep"]);
    let file = File::options().read(true).write(true).open(instance.path("mapper/top")).unwrap();
    file.write_all_at(&[1; 4096], 4096).unwrap();
    file.sync_all().unwrap();
    file.read_exact_at(&mut [0; 4096], 4096).unwrap();
    let output = end(child);
    let expected = [
        "253,1 Q WS 8 + 8 [dmsim]",
        "253,0 A WS 8 + 8 <- (253,1) 8",
        "253,0 Q WS 8 + 8 [dmsim]",
        "254,0 A WS 16 + 8 <- (253,0) 8",
        "254,0 Q WS 16 + 8 [dmsim]",
        "254,0 C WS 16 + 8 [0]",
        "253,0 C WS 8 + 8 [0]",
        "253,1 C WS 8 + 8 [0]",
        "253,1 Q FWS [dmsim]",
        "253,0 A FWS 0 + 0 <- (253,1) 0",
        "253,0 Q FWS [dmsim]",
        "254,0 A FWS 0 + 0 <- (253,0) 0",
        "254,0 Q FWS [dmsim]",
        "254,0 C FWS 0 [0]",
        "253,0 C FWS 0 [0]",
        "253,1 C FWS 0 [0]",
        "253,1 Q RS 8 + 8 [dmsim]",
        "253,0 A RS 8 + 8 <- (253,1) 8",
        "253,0 Q RS 8 + 8 [dmsim]",
        "254,0 A RS 16 + 8 <- (253,0) 8",
        "254,0 Q RS 16 + 8 [dmsim]",
        "254,0 C RS 16 + 8 [0]",
        "253,0 C RS 8 + 8 [0]",
        "253,1 C RS 8 + 8 [0]",
    ];
    assert_eq!(lines(&output), expected);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("Total (254,0):\n Reads Queued:           1,        4KiB"), "{told}");
    assert!(told.ends_with("Dropped: 0 entries\n"), "{told}");
    // Nothing is traced any more, and the device is without it.
    let child = trace(&instance, &["top", "--count", "2"]);
    file.read_exact_at(&mut [0; 512], 0).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(lines(&output), ["253,1 Q RS 0 + 1 [dmsim]", "253,1 C RS 0 + 1 [0]"]);
}

#[test]
fn a_bio_that_fails_says_how() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let child = trace(&instance, &["err", "--json", "--count", "2"]);
    let file = File::open(instance.path("mapper/err")).unwrap();
    file.read_exact_at(&mut [0; 4096], 0).expect_err("it fails");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let steps: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!((&steps[0]["action"], &steps[0]["error"]), (&"Q".into(), &Value::Null));
    assert_eq!((&steps[1]["action"], &steps[1]["error"]), (&"C".into(), &"EIO".into()));
    // So does one that a fault strikes before it is in the device.
    instance.ok(&["fault", "top", "error"]);
    let child = trace(&instance, &["top", "--count", "2"]);
    let file = File::open(instance.path("mapper/top")).unwrap();
    file.read_exact_at(&mut [0; 4096], 0).expect_err("it fails");
    let output = child.wait_with_output().unwrap();
    assert_eq!(lines(&output), ["253,1 Q RS 0 + 8 [dmsim]", "253,1 C RS 0 + 8 [65531]"]);
}

#[test]
fn a_device_is_traced_once_at_a_time_and_one_that_goes_ends_it() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let child = trace(&instance, &["top", "--deep"]);
    let complaint = instance.fails(&["trace", "top"]);
    assert!(complaint.contains("253:1 is traced already"), "{complaint}");
    // A trace holds nothing open.
    instance.ok(&["remove", "top"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("was removed while it was traced"));
    assert!(instance.fails(&["trace", "nobody"]).contains("no such device"));
    instance.ok(&["create", "none", "--notable"]);
    assert!(instance.fails(&["trace", "none"]).contains("has no table in use"));
    // A reader that has read enough ends it, and the next one may begin.
    let mut child = trace(&instance, &["lin"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let file = File::open(instance.path("mapper/lin")).unwrap();
    file.read_exact_at(&mut [0; 4096], 0).unwrap();
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    while child.try_wait().unwrap().is_none() {
        file.read_exact_at(&mut [0; 4096], 0).unwrap();
    }
    let output = instance.run(&["trace", "lin", "-w", "50ms", "--quiet"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // The daemon's end is told.
    drop(file);
    let child = trace(&instance, &["lin"]);
    instance.ok(&["stop"]);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(3));
}
