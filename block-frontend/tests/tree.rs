//! What programs see of mapped devices. The nodes are over ordinary files.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(dead_code, reason = "a part of what tests share is for the nodes alone")]

mod common;
#[path = "common/facts.rs"]
mod facts;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use block_frontend::{Facts, Node, OLD_NAME_LASTS, Tree};
use common::{Rig, has, run, shown, skip};
use facts::facts;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sim_core::DevNumber;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A tree on a tmpfs of its own.
struct Planted {
    tree: Tree,
    dir: TempDir,
}

impl Planted {
    fn new() -> Option<Planted> {
        if !rustix::process::geteuid().is_root() {
            return skip("no root");
        }
        let dir = tempfile::tempdir().unwrap();
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(c"mode=755")).unwrap();
        let tree = Tree::make(dir.path(), Path::new("/run/dmsim/control")).unwrap();
        Some(Planted { tree, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Reads a file of a device, by its number.
    fn says(&self, dev: DevNumber, name: &str) -> String {
        let path = self.path("sys-dev-block").join(dev.to_string()).join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        text.strip_suffix('\n').unwrap().to_owned()
    }

    /// The names in a folder of a device, whose links all lead somewhere.
    fn names(&self, dev: DevNumber, folder: &str) -> Vec<String> {
        let path = self.path("sys-dev-block").join(dev.to_string()).join(folder);
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        let mut names = Vec::new();
        for entry in entries {
            let dev = fs::read_to_string(entry.path().join("dev"));
            assert!(dev.is_ok(), "{entry:?} leads nowhere");
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        names
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let unmounted = unmount(self.dir.path(), UnmountFlags::DETACH);
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

fn is_node_of(path: &Path, dev: DevNumber) -> bool {
    let number = rustix::fs::makedev(dev.major, dev.minor);
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.file_type().is_block_device()
            && metadata.rdev() == number
            && metadata.mode() & 0o777 == 0o660
    })
}

#[test]
fn the_hosts_devices_are_there_as_they_are() {
    let Some(planted) = Planted::new() else { return };
    for name in ["null", "zero", "loop-control"] {
        let real = fs::metadata(Path::new("/dev").join(name)).unwrap();
        let copy = fs::symlink_metadata(planted.path("dev").join(name)).unwrap();
        let of = |metadata: &fs::Metadata| {
            (metadata.rdev(), metadata.mode(), metadata.uid(), metadata.gid())
        };
        assert_eq!(of(&copy), of(&real), "{name}");
    }
    assert_eq!(fs::read_link(planted.path("dev/fd")).unwrap(), Path::new("/proc/self/fd"));
    let control = fs::read_link(planted.path("dev/mapper/control")).unwrap();
    assert_eq!(control, Path::new("/run/dmsim/control"));
    for name in ["pts", "shm"] {
        assert_eq!(fs::read_dir(planted.path("dev").join(name)).unwrap().count(), 0);
    }
    // A loop device that comes later has what it needs.
    let node = fs::symlink_metadata(planted.path("dev/loop15")).unwrap();
    assert_eq!(node.rdev(), rustix::fs::makedev(7, 15));
    let target = fs::read_link(planted.path("sys-dev-block/7:15")).unwrap();
    assert_eq!(target, Path::new("../../devices/virtual/block/loop15"));
    let devices = fs::read_to_string(planted.path("proc-devices")).unwrap();
    assert!(devices.contains("\n259 device-mapper\n") && !devices.contains("blkext"), "{devices}");
}

#[test]
fn a_device_says_what_programs_ask() {
    let Some(planted) = Planted::new() else { return };
    let first = Facts { block: 4096, ..facts(3, r"vg-a\x20b", &[]) };
    planted.tree.put(&first).unwrap();
    let says = |name: &str| planted.says(first.dev, name);
    assert_eq!(says("dm/name"), r"vg-a\x20b");
    assert_eq!(says("dm/uuid"), r"LVM-vg-a\x20b");
    assert_eq!((says("dm/suspended"), says("ro")), ("0".into(), "0".into()));
    assert_eq!((says("dev"), says("size")), ("259:1003".into(), "16384".into()));
    assert_eq!(says("queue/logical_block_size"), "4096");
    assert_eq!(
        (says("queue/read_ahead_kb"), says("bdi/read_ahead_kb")),
        ("128".into(), "128".into())
    );
    assert_eq!(says("alignment_offset"), "0");
    assert_eq!(says("uevent"), "MAJOR=259\nMINOR=1003\nDEVNAME=dm-3\nDEVTYPE=disk");
    // libdevmapper and util-linux take the kernel's name from here.
    let target = fs::read_link(planted.path("sys-dev-block/259:1003")).unwrap();
    assert_eq!(target.file_name().unwrap(), "dm-3");
    for name in ["dm-3", r"mapper/vg-a\x20b"] {
        assert!(is_node_of(&planted.path("dev").join(name), first.dev), "{name}");
    }

    let changed = Facts { suspended: true, read_only: true, bytes: 0, uuid: None, ..first.clone() };
    let inode =
        |name: &str| fs::metadata(planted.path("sys-dev-block/259:1003").join(name)).unwrap().ino();
    let untouched = inode("dm/name");
    planted.tree.put(&changed).unwrap();
    assert_eq!((says("dm/suspended"), says("ro")), ("1".into(), "1".into()));
    assert_eq!((says("size"), says("dm/uuid")), ("0".into(), String::new()));
    assert_eq!(inode("dm/name"), untouched);
}

#[test]
fn a_renamed_device_has_its_new_name_alone() {
    let Some(planted) = Planted::new() else { return };
    let first = facts(0, "old", &[]);
    planted.tree.put(&first).unwrap();
    planted.tree.put(&Facts { name: "new".into(), ..first.clone() }).unwrap();
    // The old one is there for libdevmapper, which renames it.
    let [old, new] = ["old", "new"].map(|name| planted.path("dev/mapper").join(name));
    assert!(is_node_of(&old, first.dev) && is_node_of(&new, first.dev));
    fs::remove_file(&new).unwrap();
    fs::rename(&old, &new).unwrap();
    planted.tree.put(&Facts { name: "new".into(), suspended: true, ..first.clone() }).unwrap();
    assert!(is_node_of(&new, first.dev) && !old.exists());
    assert_eq!(planted.says(first.dev, "dm/name"), "new");
    // There and back: it is no old name any more.
    planted.tree.put(&Facts { name: "other".into(), ..first.clone() }).unwrap();
    planted.tree.put(&Facts { name: "new".into(), ..first.clone() }).unwrap();
    std::thread::sleep(OLD_NAME_LASTS);
    planted.tree.refresh().unwrap();
    assert!(is_node_of(&new, first.dev) && !planted.path("dev/mapper/other").exists());
    // The old name is another's now, and stays so.
    let second = facts(1, "old", &[]);
    planted.tree.put(&second).unwrap();
    planted.tree.put(&Facts { name: "third".into(), ..first }).unwrap();
    assert!(is_node_of(&old, second.dev));
    std::thread::sleep(OLD_NAME_LASTS);
    planted.tree.refresh().unwrap();
    assert!(is_node_of(&old, second.dev) && !new.exists());
}

#[test]
fn a_node_that_is_missing_is_made_again_and_a_programs_link_is_kept() {
    let Some(planted) = Planted::new() else { return };
    let first = facts(0, "a", &[]);
    let path = planted.path("dev/mapper/a");
    planted.tree.put(&first).unwrap();
    fs::remove_file(&path).unwrap();
    planted.tree.put(&first).unwrap();
    assert!(is_node_of(&path, first.dev));
    fs::remove_file(&path).unwrap();
    symlink("../dm-0", &path).unwrap();
    planted.tree.put(&Facts { suspended: true, ..first }).unwrap();
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("../dm-0"));
}

#[test]
fn a_name_that_is_no_file_name_is_refused() {
    let Some(planted) = Planted::new() else { return };
    for name in ["", ".", "..", "control", "a/b"] {
        let error = planted.tree.put(&facts(0, name, &[])).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{name}");
    }
}

#[test]
fn holders_and_slaves_are_true_for_all_devices() {
    let Some(planted) = Planted::new() else { return };
    let host = DevNumber { major: 7, minor: 0 };
    let before = fs::read_link(planted.path("sys-dev-block/7:0")).unwrap();
    let [a, b] = [facts(0, "a", &[host]), facts(1, "b", &[])];
    let top = facts(2, "top", &[a.dev, b.dev, host]);
    // The one above may be first.
    for device in [&top, &a, &b] {
        planted.tree.put(device).unwrap();
    }
    assert_eq!(planted.names(top.dev, "slaves"), ["dm-0", "dm-1", "loop0"]);
    assert_eq!(planted.names(a.dev, "holders"), ["dm-2"]);
    assert_eq!(planted.names(b.dev, "holders"), ["dm-2"]);
    assert_eq!(planted.names(a.dev, "slaves"), ["loop0"]);
    assert_eq!(planted.names(host, "holders"), ["dm-0", "dm-2"]);
    // All else of it is the host's.
    assert_eq!(planted.says(host, "dev"), "7:0");
    assert!(!planted.says(host, "queue/logical_block_size").is_empty());
    let shadow = fs::read_link(planted.path("sys-dev-block/7:0")).unwrap();
    assert_eq!(shadow.file_name().unwrap(), "loop0");

    let top = Facts { below: vec![b.dev], ..top };
    planted.tree.put(&top).unwrap();
    assert_eq!(planted.names(top.dev, "slaves"), ["dm-1"]);
    assert!(planted.names(a.dev, "holders").is_empty());
    assert_eq!(planted.names(host, "holders"), ["dm-0"]);

    planted.tree.take(a.minor).unwrap();
    assert_eq!(fs::read_link(planted.path("sys-dev-block/7:0")).unwrap(), before);
    planted.tree.take(top.minor).unwrap();
    assert!(planted.names(b.dev, "holders").is_empty());
}

#[test]
fn what_programs_made_stays_and_the_devices_things_go() {
    let Some(planted) = Planted::new() else { return };
    let [first, second] = [facts(0, "vg-lv", &[]), facts(1, "replaced", &[])];
    planted.tree.put(&first).unwrap();
    planted.tree.put(&second).unwrap();
    fs::create_dir(planted.path("dev/vg")).unwrap();
    symlink("/dev/mapper/vg-lv", planted.path("dev/vg/lv")).unwrap();
    fs::remove_file(planted.path("dev/mapper/replaced")).unwrap();
    symlink("../dm-1", planted.path("dev/mapper/replaced")).unwrap();
    fs::remove_file(planted.path("dev/mapper/vg-lv")).unwrap();
    for minor in [0, 1, 1, 7] {
        planted.tree.take(minor).unwrap();
    }
    assert!(planted.path("dev/vg/lv").is_symlink());
    assert!(planted.path("dev/mapper/replaced").is_symlink());
    for gone in ["dev/dm-0", "dev/dm-1", "sys-dev-block/259:1000", "sys-block/dm-0"] {
        assert!(fs::symlink_metadata(planted.path(gone)).is_err(), "{gone}");
    }
    assert!(!planted.path("sys-devices/dm-0").exists());
    // And the same number again.
    planted.tree.put(&facts(1, "again", &[])).unwrap();
    assert_eq!(planted.says(second.dev, "dm/name"), "again");
}

#[test]
fn a_device_with_the_number_of_another_takes_its_place() {
    let Some(planted) = Planted::new() else { return };
    let first = facts(0, "first", &[]);
    planted.tree.put(&first).unwrap();
    let dev = DevNumber { major: 259, minor: 2000 };
    let second = Facts { dev, name: "second".into(), ..first };
    planted.tree.put(&second).unwrap();
    assert!(fs::symlink_metadata(planted.path("sys-dev-block/259:1000")).is_err());
    assert!(fs::symlink_metadata(planted.path("dev/mapper/first")).is_err());
    assert!(is_node_of(&planted.path("dev/dm-0"), dev));
}

#[test]
fn a_tree_is_removed_with_what_is_in_it() {
    let Some(planted) = Planted::new() else { return };
    let dir = planted.path("second");
    let tree = Tree::make(&dir, Path::new("control")).unwrap();
    tree.put(&facts(0, "a", &[DevNumber { major: 7, minor: 0 }])).unwrap();
    fs::create_dir(dir.join("dev/vg")).unwrap();
    tree.remove().unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    assert!(Path::new("/sys/block/loop0/queue").exists());
}

#[test]
fn two_hundred_devices_take_no_time() {
    let Some(planted) = Planted::new() else { return };
    let bottom = facts(0, "bottom", &[]);
    planted.tree.put(&bottom).unwrap();
    let above: Vec<_> = (1..=200).map(|n| facts(n, &format!("d{n}"), &[bottom.dev])).collect();
    let started = Instant::now();
    for device in &above {
        planted.tree.put(device).unwrap();
    }
    let first = started.elapsed() / 200;
    let started = Instant::now();
    for device in &above {
        planted.tree.put(&Facts { suspended: true, ..device.clone() }).unwrap();
    }
    let changed = started.elapsed() / 200;
    assert_eq!(planted.names(bottom.dev, "holders").len(), 200);
    let started = Instant::now();
    planted.tree.mend().unwrap();
    println!("all mended in {:?}", started.elapsed());
    let started = Instant::now();
    for device in &above {
        planted.tree.take(device.minor).unwrap();
    }
    let taken = started.elapsed() / 200;
    let started = Instant::now();
    planted.tree.mend().unwrap();
    let mended = started.elapsed();
    println!("each: first {first:?}, changed {changed:?}, taken {taken:?}; mended {mended:?}");
    assert!(planted.names(bottom.dev, "holders").is_empty());
    assert!((first + changed + taken).as_millis() < 100);
}

/// Runs a script where the tree is in the place of the host's.
fn in_namespace(planted: &Planted, script: &str) -> String {
    let dir = planted.dir.path().to_str().unwrap();
    let binds = "set -e; mount --bind $T/dev /dev; mount --bind $T/sys-dev-block /sys/dev/block; \
                 mount --bind $T/sys-block /sys/block; mount --bind $T/proc-devices /proc/devices";
    let script = format!("T={dir}; {binds}; {script}");
    run("unshare", &["--mount", "--propagation", "private", "sh", "-c", &script])
}

fn facts_of(node: Node, minor: u32, name: &str, below: &[DevNumber]) -> Facts {
    Facts { dev: node.dev, disk: node.disk, ..facts(minor, name, below) }
}

#[test]
fn programs_take_a_node_for_a_mapped_device() {
    if !["lsblk", "blkid", "mkfs.ext4", "unshare", "findmnt", "blockdev"]
        .iter()
        .all(|program| has(program))
    {
        return;
    }
    let (Some(rig), Some(planted)) = (Rig::start(), Planted::new()) else { return };
    let [lower, upper] = [(); 2].map(|()| rig.reserve().unwrap());
    for (at, node) in [lower, upper].iter().enumerate() {
        let file = rig.image(&format!("data{at}"), 8 * MIB);
        rig.nodes.show(*node, &shown(&file, 8 * MIB)).unwrap();
    }
    planted.tree.put(&facts_of(lower, 0, "vg-lower", &[])).unwrap();
    planted.tree.put(&facts_of(upper, 1, "upper", &[lower.dev])).unwrap();
    run("mkfs.ext4", &["-q", "-L", "label", rig.path(upper).to_str().unwrap()]);

    let blkid = in_namespace(&planted, "blkid -p -o value -s LABEL /dev/mapper/upper");
    assert_eq!(blkid, "label\n");
    let lsblk =
        in_namespace(&planted, "lsblk -nrbo KNAME,NAME,TYPE,SIZE,RO,RA /dev/mapper/vg-lower");
    let lines: Vec<_> = lsblk.lines().collect();
    assert_eq!(lines, ["dm-0 vg-lower lvm 8388608 0 128", "dm-1 upper lvm 8388608 0 128"]);
    let all = in_namespace(&planted, "lsblk -nro NAME");
    assert!(all.lines().any(|name| name == "upper"), "{all}");
    assert!(!all.contains(&upper.disk.to_string()), "{all}");
    // As libdevmapper sets it, and kept when something else changes.
    let set = format!("echo 1024 > /sys/dev/block/{}/bdi/read_ahead_kb", lower.dev);
    in_namespace(&planted, &set);
    let file = rig.dir.path().join("data0");
    rig.nodes.show(lower, &shown(&file, 4 * MIB)).unwrap();
    let asked = in_namespace(&planted, "blockdev --getra /dev/mapper/vg-lower");
    assert_eq!(asked, "2048\n");
    let source =
        "mkdir /dev/m; mount /dev/mapper/upper /dev/m; findmnt -no SOURCE /dev/m; umount /dev/m";
    assert_eq!(in_namespace(&planted, source), "/dev/mapper/upper\n");
    drop(planted);
    rig.end();
}
