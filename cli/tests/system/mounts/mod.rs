//! `dmsim mount` and `umount`: real file systems, by the kernel as root and by FUSE programs as an ordinary user, and
//! what is said where something is missing.

mod missing;
mod users;

use std::fs;
use std::path::PathBuf;

use crate::harness::{Instance, can_mount, has, sh, text, wait_until};

const MIB: u64 = 1 << 20;

/// A file system, how it is made on a file, and how it is checked.
const KINDS: [(&str, &[&str], &[&str]); 3] = [
    ("ext4", &["mkfs.ext4", "-q", "-F"], &["e2fsck", "-f", "-n"]),
    ("vfat", &["mkfs.vfat", "-F", "32"], &["fsck.vfat", "-n"]),
    ("ntfs", &["mkfs.ntfs", "-q", "-F"], &["ntfsfix", "-n"]),
];

/// Makes an empty directory.
fn dir(instance: &Instance, name: &str) -> PathBuf {
    let dir = instance.path(name);
    fs::create_dir(&dir).expect("a new folder");
    dir
}

fn run(words: &[&str], file: &std::path::Path) {
    sh(words[0], &[&words[1..], &[text(file)]].concat());
}

#[test]
fn root_mounts_writes_unmounts_and_removes() {
    if !can_mount() || !has(&["fusefat", "ntfs-3g", "fusermount3", "blkid"]) {
        return;
    }
    if !KINDS.iter().all(|(_, mkfs, check)| has(&[mkfs[0], check[0]])) {
        return;
    }
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 64 * MIB);
    let mnt = dir(&instance, "with space");
    for (kind, mkfs, check) in KINDS {
        let device = instance.create(kind, "0 131072 linear /dev/sda 0");
        run(mkfs, &device);
        assert_eq!(instance.dmsim(&["mount", kind, "with space"]), format!("{}\n", text(&mnt)));
        fs::write(mnt.join("file"), kind).expect("room for it");
        // By its name, or the directory.
        instance.dmsim(&["umount", if kind == "ext4" { text(&mnt) } else { kind }]);
        run(check, &device);
        instance.dmsim(&["mount", kind, text(&mnt), "--read-only", "--type", kind]);
        assert_eq!(fs::read_to_string(mnt.join("file")).expect("it was written"), kind);
        fs::write(mnt.join("more"), "no").expect_err("it is read-only");
        instance.dmsim(&["umount", kind]);
        // The device is let go of when the command has ended.
        instance.dmsim(&["remove", kind]);
    }
}

#[test]
fn what_cannot_be_written_is_mounted_read_only() {
    if !can_mount() || !has(&["mksquashfs", "mkfs.ext4", "squashfuse"]) {
        return;
    }
    let instance = Instance::start();
    let tree = dir(&instance, "tree");
    fs::write(tree.join("file"), "in it").expect("a file");
    let image = instance.path("sq.img");
    sh("mksquashfs", &[text(&tree), text(&image), "-quiet", "-no-progress"]);
    let sectors = fs::metadata(&image).expect("an image").len() / 512;
    instance.create("sq", &format!("0 {sectors} linear {} 0", text(&image)));
    let mnt = dir(&instance, "mnt");
    instance.dmsim(&["mount", "sq", text(&mnt)]);
    assert_eq!(fs::read_to_string(mnt.join("file")).expect("a file"), "in it");
    fs::write(mnt.join("more"), "no").expect_err("it is read-only");
    instance.dmsim(&["umount", "sq"]);
    // A device that refuses writes.
    instance.image("a.img", "/dev/sda", 16 * MIB);
    run(&["mkfs.ext4", "-q", "-F"], &instance.path("a.img"));
    instance.dmsim(&["create", "ro", "--readonly", "--table", "0 32768 linear /dev/sda 0"]);
    let output = instance.run(&["mount", "ro", text(&mnt)]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("is mounted read-only"), "{said}");
    fs::write(mnt.join("more"), "no").expect_err("it is read-only");
    instance.dmsim(&["umount", "ro"]);
}

#[test]
fn what_is_mounted_is_not_closed_removed_or_stopped_and_says_where_it_is() {
    if !can_mount() || !has(&["mkfs.ext4"]) {
        return;
    }
    let instance = Instance::start();
    let image = instance.path("disk.img");
    fs::File::create(&image).and_then(|file| file.set_len(32 * MIB)).expect("an image");
    sh("mkfs.ext4", &["-q", "-F", "-E", "offset=1048576", text(&image), "31M"]);
    instance.dmsim(&["open", text(&image), "--offset", "2048"]);
    let mnt = dir(&instance, "mnt");
    instance.dmsim(&["mount", text(&instance.device("disk")), text(&mnt)]);
    let way = format!("`dmsim umount disk` unmounts it from {}", text(&mnt));
    for verb in [&["close", "disk"][..], &["remove", "disk"], &["stop"]] {
        let said = instance.refused(verb);
        assert!(said.contains("in use by ") && said.contains(&way), "{verb:?}: {said}");
    }
    let again = dir(&instance, "again");
    let said = instance.refused(&["mount", "disk", text(&again)]);
    assert!(said.contains(&format!("is mounted at {} already", text(&mnt))), "{said}");

    let file = fs::File::create(mnt.join("open")).expect("a file");
    let said = instance.refused(&["umount", "disk"]);
    let by = format!("(pid {}) uses {}", std::process::id(), text(&mnt.join("open")));
    assert!(said.contains("which is busy: ") && said.contains(&by), "{said}");
    drop(file);
    // Another test's fork may have it for a moment.
    wait_until("it is not busy", || instance.run(&["umount", "disk"]).status.success());
    instance.dmsim(&["close", "disk"]);
    assert!(instance.refused(&["umount", "disk"]).contains("no such device"));
}

#[test]
fn only_a_file_system_is_mounted_and_only_on_an_empty_directory() {
    if !has(&["blkid", "mkswap"]) {
        return;
    }
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 16 * MIB);
    let device = instance.create("d", "0 32768 linear /dev/sda 0");
    let (mnt, full) = (dir(&instance, "mnt"), dir(&instance, "full"));
    fs::write(full.join("file"), "").expect("a file");
    let said = |words: &[&str]| {
        let output = instance.run(words);
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let mnt = text(&mnt);
    let check = |words: &[&str], expected: &str| {
        let said = said(words);
        assert!(said.contains(expected), "{words:?}: {said}");
    };
    check(&["mount", "none", mnt], "no such device");
    check(&["mount", "d", "nowhere"], "no such directory: `mkdir` it first");
    check(&["mount", "d", "a.img"], "expected a directory, found a file");
    check(&["mount", "d", text(&full)], "expected an empty directory");
    check(&["mount", "d", mnt], "no file system is recognised in it: `dmsim open d`");
    run(&["mkswap", "-q"], &device);
    check(&["mount", "d", mnt], "holds swap, which is no file system");
    instance.create("over", "0 8 linear /dev/mapper/d 0");
    check(&["mount", "d", mnt, "--type", "ext4"], "is in use by the table of `over`");
    instance.dmsim(&["remove", "over"]);
    check(&["umount", "d"], "d: is not mounted");
    check(&["umount", "none"], "no such device");
    // What others have mounted is not ours to unmount.
    check(&["umount", "/proc"], "/proc: no device of this instance is mounted there");
    instance.dmsim(&["suspend", "d"]);
    check(&["mount", "d", mnt], "d: is suspended: `dmsim resume d` first");
    instance.dmsim(&["resume", "d"]);
}
