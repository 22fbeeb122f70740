//! A file system over several paths to one image: paths fail, hang and come back under it.

use std::path::PathBuf;
use std::time::Duration;

use crate::filesystems::{digests, fill};
use crate::harness::{
    Instance, Mounted, bytes, can_mount, has, read_at, sh, text, wait_until, write_at,
};
use crate::mirrors::under_load;

const MIB: u64 = 1 << 20;

/// Two paths, `p0` (253:0) and `p1` (253:1), to one image, and `m` over them.
fn two_paths(instance: &Instance, features: &str, groups: &str) -> PathBuf {
    instance.image("disk.img", "/dev/sda", 64 * MIB);
    for path in ["p0", "p1"] {
        instance.create(path, "0 131072 linear /dev/sda 0");
    }
    instance.create("m", &format!("0 131072 multipath {features} 0 {groups}"))
}

/// Tells whether each path is in use, as `AF` say.
fn states(instance: &Instance) -> String {
    let status = instance.dmsim(&["status", "m"]);
    let words: Vec<&str> = status.split_whitespace().collect();
    let letters = words.windows(2).filter(|pair| pair[0].starts_with("253:"));
    letters.map(|pair| pair[1]).collect()
}

#[test]
fn a_file_system_stays_in_use_while_paths_come_and_go() {
    if !can_mount() || !has(&["mkfs.ext4", "e2fsck"]) {
        return;
    }
    let instance = Instance::start();
    let groups = "2 1 round-robin 0 1 0 p0 service-time 0 1 0 p1";
    let device = two_paths(&instance, "3 queue_if_no_path queue_mode bio", groups);
    sh("mkfs.ext4", &["-q", "-F", text(&device)]);
    let written = {
        let mounted = Mounted::over(&device, false);
        let kept = mounted.dir.path().join("kept");
        std::fs::create_dir(&kept).expect("a folder");
        fill(&kept, 8 * MIB);
        digests(&kept)
    };
    under_load(&device, || {
        for (path, failed) in [("0", "FA"), ("p1", "AF"), ("253:0", "FA")] {
            instance.dmsim(&["fail", "m", path]);
            wait_until("the path has failed", || {
                // The group of a path that nobody uses would not be noticed.
                instance.dmsim(&["message", "m", "0", "switch_group", &group(failed)]);
                states(&instance) == failed
            });
            instance.dmsim(&["heal", "m", path]);
            assert_eq!(states(&instance), "AA");
        }
        // A path that hangs keeps what was sent there, until somebody fails it.
        instance.dmsim(&["message", "m", "0", "switch_group", "1"]);
        instance.dmsim(&["suspend", "--nolockfs", "p0"]);
        std::thread::sleep(Duration::from_millis(200));
        instance.dmsim(&["message", "m", "0", "fail_path", "p0"]);
        std::thread::sleep(Duration::from_millis(200));
        instance.dmsim(&["resume", "p0"]);
        instance.dmsim(&["message", "m", "0", "reinstate_path", "p0"]);
        // Without a path all waits, and goes on with the first.
        instance.dmsim(&["fail", "m", "0"]);
        instance.dmsim(&["fail", "m", "1"]);
        wait_until("no path is left", || states(&instance) == "FF");
        std::thread::sleep(Duration::from_millis(300));
        instance.dmsim(&["heal", "m"]);
        assert_eq!(states(&instance), "AA");
    });
    let mounted = Mounted::over(&device, false);
    assert_eq!(digests(&mounted.dir.path().join("kept")), written);
}

#[test]
fn a_heal_says_which_paths_it_tried_those_too_that_failed_by_themselves() {
    let instance = Instance::start();
    two_paths(&instance, "2 queue_mode bio", "1 1 queue-length 0 2 0 p0 p1");
    let told = instance.dmsim(&["heal", "m"]);
    assert_eq!(told, "m: no path has failed: there is nothing to heal\n");
    instance.dmsim(&["message", "m", "0", "fail_path", "p1"]);
    assert_eq!(states(&instance), "AF");
    assert_eq!(
        instance.dmsim(&["heal", "m"]),
        "m: the path 253:1 is reinstated: the next I/O tries it\n"
    );
    assert_eq!(states(&instance), "AA");
    instance.dmsim(&["suspend", "m"]);
    let told = instance.refused(&["heal", "m", "0"]);
    assert!(told.contains("m: is suspended: `dmsim resume m` first"), "{told}");
}

