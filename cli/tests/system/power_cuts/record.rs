//! `dmsim crash record`: a device in use is logged, and goes on as it was.

use std::fs;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::harness::{DMSIM, Instance, can_mount, has, sh, text};

/// An instance with a device of 4 MiB that has some data.
fn start() -> Option<Instance> {
    if !can_mount() {
        return None;
    }
    let instance = Instance::start();
    instance.image("disk.img", "/dev/sda", 8 << 20);
    let device =
        instance.create("data", "0 4096 linear /dev/sda 0\n4096 4096 linear /dev/sda 8192");
    fs::write(&device, vec![7; 1 << 16]).expect("room for it");
    Some(instance)
}

/// Two writes, a flush and a mark; then a write.
const WRITES: &str = "
    exec 3<> $DMSIM_DEVICE
    printf %04096d 1 >&3
    printf %04096d 2 >&3
    sync $DMSIM_DEVICE
    $DMSIM crash mark $DMSIM_RECORDED 'both \\ are there'
    printf %04096d 3 >&3";

#[test]
fn a_device_in_use_is_recorded_and_goes_on_as_it_was() {
    let Some(instance) = start() else { return };
    let device = instance.device("data");
    let open = fs::File::options().read(true).write(true).open(&device).expect("a device");
    let before = instance.dmsim(&["table", "data"]);
    let mut command = instance
        .command(&["crash", "record", "data", "--log", "run.log", "--", "sh", "-ec", WRITES]);
    let output = command.env("DMSIM", DMSIM).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.ends_with("run.log: 3 writes, 1 flush, 2 marks\n"), "{said}");
    // Everybody who had it open has it, and its table is its own.
    open.write_all_at(&[9; 4096], 1 << 20).expect("it can be written");
    assert_eq!(instance.dmsim(&["table", "data"]), before);
    assert_eq!(instance.dmsim(&["ls"]).lines().count(), 1);
    assert!(fs::metadata(instance.path("run.log")).expect("a log").len() < 1 << 20);
    let states = instance.dmsim(&["crash", "states", "run.log"]);
    let expected = "between `both \\ are there` and `dm-log-writes-end`";
    assert!(states.contains(expected), "{states}");
    // What was there before lies beside it, and what is marked is there ever after.
    assert_eq!(fs::read(instance.path("run.log.base")).expect("a base")[..1 << 16], [7; 1 << 16]);
    let both = "test $(dd if={} bs=4096 count=2 status=none | tr -d '\\0\\7') = $(printf %04096d%04096d 1 2)";
    let check = ["crash", "check", "run.log", "--with", both];
    instance
        .dmsim(&[&check[..], &["--between", "both \\ are there", "dm-log-writes-end"]].concat());
    let json = instance.run(&[&check[..], &["--json"]].concat());
    assert_eq!(json.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(told["failures"][0]["before_mark"], "both \\ are there");
    assert_eq!(told["failures"][0]["lost"].as_array().expect("a list").len(), 1);
}

