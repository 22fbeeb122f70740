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
            assert!(told.contains("its log is full, or its disk is"), "{told}");
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
    // Its table is the recording's, and moves nowhere.
    instance.dmsim(&["crash", "start", "data", "--log", "moved.log"]);
    for args in [
        &["load", "data", "--table", "0 8 zero"][..],
        &["remove", "data"],
        &["snapshot", "data", "snap"],
        &["mirror", "data", "--add", "disk.img"],
    ] {
        let told = instance.refused(args);
        assert!(
            told.contains("is recorded: `dmsim crash stop data` ends that first"),
            "{args:?}: {told}"
        );
    }
    instance.dmsim(&["crash", "stop", "data"]);
    assert_eq!(instance.dmsim(&["table", "data"]), before);
    // A command that is not there, and one that fails.
    let code = |args: &[&str]| {
        instance
            .run(&[&["crash", "record", "data", "--log", "x.log", "--"], args].concat())
            .status
            .code()
    };
    assert_eq!(code(&["no-such-program"]), Some(1));
    assert!(!instance.path("x.log").exists() && !instance.path("x.log.base").exists());
    assert_eq!(code(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(instance.dmsim(&["table", "data"]), before);
}

/// Marks are written to a file beside the device's, which must not be a device's.
#[test]
fn no_mark_goes_into_a_device_that_has_the_name_of_their_file() {
    let Some(instance) = start() else { return };
    let other = instance.create("data.mark", "0 8 linear /dev/sda 16000");
    let told = instance.refused(&["crash", "start", "data"]);
    assert!(told.contains("while there is a device `data.mark`"), "{told}");
    assert!(!instance.path("data.log").exists());
    assert_eq!(fs::read(other).expect("a device"), [0; 4096]);
    instance.dmsim(&["remove", "data.mark"]);
    instance.dmsim(&["crash", "start", "data"]);
    instance.dmsim(&["crash", "stop", "data"]);
}

/// What a mark promised is looked for although nothing was written after it; and a log that goes on is told of.
#[test]
fn what_was_promised_is_judged_where_nothing_is_written_after() {
    let Some(instance) = start() else { return };
    instance.dmsim(&["crash", "start", "data", "--log", "run.log"]);
    instance.dmsim(&["crash", "mark", "data", "begun"]);
    instance.dmsim(&["crash", "mark", "data", "saved"]);
    let check = ["crash", "check", "run.log", "--between", "begun", "saved", "--with", "false {}"];
    let output = instance.run(&check);
    let (out, told) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{told}");
    assert!(out.contains("1 state in "), "{out}");
    assert!(told.contains("run.log: has no `dm-log-writes-end` at its end"), "{told}");
    instance.dmsim(&["crash", "stop", "data"]);
    let output = instance.run(&check);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(
        instance
            .run(&["crash", "check", "run.log", "--states", "0", "--with", "true"])
            .status
            .code(),
        Some(2)
    );
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
        // ext4 does not expect its superblock to be torn.
        let check = ["crash", "check", &log, "--atomic", "4096", "--states", "150"];
        let output = instance.run(&[&check[..], &["--with", with]].concat());
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

/// Writes, makes that durable, and marks it; then writes once more.
fn write_and_mark(instance: &Instance) {
    let device = instance.device("data");
    let open = fs::File::options().read(true).write(true).open(&device).expect("a device");
    for at in 0..4 {
        open.write_all_at(&[at as u8 + 1; 4096], at << 16).expect("room for it");
    }
    open.sync_all().expect("it is durable");
    instance.dmsim(&["crash", "mark", "data", "four"]);
    open.write_all_at(&[9; 4096], 1 << 20).expect("room for it");
    open.sync_all().expect("it is durable");
}

/// How many entries a log would have if its daemon were killed now.
fn entries_so_far(instance: &Instance) -> usize {
    let mut bytes = vec![0; 1 << 20];
    let log = fs::File::open(instance.path("run.log")).expect("a log");
    log.read_exact_at(&mut bytes, 0).expect("it is long");
    let copy = tempfile::tempfile().expect("a file");
    copy.write_all_at(&bytes, 0).expect("room for it");
    crash::log::count_all(&copy).expect("a log");
    crash::log::read(&copy).expect("a log").entries.len()
}

#[test]
fn a_recording_ends_with_its_daemon_and_nothing_of_it_is_lost() {
    for is_killed in [true, false] {
        let Some(instance) = start() else { return };
        let before = instance.dmsim(&["table", "data"]);
        instance.dmsim(&["crash", "start", "data", "--log", "run.log"]);
        write_and_mark(&instance);
        // One that nothing made durable: it is lost with a daemon that is killed.
        let open = fs::File::options().write(true).open(instance.device("data")).expect("a device");
        open.write_all_at(&[8; 4096], 2 << 20).expect("room for it");
        drop(open);
        let instance = if is_killed {
            // Entries are written behind the bios that they are of, as the kernel's are.
            crate::harness::wait_until("all is in the log", || entries_so_far(&instance) == 7);
            Instance::start_in(instance.crash(), &[])
        } else {
            instance.dmsim(&["stop"]);
            Instance::start_in(instance.crash(), &[])
        };
        let output = instance.run(&["restore"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert!(
            told.contains("data: its recording has ended with the daemon; the log is "),
            "{told}"
        );
        // 5 writes, and 2 flushes, of which the last entry of all may be cut off.
        let expected =
            if is_killed { "5 writes, 1 flush, 1 mark" } else { "6 writes, 2 flushes, 2 marks" };
        assert!(told.contains(expected), "{told}");
        // The device is what it was before it was recorded, and the log is not touched any more.
        assert_eq!(instance.dmsim(&["table", "data"]), before);
        assert_eq!(instance.dmsim(&["ls"]).lines().count(), 1);
        let images = instance.dmsim(&["images"]);
        assert!(!images.contains("run.log"), "{images}");
        assert_eq!(fs::read(instance.device("data")).expect("a device")[1 << 20], 9);
        assert!(fs::metadata(instance.path("run.log")).expect("a log").len() < 1 << 20);
        let log = fs::read(instance.path("run.log")).expect("a log");
        write_something(&instance);
        assert_eq!(fs::read(instance.path("run.log")).expect("a log"), log);
        let check = ["crash", "check", "run.log", "--between", "begin", "end", "--with", "true {}"];
        let check = [&check[..3], &check[6..]].concat();
        instance.dmsim(&check);
        // It can be recorded again, elsewhere.
        instance.dmsim(&["crash", "start", "data", "--log", "again.log"]);
        assert!(instance.dmsim(&["crash", "stop", "data"]).contains("again.log: "));
        assert!(instance.dmsim(&["restore"]).is_empty());
    }
}

fn write_something(instance: &Instance) {
    let device = fs::File::options().write(true).open(instance.device("data"));
    let device = device.expect("a device");
    device.write_all_at(&[5; 4096], 3 << 20).expect("room for it");
    device.sync_all().expect("it is durable");
}

#[test]
fn a_log_of_ones_own_is_not_overwritten_by_a_restore() {
    let Some(instance) = start() else { return };
    let log = instance.image("own.log", "/dev/sdb", 8 << 20);
    instance.create("own", "0 4096 log-writes /dev/sda /dev/sdb");
    fs::write(instance.device("own"), vec![3; 1 << 16]).expect("room for it");
    sh("sync", &[text(&instance.device("own"))]);
    instance.dmsim(&["message", "own", "0", "mark", "there"]);
    let before = fs::read(&log).expect("a log");
    let instance = Instance::start_in(instance.crash(), &[]);
    let told = instance.refused(&["restore"]);
    let expected = "own: its log, ";
    assert!(
        told.contains(expected) && told.contains("own.log, has ") && told.contains("entries"),
        "{told}"
    );
    assert_eq!(fs::read(&log).expect("a log"), before);
    // Once it is out of the way, all is back.
    fs::copy(&log, instance.path("kept.log")).expect("room for it");
    sh(
        "dd",
        &[
            "if=/dev/zero",
            &format!("of={}", text(&log)),
            "bs=4k",
            "count=1",
            "conv=notrunc",
            "status=none",
        ],
    );
    assert_eq!(instance.dmsim(&["restore"]), "own\n");
    assert!(instance.dmsim(&["crash", "states", "kept.log"]).contains("1 mark\n"));
}

#[test]
fn a_recorded_device_is_renamed_and_suspended_and_not_removed() {
    let Some(instance) = start() else { return };
    instance.dmsim(&["crash", "start", "data", "--log", "run.log"]);
    write_and_mark(&instance);
    let told = instance.refused(&["remove", "data"]);
    assert_eq!(told, "dmsim: remove: data: is recorded: `dmsim crash stop data` ends that first\n");
    instance.refused(&["remove", "data-recorded"]);
    let told = instance.refused(&["crash", "start", "data-recorded", "--log", "below.log"]);
    assert!(told.contains("data-recorded: has the table of a device that is recorded"), "{told}");
    instance.dmsim(&["rename", "data", "other"]);
    instance.dmsim(&["crash", "mark", "other", "renamed"]);
    instance.dmsim(&["suspend", "other"]);
    let told = instance.refused(&["crash", "stop", "other"]);
    assert!(told.contains("suspended"), "{told}");
    instance.dmsim(&["resume", "other"]);
    let told = instance.dmsim(&["crash", "stop", "other"]);
    assert!(told.contains("run.log: 5 writes, 2 flushes, 3 marks"), "{told}");
    assert_eq!(instance.dmsim(&["ls"]).lines().count(), 1);
    instance.dmsim(&["remove", "other"]);
}

#[test]
fn a_log_that_goes_meanwhile_costs_the_recording_alone() {
    let Some(instance) = start() else { return };
    let before = instance.dmsim(&["table", "data"]);
    instance.dmsim(&["crash", "start", "data", "--log", "run.log"]);
    // Nobody attaches it beside.
    let told = instance.refused(&["attach", text(&instance.path("run.log")), "--as", "/dev/sdz"]);
    assert!(told.contains("run.log"), "{told}");
    write_and_mark(&instance);
    fs::remove_file(instance.path("run.log")).expect("it is there");
    write_something(&instance);
    let told = instance.refused(&["crash", "stop", "data"]);
    assert!(told.contains("run.log"), "{told}");
    assert_eq!(instance.dmsim(&["table", "data"]), before);
    assert_eq!(instance.dmsim(&["ls"]).lines().count(), 1);
    assert_eq!(fs::read(instance.device("data")).expect("a device")[3 << 20], 5);
}

#[test]
fn a_recording_whose_command_line_is_killed_goes_on_until_it_is_stopped() {
    let Some(instance) = start() else { return };
    let mut command = instance.command(&[
        "crash",
        "record",
        "data",
        "--log",
        "x.log",
        "--",
        "sh",
        "-c",
        "exec sleep 20",
    ]);
    let mut recording = command.spawn().expect("it runs");
    crate::harness::wait_until("it is recorded", || {
        instance.dmsim(&["table", "data"]).contains("log-writes")
    });
    recording.kill().expect("it runs");
    recording.wait().expect("it ends");
    write_and_mark(&instance);
    let told = instance.dmsim(&["crash", "stop", "data"]);
    assert!(told.contains("x.log: 5 writes, 2 flushes, 2 marks"), "{told}");
}

/// A shell script marks what it has made durable, by a file beside the device's.
#[test]
fn a_program_marks_through_a_file_of_the_mount() {
    let Some(instance) = start() else { return };
    let script = r#"
        exec 3<> $DMSIM_DEVICE
        for n in 1 2 3; do
            printf "%04096d" $n >&3
            sync $DMSIM_DEVICE
            echo written $n > $DMSIM_MARKER
        done
        exec 4>> $DMSIM_MARKER
        printf 'two\nlines\n' >&4
        printf 'a\tb \\ é/ü "$x"' >&4
        exec 4>&-
        # What is no mark is refused, and none of it is in the log.
        for word in '\n' 'nul\0' '\377'; do
            printf "$word" > $DMSIM_MARKER && exit 3
        done
        head -c 480 /dev/zero | tr '\0' x > $DMSIM_MARKER && exit 4
        head -c 479 /dev/zero | tr '\0' y > $DMSIM_MARKER
        $DMSIM crash mark $DMSIM_RECORDED $(head -c 480 /dev/zero | tr '\0' x) && exit 5
        : > $DMSIM_MARKER
        # It is no file among the devices.
        ls $(dirname $DMSIM_MARKER) | grep -q mark && exit 6
        test -f $DMSIM_MARKER && test ! -s $DMSIM_MARKER
    "#;
    let mut command = instance
        .command(&["crash", "record", "data", "--log", "run.log", "--", "sh", "-ec", script]);
    let output = command.env("DMSIM", DMSIM).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let log = fs::File::open(instance.path("run.log")).expect("a log");
    let entries = crash::log::read(&log).expect("a log").entries;
    let told: Vec<String> = entries
        .iter()
        .map(|entry| match &entry.what {
            crash::log::What::Write { .. } => format!("write at {}", entry.sector),
            crash::log::What::Mark(text) => text.clone(),
            other => format!("{other:?}"),
        })
        .collect();
    let longest = "y".repeat(479);
    let expected = [
        "write at 0",
        "Flush",
        "written 1",
        "write at 8",
        "Flush",
        "written 2",
        "write at 16",
        "Flush",
        "written 3",
        "two\nlines",
        "a\tb \\ é/ü \"$x\"",
        &longest,
        "dm-log-writes-end",
    ];
    assert_eq!(told, expected);
    // It was there while the device was recorded, and no longer.
    let marker = instance.device("data.mark");
    assert!(!marker.exists());
    instance.dmsim(&["crash", "start", "data", "--log", "again.log"]);
    let open = fs::File::options().write(true).open(&marker).expect("a marker");
    assert_eq!(
        fs::File::open(&marker).map(drop).map_err(|error| error.raw_os_error()),
        Err(Some(13))
    );
    instance.dmsim(&["crash", "stop", "data"]);
    let late = std::io::Write::write(&mut &open, b"late").map_err(|error| error.raw_os_error());
    assert!(late.is_err(), "{late:?}");
    // A device of that name that comes meanwhile comes first.
    instance.dmsim(&["crash", "start", "data", "--log", "third.log"]);
    instance.create("data.mark", "0 8 zero");
    assert_eq!(fs::metadata(&marker).expect("a device").len(), 4096);
    instance.dmsim(&["crash", "stop", "data"]);
}
