//! Programs that lose data in a power cut, and the same with their safety on: the explorer finds out which is which.

use std::path::PathBuf;

use crate::harness::{DMSIM, Instance, can_mount, has, sh, text};

/// Where the programs lie, and what judges them.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/power_cuts/programs");

/// Judges a file system alone.
const FSCK: &str = "e2fsck -y -E journal_only {}; e2fsck -fn {}";

/// A device of 16 MiB with an ext4 on it.
fn with_ext4() -> Option<Instance> {
    if !can_mount() || !has(&["mkfs.ext4", "e2fsck", "debugfs", "mount"]) {
        return None;
    }
    let instance = Instance::start();
    instance.image("disk.img", "/dev/sda", 16 << 20);
    Some(instance)
}

/// Records a program on a new device `name`, on which is a file system if it `is_ext4`, and returns the log.
fn record(instance: &Instance, name: &str, is_ext4: bool, program: &str, words: &[&str]) -> String {
    let size = if is_ext4 { 32768 } else { 2048 };
    let device = instance.create(name, &format!("0 {size} linear /dev/sda 0"));
    if is_ext4 {
        // Little of it is ever looked at: the checks are the faster for it.
        sh("mkfs.ext4", &["-q", "-F", "-b", "4096", "-N", "128", "-J", "size=4", text(&device)]);
    } else {
        sh(
            "dd",
            &[
                "if=/dev/zero",
                &format!("of={}", text(&device)),
                "bs=1M",
                "count=1",
                "conv=notrunc",
                "status=none",
            ],
        );
    }
    let log = format!("{name}.log");
    let program = PathBuf::from(PROGRAMS).join(program);
    let record = ["crash", "record", name, "--log", &log, "--", text(&program)];
    let mut command = instance.command(&[&record[..], words].concat());
    let output = command.env("DMSIM", DMSIM).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    instance.dmsim(&["remove", name]);
    log
}

/// Has states of a log judged; none may fail.
fn stands(instance: &Instance, log: &str, with: &str) {
    let check = ["crash", "check", log, "--atomic", "4096", "--states", "120", "--with", with];
    let told = instance.dmsim(&check);
    assert!(told.ends_with(": none fails\n"), "{told}");
}

/// Has states of a log judged, with these words more; one must fail, with this in what is said of it.
fn fails(instance: &Instance, log: &str, with: &str, more: &[&str], expected: &str) {
    let check = ["crash", "check", log, "--states", "300", "--with", with];
    let output = instance.run(&[&check[..], more].concat());
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(expected), "{told}");
    assert!(
        more.iter()
            .all(|word| told.lines().any(|line| line.starts_with("again:") && line.contains(word)))
    );
}

fn judge(name: &str) -> String {
    format!("{PROGRAMS}/{name} {{}}")
}

#[test]
fn an_ext4_without_barriers_or_on_a_disk_that_drops_flushes_is_damaged() {
    let Some(instance) = with_ext4() else { return };
    let log = record(&instance, "safe", true, "files.sh", &["barrier", "12"]);
    stands(&instance, &log, FSCK);
    fails(&instance, &log, FSCK, &["--atomic", "4096", "--lost-flushes"], "exit status");
    let log = record(&instance, "hasty", true, "files.sh", &["nobarrier", "12"]);
    fails(&instance, &log, FSCK, &["--atomic", "4096"], "exit status");
}

#[test]
fn a_database_keeps_what_it_was_told_to_and_loses_the_rest() {
    let Some(instance) = with_ext4().filter(|_| has(&["sqlite3"])) else { return };
    let judge = judge("database-check.sh");
    let log = record(&instance, "safe", true, "database.sh", &["extra", "4"]);
    stands(&instance, &log, &judge);
    fails(&instance, &log, &judge, &["--atomic", "4096", "--lost-flushes"], "exit status 1");
    let log = record(&instance, "hasty", true, "database.sh", &["off", "4"]);
    fails(&instance, &log, &judge, &["--atomic", "4096"], "exit status 1");
}

#[test]
fn a_home_made_log_needs_a_checksum() {
    if !can_mount() || !has(&["perl"]) {
        return;
    }
    let instance = Instance::start();
    instance.image("disk.img", "/dev/sda", 16 << 20);
    let log = record(&instance, "safe", false, "log.pl", &["checksum", "60"]);
    let with = judge("log-check.pl checksum");
    stands(&instance, &log, &with);
    fails(&instance, &log, &with, &["--lost-flushes"], "promised");
    let log = record(&instance, "hasty", false, "log.pl", &["plain", "60"]);
    fails(&instance, &log, &judge("log-check.pl plain"), &[], "is not what was appended");
}

#[test]
fn an_image_tool_that_renames_before_it_syncs_leaves_empty_files() {
    let Some(instance) = with_ext4() else { return };
    let judge = judge("image-check.sh");
    let log = record(&instance, "safe", true, "image.sh", &["careful", "6"]);
    stands(&instance, &log, &judge);
    let log = record(&instance, "hasty", true, "image.sh", &["hasty", "6"]);
    fails(&instance, &log, &judge, &["--atomic", "4096"], "0 lines");
}
