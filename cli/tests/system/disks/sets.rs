//! Sets of mdadm's, of a BIOS's and of dmsim's own, opened as what lies on images: whole, read-only, and
//! without a member.

use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::{bios_pattern, write_bios_images, write_md_images};

use super::{MIB, can_make_groups, empty, in_shell};
use crate::harness::{Instance, can_mount, has, read_at, sh, text, write_at};

/// What an opening of images said.
struct Opened {
    status: Option<i32>,
    told: String,
    json: Value,
}

fn open(instance: &Instance, more: &[&str], images: &[PathBuf]) -> Opened {
    let images: Vec<&str> = images.iter().map(|image| text(image)).collect();
    let words = [&["open", "--name", "set", "--json"], more, &images].concat();
    let output = instance.run(&words);
    Opened {
        status: output.status.code(),
        told: String::from_utf8_lossy(&output.stderr).into_owned(),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
    }
}

fn contents(images: &[PathBuf]) -> Vec<Vec<u8>> {
    images.iter().map(|image| std::fs::read(image).expect("an image")).collect()
}

/// Returns the file of what lies on top, which is called by its first image where a set has no name.
fn top(instance: &Instance, opened: &Opened) -> PathBuf {
    let last = opened.json["devices"].as_array().and_then(|devices| devices.last());
    let last = last.unwrap_or_else(|| panic!("nothing was opened: {}", opened.told));
    instance.device(last["name"].as_str().expect("a name"))
}

/// Whether all that people get of what was opened is read-only.
fn is_read_only(opened: &Opened) -> bool {
    let devices = opened.json["devices"].as_array().expect("devices");
    let mut tops = devices.iter().filter(|device| device["has_layers_above"] == false);
    tops.all(|device| device["read_only"] == true)
}

/// Puts a file into an ext4.
fn put(instance: &Instance, device: &Path, name: &str) {
    let from = instance.path(name);
    std::fs::write(&from, name).expect("room for it");
    sh("debugfs", &["-w", "-R", &format!("write {} {name}", text(&from)), text(device)]);
    sh("e2fsck", &["-fn", text(device)]);
}

fn get(device: &Path, name: &str) -> String {
    sh("debugfs", &["-R", &format!("cat {name}"), text(device)])
}

/// Opens images that are to be opened read-only, and fails where one is written, or lacks what was put there.
fn read_only(instance: &Instance, more: &[&str], images: &[PathBuf]) -> Opened {
    let before = contents(images);
    let opened = open(instance, more, images);
    assert_eq!(opened.status, Some(0), "{}", opened.told);
    assert!(is_read_only(&opened), "{}", opened.json);
    let file = top(instance, &opened);
    assert_eq!(get(&file, "kept"), "kept");
    write_at(&file, 0, &[1; 4096]).expect_err("it is read-only");
    instance.dmsim(&["close", "set"]);
    assert!(contents(images) == before, "images were written");
    opened
}

/// Makes an ext4 with a file on what a set shows, and looks at it read-only, without a member, and whole again.
fn has_a_file_system(instance: &Instance, images: &[PathBuf], is_flat: bool) {
    let opened = open(instance, &[], images);
    assert_eq!(opened.status, Some(0), "{}", opened.told);
    let file = top(instance, &opened);
    sh("mkfs.ext4", &["-q", "-F", "-L", "inside", text(&file)]);
    put(instance, &file, "kept");
    instance.dmsim(&["close", "set"]);
    assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found");
    let opened = read_only(instance, &["--read-only"], images);
    let found = opened.json["devices"].as_array().expect("devices").last().expect("one");
    assert_eq!((&found["type"], &found["label"]), (&"ext4".into(), &"inside".into()));
    // One that was forgotten.
    if is_flat {
        let opened = open(instance, &[], &images[1..]);
        let (left, count) = (images.len() - 1, images.len());
        let told = format!("from {left} of {count} members, not enough to start it (without 0)");
        assert_eq!(opened.status, Some(10), "{}", opened.told);
        assert!(opened.told.contains(&told), "{}", opened.told);
    } else {
        let opened = read_only(instance, &[], &images[1..]);
        assert!(opened.told.contains(" 0 is missing"), "{}", opened.told);
        assert!(opened.told.contains("all is opened read-only"), "{}", opened.told);
    }
    // And is a member as before.
    let opened = open(instance, &[], images);
    assert_eq!((opened.status, &*opened.told), (Some(0), ""));
    put(instance, &top(instance, &opened), "more");
    if !is_flat {
        let set = top(instance, &opened);
        let told = instance.dmsim(&["raid", "check", text(&set)]);
        let is_right =
            ["no sector differs\n", "parity is right\n"].iter().any(|it| told.ends_with(it));
        assert!(is_right, "{told}");
    }
    instance.dmsim(&["close", "set"]);
}

