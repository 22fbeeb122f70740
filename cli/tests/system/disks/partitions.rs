//! `partitions` says of an image what the tools say that made the table.

use std::fs::File;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::MIB;
use crate::harness::{Instance, command, has, sh, text, write_at};

/// Makes a disk with an ESP, a gap and a partition with a name.
fn disk(path: &Path) {
    File::create(path).expect("a new file").set_len(16 * MIB).expect("room for it");
    let parts = ["-n", "1:0:+1M", "-t", "1:ef00", "-n", "3:8192:0", "-c", "3:Größe", text(path)];
    sh("sgdisk", &parts);
}

/// Runs `partitions` where no daemon does.
fn run(dir: &Path, args: &[&str]) -> Output {
    command(dir, &[&["partitions"], args].concat()).output().expect("dmsim runs")
}

fn printed(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn the_table_of_a_file_is_printed_without_an_instance() {
    if !has(&["sgdisk", "sfdisk"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let image = dir.path().join("disk.img");
    disk(&image);
    let output = run(dir.path(), &[text(&image)]);
    assert_eq!((output.status.code(), printed(&output.stderr)), (Some(0), ""));
    let rows: Vec<&str> = printed(&output.stdout).lines().skip(2).collect();
    assert_eq!(
        rows,
        [
            "#  Boot  Start    End  Sectors   Size  Type               Name",
            "1         2048   4095     2048     1M  EFI System",
            "3         8192  32734    24543  11.9M  Linux file system  Größe",
        ]
    );
    let output = run(dir.path(), &[text(&image), "--json"]);
    let ours: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let theirs: Value =
        serde_json::from_str(&sh("sfdisk", &["--json", text(&image)])).expect("JSON");
    let theirs = &theirs["partitiontable"]["partitions"][1];
    let ours = &ours["partitions"][1];
    assert_eq!((&ours["start"], &ours["label"]), (&theirs["start"], &theirs["name"]));
    let uuid = theirs["uuid"].as_str().expect("a text").to_lowercase();
    assert_eq!(ours["uuid"], uuid);
    assert!(!dir.path().join("run").exists(), "no instance was made");

    // The first header damaged: what counts is said, and with the second damaged as well there is none.
    write_at(&image, 512 + 40, &[1]).expect("a write");
    let output = run(dir.path(), &[text(&image)]);
    let warning =
        "dmsim: warning: the GPT in sector 1 is damaged (checksum of the header: expected ";
    assert!(printed(&output.stderr).starts_with(warning), "{output:?}");
    assert_eq!(printed(&output.stdout).lines().skip(2).collect::<Vec<_>>(), rows);
    write_at(&image, 16 * MIB - 512 + 40, &[1]).expect("a write");
    let output = run(dir.path(), &[text(&image)]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(printed(&output.stderr).contains(": damaged header: the GPT in sector 1 is damaged ("));
}

#[test]
fn where_there_is_no_table_the_exit_status_is_4() {
    let dir = tempfile::tempdir().expect("a folder");
    let image = dir.path().join("none.img");
    std::fs::write(&image, [0; 8192]).expect("room for it");
    let output = run(dir.path(), &[text(&image)]);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(4), &[][..]));
    let why = format!("dmsim: {}: no partition table found\n", image.display());
    assert_eq!(printed(&output.stderr), why);
    let output = run(dir.path(), &[text(&dir.path().join("missing"))]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = run(dir.path(), &[text(&image), "--sector-size", "2048"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn attached_images_and_mapped_devices_are_known_by_their_names() {
    if !has(&["sgdisk"]) {
        return;
    }
    let instance = Instance::start();
    let image = instance.path("disk.img");
    disk(&image);
    instance.dmsim(&["attach", text(&image), "--as", "/dev/sdq"]);
    let device = instance.create("whole", "0 32768 linear /dev/sdq 0");
    let of_file = instance.dmsim(&["partitions", text(&image)]);
    assert!(of_file.contains("EFI System"), "{of_file}");
    for word in ["/dev/sdq", text(&device), "/dev/mapper/whole"] {
        assert_eq!(instance.dmsim(&["partitions", word]), of_file, "{word}");
    }
}
