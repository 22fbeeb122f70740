//! Openings that are ended before they are done.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{MIB, disk, locked_disk};
use crate::harness::{Instance, has, text, wait_until};

/// What a signal ends has ended by then.
const AT_ONCE: Duration = Duration::from_secs(5);

fn no_devices(instance: &Instance) {
    assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found");
}

/// Begins an `open` that waits: for its passphrase, or until a key is derived.
fn begun(instance: &Instance, words: &[&str]) -> Child {
    let mut command = instance.command(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("dmsim runs");
    wait_until("the partitions are there", || {
        instance.dmsim(&["ls"]).lines().filter(|line| line.starts_with("disk")).count() == 2
    });
    // By then it waits.
    std::thread::sleep(Duration::from_millis(300));
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

#[test]
fn a_signal_ends_an_opening_at_once_and_nothing_is_left() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let instance = Instance::start();
    let [image, key] = locked_disk(&instance, 99_000_000);
    let image = text(&image);
    let waits_for_key = ["open", image];
    let derives_key = ["open", "--key-file", text(&key), image];
    for words in [&waits_for_key[..], &derives_key] {
        for sent in [Signal::TERM, Signal::INT, Signal::HUP] {
            let child = begun(&instance, words);
            let since = Instant::now();
            signal(&child, sent);
            // The second one does not keep it from taking away what it made.
            std::thread::sleep(Duration::from_millis(30));
            let _may_be_done = kill_process(Pid::from_child(&child), sent);
            let output = child.wait_with_output().expect("it ends");
            assert_eq!(output.status.code(), Some(130), "{words:?} {sent:?}: {output:?}");
            assert!(since.elapsed() < AT_ONCE, "{words:?} {sent:?}");
            no_devices(&instance);
        }
    }
    assert!(!instance.path("run/stacks/disk.json").exists());
}

#[test]
fn what_a_killed_opening_leaves_is_closed_as_a_stack() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let instance = Instance::start();
    let [image, key] = locked_disk(&instance, 1000);
    let mut child = begun(&instance, &["open", text(&image)]);
    // Nobody comes between while it is under way.
    let told = instance.refused(&["close", "disk"]);
    assert!(told.contains("is being opened by another command"), "{told}");
    let told = instance.refused(&["open", text(&image), "--name", "other"]);
    assert!(told.contains("the stack `disk` is being opened by another command"), "{told}");
    let told = instance.refused(&["open", "--type", "plain", text(&image), "plain"]);
    assert!(told.contains("the stack `disk` is being opened by another command"), "{told}");
    child.kill().and_then(|()| child.wait()).expect("it runs");
    for words in [&["open", text(&image)][..], &["open", text(&image), "--name", "other"]] {
        let told = instance.refused(words);
        assert!(
            told.contains("before it was done") && told.contains("`dmsim close disk`"),
            "{told}"
        );
    }
    instance.dmsim(&["close", "disk"]);
    no_devices(&instance);
    instance.dmsim(&["open", "--key-file", text(&key), text(&image)]);
    instance.dmsim(&["close", "disk"]);
}

#[test]
fn what_nobody_can_be_told_of_is_closed_again() {
    let instance = Instance::start();
    let image = instance.path("disk.img");
    disk(&image, 4 * MIB, &[(2048, 2048), (4096, 4096)]);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
    let output = instance.command(&["open", text(&image)]).stdout(full).output().expect("runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("what was opened is closed again"), "{told}");
    no_devices(&instance);
}

#[test]
fn a_name_that_is_taken_costs_its_layer_alone() {
    let instance = Instance::start();
    let image = instance.path("disk.img");
    disk(&image, 4 * MIB, &[(2048, 2048), (4096, 4096)]);
    instance.create("disk2", "0 8 zero");
    let output = instance.run(&["open", text(&image)]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(11), "{told}");
    assert!(told.contains("disk2: not opened: a device of this name is there already"), "{told}");
    assert!(instance.device("disk1").exists());
    instance.dmsim(&["close", "disk"]);
    assert!(instance.device("disk2").exists() && !instance.device("disk1").exists());
}

#[test]
fn a_container_in_a_partition_comes_back_with_its_passphrase() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let instance = Instance::start();
    let [image, key] = locked_disk(&instance, 1000);
    instance.dmsim(&["open", "--key-file", text(&key), text(&image)]);
    let before = std::fs::read(instance.device("disk2_crypt")).expect("a device");
    let instance = Instance::start_in(instance.crash(), &[]);
    let named = format!("disk2_crypt={}", text(&key));
    let output = instance.command(&["restore", "--key-file", &named]).output().expect("dmsim runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(std::fs::read(instance.device("disk2_crypt")).expect("a device") == before);
    instance.dmsim(&["close", "disk"]);
    no_devices(&instance);
}