#[test]
fn arrays_of_mdadm_open_whole_read_only_and_without_a_member() {
    if !can_mount() || !has(&["mkfs.ext4", "debugfs", "e2fsck"]) {
        return;
    }
    for name in [
        "raid1-1.2",
        "raid1b-0.90",
        "raid5-1.2",
        "raid6-1.0",
        "raid10-0.90",
        "raid10f-1.2",
        "linear-0.90",
        "linear-1.2",
        "raid0-1.1",
        "raid0z-1.2",
    ] {
        let instance = Instance::start();
        let images = write_md_images(name, &instance.path("")).expect("room for them");
        let is_flat = name.starts_with("linear") || name.starts_with("raid0");
        has_a_file_system(&instance, &images, is_flat);
    }
}

#[test]
fn a_member_that_has_failed_is_not_waited_for_and_a_spare_is_not_filled_for_one_that_was_forgotten()
{
    let instance = Instance::start();
    let images = |name: &str| write_md_images(name, &instance.path("")).expect("room for them");
    // The last member was lost, and the others were written then.
    let stale = images("stale-5-1.2");
    for some in [&stale[..], &stale[..2]] {
        let opened = open(&instance, &[], some);
        assert!(opened.told.contains("member 2 is missing"), "{}", opened.told);
        assert!(!is_read_only(&opened), "{}", opened.json);
        instance.dmsim(&["close", "set"]);
    }
    let spare = images("spare-1.2");
    let before = contents(&spare);
    let opened = open(&instance, &[], &spare[1..]);
    assert!(is_read_only(&opened), "{}", opened.json);
    instance.dmsim(&["close", "set"]);
    assert!(contents(&spare) == before, "the spare was filled");
}

#[test]
fn sets_of_dmsims_own_open_read_only_and_without_a_leg() {
    if !can_mount() || !has(&["mkfs.ext4", "debugfs", "e2fsck"]) {
        return;
    }
    for (level, legs) in [("raid1", 2), ("raid5", 3), ("raid10", 4)] {
        let instance = Instance::start();
        let images: Vec<PathBuf> =
            (0..legs).map(|nr| instance.path(&format!("{nr}.img"))).collect();
        let words: Vec<&str> = images.iter().map(|image| text(image)).collect();
        let create = [&["raid", "create", level][..], &words, &["r", "--size", "8M"]].concat();
        instance.dmsim(&create);
        instance.dmsim(&["wait", "--sync", "r"]);
        instance.dmsim(&["raid", "remove", "r"]);
        has_a_file_system(&instance, &images, false);
    }
}

/// Gives the disks of one of Intel's sets other serial numbers, which can be in the names of files, and
/// files that are called so.
fn with_serials(images: &[PathBuf]) -> Vec<PathBuf> {
    let renamed = images.iter().enumerate().map(|(nr, image)| {
        let mut bytes = std::fs::read(image).expect("an image");
        let table = bytes.len() - 1024;
        for at in table - 1024..bytes.len() - 9 {
            if bytes[at..].starts_with(b"/dev/loop") {
                bytes[at..at + 9].copy_from_slice(b"SERIAL-NR");
            }
        }
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let size = word(table + 0x24) as usize;
        // The first sector is the last but one of the disk, the others are before it.
        let at =
            |nr: usize| if nr < 512 { table + nr } else { table - size.div_ceil(512) * 512 + nr };
        let words = (0..size).step_by(4).filter(|nr| *nr != 0x20).map(|nr| word(at(nr)));
        let sum = words.fold(0_u32, u32::wrapping_add);
        bytes[table + 0x20..table + 0x24].copy_from_slice(&sum.to_le_bytes());
        let path = image.with_file_name(format!("disk-SERIAL-NR{nr}.img"));
        std::fs::write(&path, bytes).expect("room for it");
        path
    });
    renamed.collect()
}