#[test]
fn a_program_that_waits_for_a_path_ends_when_bios_are_to_wait_no_longer() {
    let instance = Instance::start();
    let features = "3 queue_if_no_path queue_mode bio";
    let device = two_paths(&instance, features, "1 1 queue-length 0 2 0 p0 p1");
    for path in ["0", "1"] {
        instance.dmsim(&["fail", "m", path]);
    }
    let to = format!("of={}", text(&device));
    let mut waits = std::process::Command::new("dd")
        .args(["if=/dev/zero", &to, "bs=4k", "count=1", "conv=notrunc", "oflag=direct"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("dd runs");
    wait_until("no path is left", || states(&instance) == "FF");
    waits.kill().expect("it runs");
    std::thread::sleep(Duration::from_millis(300));
    assert!(waits.try_wait().expect("it is ours").is_none(), "the README says that it waits");
    instance.dmsim(&["message", "m", "0", "fail_if_no_path"]);
    waits.wait().expect("it is ours");
}

fn group(failed: &str) -> String {
    (failed.find('F').expect("a path") + 1).to_string()
}

#[test]
fn requests_go_to_images_alone() {
    let instance = Instance::start();
    for (file, name) in [("a.img", "/dev/sda"), ("b.img", "/dev/sdb")] {
        instance.image(file, name, MIB);
    }
    instance.create("l", "0 2048 linear /dev/sda 0");
    let told = instance.refused(&[
        "create",
        "m",
        "--table",
        "0 2048 multipath 0 0 1 1 round-robin 0 1 0 l",
    ]);
    assert!(told.contains("including non-request-stackable devices"), "{told}");
    let device = instance.create("m", "0 2048 multipath 0 0 1 1 round-robin 0 1 0 /dev/sdb");
    write_at(&device, 0, &[7; 4096]).expect("a path");
    let told = instance.refused(&["load", "m", "--table", "0 2048 linear /dev/sdb 0"]);
    assert!(told.contains("can't replace immutable target type multipath"), "{told}");
}

#[test]
fn paths_are_named_as_legs_are() {
    let instance = Instance::start();
    let device = two_paths(&instance, "2 queue_mode bio", "1 1 queue-length 0 2 0 p0 p1");
    let data = bytes(7, 1 << 20);
    write_at(&device, MIB, &data).expect("a path");
    let told = instance.refused(&["fail", "m", "sda"]);
    assert!(told.contains("has no path `sda`; its paths are 0 (253:0), 1 (253:1)"), "{told}");
    instance.dmsim(&["fail", "m", "p0", "--reads"]);
    for _ in 0..4 {
        assert!(read_at(&device, MIB, data.len()).expect("the other path") == data);
    }
    instance.dmsim(&["fail", "m", "1"]);
    assert!(read_at(&device, 8 * MIB, 1 << 20).is_err());
    assert_eq!(states(&instance), "FF");
    let told = instance.refused(&["message", "m", "0", "fail_path", "nosuch"]);
    assert!(told.contains("error getting device nosuch"), "{told}");
    instance.dmsim(&["heal", "m"]);
    assert_eq!(states(&instance), "AA");
    assert!(read_at(&device, MIB, data.len()).expect("a path") == data);
    // A crash forgets what failed, and what fails.
    instance.dmsim(&["message", "m", "0", "queue_if_no_path"]);
    instance.dmsim(&["fail", "m", "0"]);
    // A suspended device does not show that bios are to wait.
    instance.dmsim(&["suspend", "m"]);
    assert!(!instance.dmsim(&["table", "m"]).contains("queue_if_no_path"));
    let told = instance.refused(&["message", "m", "0", "switch_group", "1"]);
    assert!(told.contains("is suspended"), "{told}");
    let dir = instance.crash();
    let instance = Instance::start_in(dir, &[]);
    instance.dmsim(&["restore"]);
    instance.dmsim(&["resume", "m"]);
    assert_eq!(states(&instance), "AA");
    assert!(instance.dmsim(&["table", "m"]).contains(" queue_if_no_path "));
    assert!(read_at(&device, MIB, data.len()).expect("a path") == data);
}
