//! Snapshots that cannot be taken: an error in words, and everything as it was.

use crate::harness::{
    Instance, Loop, Mounted, bytes, can_mount, has, read_at, sh, text, umount, write_at,
};

const MIB: u64 = 1 << 20;

/// A device with content that every refusal has to leave alone, and what it looks like.
struct Origin {
    instance: Instance,
    seen: String,
}

impl Origin {
    fn new() -> Origin {
        let instance = Instance::start();
        instance.image("disk", "/dev/sda", MIB);
        let device = instance.create("data", "0 2048 linear /dev/sda 0");
        write_at(&device, 0, &bytes(5, MIB as usize)).expect("room for it");
        let seen = Origin::look(&instance);
        Origin { instance, seen }
    }

    fn look(instance: &Instance) -> String {
        let images = instance.dmsim(&["images"]);
        instance.dmsim(&["table"]) + &instance.dmsim(&["info", "-c"]) + &images
    }

    /// Runs `dmsim`, which must be refused with these words and leave everything as it was.
    fn refused(&self, args: &[&str], words: &str) {
        let told = self.instance.refused(args);
        assert!(told.contains(words), "{args:?}: {told}");
        assert_eq!(Origin::look(&self.instance), self.seen, "{args:?}: {told}");
        let device = self.instance.device("data");
        assert!(read_at(&device, 0, MIB as usize).expect("it runs") == bytes(5, MIB as usize));
        write_at(&device, 4096, &bytes(5, 8192)[4096..]).expect("it runs");
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_words_before_anything_is_touched() {
    let origin = Origin::new();
    let file = |name: &str, content: &[u8]| {
        let path = origin.instance.path(name);
        std::fs::write(&path, content).expect("room for it");
        path
    };
    origin.refused(&["snapshot", "data", "data"], "there already");
    origin.refused(&["snapshot", "nothing", "snap"], "no such device");
    origin.refused(&["snapshot", "disk", "snap"], "is an image");
    origin.refused(&["snapshot", "/dev/sda", "snap"], "`dmsim create NAME --table '0 2048 linear");
    origin.refused(&["snapshot", "data", "data-real"], "that name is taken");
    origin.refused(&["snapshot", "data", "snap", "--size", "32K"], "too small");
    origin.refused(&["snapshot", "data", "snap", "--cow", "missing"], "--size SIZE makes it");
    origin.refused(&["snapshot", "data", "snap", "--cow", "disk"], "in use by the table");
    origin.refused(&["snapshot", "data", "snap", "--cow", "/dev/mapper/data"], "lies on `data`");
    // The first kilobyte of ext4 is zeros.
    let mut late = vec![0; 2 << 20];
    late[1080] = 0x53;
    let mut end = vec![0; 2 << 20];
    end[(2 << 20) - 512] = 1;
    let mut version = b"SnAp".to_vec();
    version.extend([1, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0]);
    version.resize(1 << 20, 0);
    let mut invalid = b"SnAp".to_vec();
    invalid.extend([0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]);
    invalid.resize(1 << 20, 0);
    let mut used = b"SnAp".to_vec();
    used.extend([1, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]);
    used.resize(1 << 20, 0);
    used[4096] = 7;
    used[4096 + 8] = 2;
    let mut damaged = used.clone();
    damaged[4096 + 8] = 1;
    let mut empty = used.clone();
    empty[4096 + 8] = 0;
    for (name, content, words) in [
        ("foreign", bytes(3, 1 << 20), "neither empty nor a store"),
        ("late", late, "at byte 1080"),
        ("end", end, "neither empty nor a store"),
        ("short", vec![0; 8192], "too small"),
        ("nothing", Vec::new(), "neither empty nor a store"),
        ("version", version, "version 1 of the store, found 9"),
        ("invalid", invalid, "became invalid"),
        ("used", used, "holds the 1 chunks of another snapshot"),
        ("damaged", damaged, "damaged store"),
        ("empty", empty, "leave --chunk out"),
    ] {
        let path = file(name, &content);
        let args = ["snapshot", "data", "snap", "--cow", text(&path), "--chunk", "16K"];
        origin.refused(&args, words);
        assert!(std::fs::read(&path).expect("it stays") == content, "{name} was changed");
    }
    assert_eq!(
        origin.instance.run(&["snapshot", "data", "s", "--chunk", "12K"]).status.code(),
        Some(2)
    );
    assert_eq!(origin.instance.run(&["snapshot", "data", "a/b"]).status.code(), Some(2));
    // An empty store is used as it is, with its own chunks.
    let made = origin.instance.path("empty");
    origin.instance.dmsim(&["snapshot", "data", "snap", "--cow", text(&made)]);
    assert!(origin.instance.dmsim(&["table", "snap"]).trim_end().ends_with("PO 8"));
    let told = origin.instance.refused(&["snapshot", "data", "other", "--cow", text(&made)]);
    assert!(told.contains("in use by the table of `snap`"), "{told}");
    let told = origin.instance.refused(&["snapshot", "snap", "other"]);
    assert!(told.contains("is a snapshot"), "{told}");
}

#[test]
fn a_device_in_no_state_for_a_snapshot_is_left_alone() {
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", MIB);
    instance.create("data", "0 2048 linear /dev/sda 0");
    instance.create("top", "0 2048 linear /dev/mapper/data 0");
    let refused = |name: &str, words: &str| {
        let told = instance.refused(&["snapshot", name, "snap"]);
        assert!(told.contains(words), "{told}");
        assert_eq!(instance.dmsim(&["ls"]).lines().count(), 2);
    };
    instance.dmsim(&["suspend", "data"]);
    refused("data", "`dmsim resume data` first");
    refused("top", "`data` below it is suspended");
    instance.dmsim(&["resume", "data"]);
    instance.dmsim(&["load", "data", "--table", "0 2048 zero"]);
    refused("data", "`dmsim clear data`");
    instance.dmsim(&["clear", "data"]);
    instance.dmsim(&["load", "--readonly", "data", "--table", "0 2048 linear /dev/sda 0"]);
    instance.dmsim(&["resume", "data"]);
    refused("data", "is read-only");
    instance.dmsim(&["load", "data", "--table", "0 2048 linear /dev/sda 0"]);
    instance.dmsim(&["resume", "data"]);
    instance.create("data-real", "0 8 zero");
    let told = instance.refused(&["snapshot", "data", "snap"]);
    assert!(told.contains("`data-real`, and that name is taken"), "{told}");
    instance.dmsim(&["remove", "data-real"]);
    instance.dmsim(&["snapshot", "data", "snap", "--transient", "--read-only"]);
    let device = instance.device("snap");
    assert!(write_at(&device, 0, &[1; 512]).is_err(), "it is read-only");
}

#[test]
fn what_fails_while_the_device_is_suspended_is_undone() {
    let origin = Origin::new();
    // Another instance holds the image: it cannot be attached when the table is loaded.
    let other = Instance::start();
    let cow = other.image("cow", "/dev/sdb", 2 * MIB);
    let args = ["snapshot", "data", "snap", "--cow", text(&cow)];
    origin.refused(&args, "no snapshot was taken, and `data` is as it was");
    assert!(std::fs::read(&cow).expect("it stays") == vec![0; 2 << 20]);
    if can_mount() {
        // The store cannot be made: there is no room for it.
        let small = origin.instance.path("small");
        std::fs::create_dir(&small).expect("a folder");
        sh("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs", text(&small)]);
        let cow = small.join("cow");
        let args =
            ["snapshot", "data", "snap", "--cow", text(&cow), "--size", "8M", "--chunk", "1M"];
        origin.refused(&args, "`data` is as it was");
        let left = cow.exists();
        umount(&small);
        assert!(!left, "an image was left");
    }
}

#[test]
fn a_store_on_a_file_system_of_the_origin_itself_is_refused() {
    if !can_mount() || !has(&["mkfs.ext4"]) {
        return;
    }
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", 32 * MIB);
    let device = instance.create("data", &format!("0 {} linear /dev/sda 0", 32 * MIB / 512));
    sh("mkfs.ext4", &["-q", "-F", text(&device)]);
    let mounted = Mounted::over(&device, false);
    let cow = mounted.dir.path().join("cow");
    let told = instance.refused(&["snapshot", "data", "snap", "--cow", text(&cow), "--size", "8M"]);
    assert!(told.contains("lies in a file system on `data` itself"), "{told}");
    assert!(!cow.exists());
}

#[test]
fn a_block_device_of_the_machine_is_used_only_where_it_was_attached_as_one() {
    if !can_mount() {
        return;
    }
    let instance = Instance::start();
    let file = instance.path("disk");
    std::fs::write(&file, bytes(9, MIB as usize)).expect("room for it");
    let node = Loop::over(&file, false);
    let table = format!("0 2048 linear {} 0", node.0);
    let hint = format!("`dmsim attach --host-device {}`", node.0);
    let told = instance.refused(&["create", "data", "--table", &table]);
    assert!(told.contains(&hint), "{told}");
    let told = instance.refused(&["attach", &node.0]);
    assert!(told.contains(&hint), "{told}");
    assert_eq!(instance.dmsim(&["images"]).lines().count(), 1);
    assert!(std::fs::read(&file).expect("a file") == bytes(9, MIB as usize));
    instance.dmsim(&["attach", "--host-device", &node.0]);
    let device = instance.create("data", &table);
    assert!(read_at(&device, 4096, 4096).expect("a read") == bytes(9, 8192)[4096..]);
    // Nobody else mounts it, or has it exclusively, meanwhile.
    let mount = std::process::Command::new("mkfs.ext4").args(["-q", &node.0]).output();
    assert!(mount.is_ok_and(|made| !made.status.success()), "it is in use");
    // It was named once: a restore needs no more.
    let dir = instance.crash();
    let instance = Instance::start_in(dir, &[]);
    instance.dmsim(&["restore"]);
    assert!(read_at(&instance.device("data"), 0, 4096).expect("a read") == bytes(9, 4096));
}