/// Fails where a volume has not what Linux wrote.
#[track_caller]
fn has_pattern(device: &Path, what: &str) {
    for block in 0..128 {
        let found = read_at(device, block * 4096, 4096).expect("a read");
        assert!(found == vec![bios_pattern(block); 4096], "{what}: block {block}");
    }
}

#[test]
fn sets_of_a_bios_open_by_volumes_whole_read_only_and_without_a_disk() {
    for (name, volumes) in [
        ("imsm5", &["vol0"][..]),
        ("imsm10", &["vol0"]),
        ("imsm0", &["vol0"]),
        ("imsm-two", &["sys", "fast"]),
        ("ddf5", &["vol0"]),
        ("ddf10", &["vol0"]),
        ("ddf-two", &["sys", "fast"]),
    ] {
        let instance = Instance::start();
        let mut images = write_bios_images(name, &instance.path("")).expect("room for them");
        if name.starts_with("imsm") {
            let opened = open(&instance, &[], &images);
            assert_eq!(opened.status, Some(10), "{name}: {}", opened.told);
            assert!(opened.told.contains("call the files by them"), "{}", opened.told);
            images = with_serials(&images);
        }
        for (more, some) in
            [(&["--read-only"][..], &images[..]), (&[], &images[1..]), (&[], &images[..])]
        {
            let before = contents(some);
            let is_whole = some.len() == images.len();
            let opened = open(&instance, more, some);
            let devices = opened.json["devices"].as_array().map_or(0, Vec::len);
            for volume in volumes {
                let is_flat = *volume == "fast" || name == "imsm0";
                if !is_whole && is_flat {
                    let told = format!("{}{}", opened.told, opened.json["not_opened"]);
                    assert!(told.contains("not enough to start it (without "), "{name}: {told}");
                    continue;
                }
                assert!(devices > 0, "{name}: {}", opened.told);
                has_pattern(&instance.device(volume), name);
            }
            let is_written = is_whole && more.is_empty();
            if devices > 0 {
                assert_eq!(is_read_only(&opened), !is_written, "{name}: {}", opened.json);
                instance.dmsim(&["close", "set"]);
            }
            assert!(is_written || contents(some) == before, "{name}: images were written");
            assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found");
        }
    }
}

/// Puts an image into a partition of a new disk.
fn into_partition(instance: &Instance, image: &Path, nr: usize) -> PathBuf {
    let disk = instance.path(&format!("disk{nr}.img"));
    let bytes = std::fs::read(image).expect("an image");
    empty(&disk, bytes.len() as u64 + 2 * MIB);
    let sectors = bytes.len() / 512;
    let make = format!("printf 'label: gpt\\nsize={sectors}\\n' | sfdisk -q {}", text(&disk));
    sh("sh", &["-ec", &make]);
    write_at(&disk, MIB, &bytes).expect("room for it");
    disk
}

#[test]
fn a_group_lies_on_an_array_whose_members_lie_in_partitions() {
    if !can_make_groups() || !has(&["sfdisk", "debugfs", "e2fsck"]) {
        return;
    }
    let instance = Instance::start();
    let images = write_md_images("raid5-1.2", &instance.path("")).expect("room for them");
    let images: Vec<PathBuf> =
        (0..).zip(&images).map(|(nr, image)| into_partition(&instance, image, nr)).collect();
    open(&instance, &[], &images);
    in_shell(
        &instance,
        "exec 2>&1; lvm vgcreate -q -s 64k vg /dev/mapper/t; \
         lvm lvcreate -q -y -Zn -Wn -L 8m -n root vg; mkfs.ext4 -q -L inside /dev/vg/root; \
         lvm vgchange -q -an vg",
    );
    instance.dmsim(&["close", "set"]);
    let opened = open(&instance, &[], &images);
    let names: Vec<&str> = opened.json["devices"]
        .as_array()
        .expect("devices")
        .iter()
        .map(|device| device["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["disk0p1", "disk1p1", "disk2p1", "disk3p1", "t", "vg-root"]);
    put(&instance, &instance.device("vg-root"), "kept");
    instance.dmsim(&["close", "set"]);
    read_only(&instance, &["--read-only"], &images);
    let opened = read_only(&instance, &[], &images[1..]);
    assert!(opened.told.contains("member 0 is missing"), "{}", opened.told);
}