#[test]
fn a_recording_that_cannot_be_leaves_all_as_it_was() {
    let Some(instance) = start() else { return };
    let before = instance.dmsim(&["table", "data"]);
    instance.create("ro", "0 8 zero");
    fs::write(instance.path("there.log"), "mine").expect("room");
    for (args, expected) in [
        (&["crash", "start", "none"][..], "none: no such device"),
        (&["crash", "start", "data", "--log", "there.log"], "there.log: File exists"),
        (&["crash", "start", "data", "--size", "4096", "--log", "small.log"], ""),
        (&["crash", "stop", "data"], "data: is not recorded by `dmsim crash`"),
        (&["crash", "mark", "data", "x"], "data: is not recorded by `dmsim crash`"),
    ] {
        let output = instance.run(args);
        let told = String::from_utf8_lossy(&output.stderr);
        if expected.is_empty() {
            // A log that is too short stops logging, as the kernel's does, and the device goes on.
            assert!(output.status.success(), "{told}");
            fs::write(instance.device("data"), vec![8; 1 << 16]).expect("it can be written");
            sh("sync", &[text(&instance.device("data"))]);
            let told = instance.refused(&["crash", "mark", "data", "x"]);
            assert!(told.contains("its log is full"), "{told}");
            let told = instance.refused(&["crash", "stop", "data"]);
            assert!(told.contains("small.log: was full") && told.contains("--size"), "{told}");
        } else {
            assert_eq!(output.status.code(), Some(1), "{args:?}");
            assert!(told.contains(expected), "{args:?}: {told}");
        }
        assert_eq!(instance.dmsim(&["table", "data"]), before, "{args:?}");
    }
    assert_eq!(fs::read(instance.path("there.log")).expect("it is there"), b"mine");
    assert!(!instance.path("there.log.base").exists());
    // Twice at once.
    instance.dmsim(&["crash", "start", "data", "--log", "one.log"]);
    let told = instance.refused(&["crash", "start", "data", "--log", "two.log"]);
    assert!(told.contains("data: is recorded already: `dmsim crash stop data`"), "{told}");
    assert!(!instance.path("two.log").exists());
    let told = instance.refused(&["crash", "mark", "data", ""]);
    assert!(told.contains("expected a text"), "{told}");
    assert!(instance.dmsim(&["crash", "stop", "data"]).contains("one.log: "));
    // A command that is not there, and one that fails.
    let code = |args: &[&str]| {
        instance
            .run(&[&["crash", "record", "data", "--log", "x.log", "--"], args].concat())
            .status
            .code()
    };
    assert_eq!(code(&["no-such-program"]), Some(1));
    fs::remove_file(instance.path("x.log"))
        .and_then(|()| fs::remove_file(instance.path("x.log.base")))
        .expect("a log");
    assert_eq!(code(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(instance.dmsim(&["table", "data"]), before);
}

/// As root, an ext4 is recorded while it is mounted, and judged: with barriers nothing is found, and without them
/// something is.
#[test]
fn a_file_system_that_does_not_flush_is_found_out() {
    if !can_mount() || !has(&["mkfs.ext4", "e2fsck", "debugfs", "mount"]) {
        return;
    }
    let instance = Instance::start();
    instance.image("disk.img", "/dev/sda", 16 << 20);
    for (name, options) in [("safe", "loop"), ("not", "loop,nobarrier")] {
        let device = instance.create(name, "0 32768 linear /dev/sda 0");
        sh("mkfs.ext4", &["-q", "-F", text(&device)]);
        let dir = instance.path("mnt");
        fs::create_dir(&dir).expect("a folder");
        let script = format!(
            "mount -o {options} $DMSIM_DEVICE {dir}; for n in 1 2 3 4; do \
             dd if=/dev/zero of={dir}/file$n bs=4k count=2 conv=fsync status=none; \
             $DMSIM crash mark $DMSIM_RECORDED file$n; done; umount {dir}",
            dir = dir.display()
        );
        let log = format!("{name}.log");
        let mut command =
            instance.command(&["crash", "record", name, "--log", &log, "--", "sh", "-ec", &script]);
        let output = command.env("DMSIM", DMSIM).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        fs::remove_dir(&dir).expect("it is empty");
        let with = "e2fsck -y -E journal_only {}; e2fsck -fn {}";
        let output = instance.run(&["crash", "check", &log, "--states", "150", "--with", with]);
        let told = String::from_utf8_lossy(&output.stdout);
        match name {
            "safe" => assert!(output.status.success(), "{told}"),
            _ => {
                assert_eq!(output.status.code(), Some(1), "{told}");
                assert!(told.contains("fails the check: exit status 4"), "{told}");
            }
        }
        instance.dmsim(&["remove", name]);
    }
}

#[test]
fn a_signal_ends_the_command_and_the_recording() {
    let Some(instance) = start() else { return };
    let before = instance.dmsim(&["table", "data"]);
    let mut command =
        instance.command(&["crash", "record", "data", "--log", "x.log", "--", "sleep", "1234"]);
    let recording = command.spawn().expect("it runs");
    crate::harness::wait_until("it is recorded", || {
        instance.dmsim(&["table", "data"]).contains("log-writes")
    });
    sh("kill", &["-TERM", &recording.id().to_string()]);
    let output = recording.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(143));
    assert_eq!(instance.dmsim(&["table", "data"]), before);
}
