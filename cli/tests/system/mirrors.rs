//! Mirrors of devices in use: legs that come and go, fail and are healed; checked and repaired.

use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crate::filesystems::{digests, fill};
use crate::harness::{
    Instance, Mounted, bytes, can_mount, has, read_at, sh, text, wait_until, write_at,
};
use crate::snapshots::{busy, digest};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 96 * MIB;
const SECTORS: u64 = SIZE / 512;
const TOOLS: [&str; 2] = ["mkfs.ext4", "e2fsck"];

/// Uses an ext4 on a device while `act` runs, and checks that it has noticed nothing.
pub(crate) fn under_load(device: &Path, act: impl FnOnce()) {
    {
        let mounted = Mounted::over(device, true);
        let dir = mounted.dir.path();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stops = Stops(&stop);
            for seed in 0..2 {
                let stop = &stop;
                scope.spawn(move || busy(dir, seed, stop));
            }
            std::thread::sleep(Duration::from_millis(300));
            act();
            std::thread::sleep(Duration::from_millis(300));
            drop(stops);
        });
        sh("sync", &["-f", text(dir)]);
        // A file system that has noticed is read-only by now.
        std::fs::write(dir.join("at the end"), "still here").expect("it can be written");
    }
    sh("e2fsck", &["-f", "-n", text(device)]);
}

/// Lets the load end also where a test fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// The words of a mirror's status: regions, letters of the legs, letter of the log.
fn status(instance: &Instance, name: &str) -> (u64, u64, String, Option<String>) {
    let status = instance.dmsim(&["status", name]);
    let words: Vec<&str> = status.split_whitespace().collect();
    let legs: usize = words[3].parse().expect("a mirror");
    let (done, all) = words[4 + legs].split_once('/').expect("regions");
    let number = |word: &str| word.parse().expect("a number");
    let log = words.get(10 + legs).map(|word| (*word).to_owned());
    (number(done), number(all), words[6 + legs].to_owned(), log)
}

fn letters(instance: &Instance) -> String {
    status(instance, "m").2
}

fn in_sync_and_the_same(instance: &Instance) {
    instance.dmsim(&["wait", "--sync", "m"]);
    let checked = instance.dmsim(&["check", "m"]);
    assert!(checked.ends_with("no region differs\n"), "{checked}");
}

pub(crate) fn background(instance: &Instance, args: &[&str]) -> Child {
    instance.command(args).spawn().expect("dmsim runs")
}

#[test]
fn a_leg_that_fails_under_a_busy_ext4_is_not_noticed_and_comes_back() {
    if !can_mount() || !has(&TOOLS) {
        return;
    }
    let instance = Instance::start();
    let a = instance.image("a", "/dev/sda", SIZE);
    let b = instance.image("b", "/dev/sdb", SIZE);
    let device = instance.create("m", &format!("0 {SECTORS} linear /dev/sda 0"));
    sh("mkfs.ext4", &["-q", "-F", text(&device)]);
    under_load(&device, || {
        instance.dmsim(&["mirror", "m", "--add", "/dev/sdb", "--log", "log"]);
        in_sync_and_the_same(&instance);
        for (leg, bad, part) in [("1", "AD", "8:16"), ("/dev/sda", "DA", "8:0")] {
            instance.dmsim(&["fail", "m", leg]);
            let tree = instance.dmsim(&["tree"]);
            let marked = tree.lines().find(|line| line.contains("fails, on purpose"));
            assert!(marked.is_some_and(|line| line.contains(&format!("({part})"))), "{tree}");
            let images = instance.dmsim(&["images"]);
            assert!(images.contains("fails, on purpose, for m"), "{images}");
            let seen = || {
                let letters = letters(&instance);
                letters == bad || letters == bad.replace('D', "F")
            };
            wait_until("the status says which leg it is", seen);
            std::thread::sleep(Duration::from_millis(300));
            instance.dmsim(&["heal", "m"]);
            in_sync_and_the_same(&instance);
            assert_eq!(letters(&instance), "AA");
            assert!(!instance.dmsim(&["tree"]).contains("on purpose"));
        }
    });
    instance.dmsim(&["suspend", "m"]);
    assert_eq!(digest(&a), digest(&b));
    instance.dmsim(&["resume", "m"]);
}

#[test]
fn a_log_that_fails_under_a_busy_ext4_is_not_noticed_and_comes_back() {
    if !can_mount() || !has(&TOOLS) {
        return;
    }
    // Writes go on without marks, or are held until it is healed.
    for features in ["", "1 handle_errors"] {
        let instance = Instance::start();
        for (file, name) in [("a", "/dev/sda"), ("b", "/dev/sdb")] {
            instance.image(file, name, SIZE);
        }
        instance.image("log", "/dev/sdc", MIB);
        let legs = "2 /dev/sda 0 /dev/sdb 0";
        let table = format!("0 {SECTORS} mirror disk 2 /dev/sdc 128 {legs} {features}");
        let device = instance.create("m", &table);
        instance.dmsim(&["wait", "--sync", "m"]);
        sh("mkfs.ext4", &["-q", "-F", text(&device)]);
        under_load(&device, || {
            instance.dmsim(&["fail", "m", "log"]);
            let log = || status(&instance, "m").3;
            wait_until("the status says so", || {
                log().is_some_and(|letter| letter == "D" || letter == "F")
            });
            instance.dmsim(&["heal", "m", "log"]);
            assert_eq!(log().as_deref(), Some("A"));
            in_sync_and_the_same(&instance);
        });
        in_sync_and_the_same(&instance);
    }
}

#[test]
fn the_first_leg_fails_writes_out_of_sync_under_a_busy_ext4() {
    if !can_mount() || !has(&TOOLS) {
        return;
    }
    let instance = Instance::start();
    // So large that it is not in sync before the rate is set.
    const LARGE: u64 = 6 * SIZE;
    let sectors = LARGE / 512;
    instance.image("a", "/dev/sda", LARGE);
    instance.image("b", "/dev/sdb", LARGE);
    let device = instance.create("m", &format!("0 {sectors} linear /dev/sda 0"));
    sh("mkfs.ext4", &["-q", "-F", text(&device)]);
    let table = format!("0 {sectors} mirror core 1 128 2 /dev/sda 0 /dev/sdb 0 1 handle_errors");
    under_load(&device, || {
        instance.dmsim(&["load", "m", "--table", &table]);
        instance.dmsim(&["resume", "m"]);
        instance.dmsim(&["mirror", "m", "--resync-rate", "8M"]);
        instance.dmsim(&["fail", "m", "0", "--writes"]);
        wait_until("the status says so", || letters(&instance).starts_with(['D', 'F']));
        assert!(status(&instance, "m").0 < sectors / 128, "it is out of sync");
        std::thread::sleep(Duration::from_millis(200));
        instance.dmsim(&["mirror", "m", "--resync-rate", "0"]);
        // What is held goes on.
        instance.dmsim(&["heal", "m"]);
        in_sync_and_the_same(&instance);
    });
}

/// Makes a mirror whose second leg lacks most of what the first has, and hardly gets it.
fn slow(instance: &Instance, data: &[u8]) -> std::path::PathBuf {
    let size = data.len() as u64;
    let a = instance.image("a", "/dev/sda", size);
    write_at(&a, 0, data).expect("room for it");
    instance.image("b", "/dev/sdb", size);
    let device = instance.create("m", &format!("0 {} linear /dev/sda 0", size / 512));
    let rate = ["--region-size", "64K", "--resync-rate", "1K"];
    instance.dmsim(&[&["mirror", "m", "--add", "b"][..], &rate].concat());
    device
}

#[test]
fn what_only_a_leg_has_that_fails_cannot_be_read_and_is_there_again() {
    let instance = Instance::start();
    let data = bytes(7, 64 << 20);
    let device = slow(&instance, &data);
    instance.dmsim(&["fail", "m", "a"]);
    let end = 64 * MIB - 4096;
    assert!(read_at(&device, end, 4096).is_err(), "the other leg lacks it");
    let told = instance.refused(&["mirror", "m", "--drop", "0"]);
    assert!(told.contains("its only leg that has all of the data"), "{told}");
    instance.dmsim(&["mirror", "m", "--resync-rate", "0"]);
    let told = instance.refused(&["wait", "--sync", "m"]);
    assert!(told.contains("are not copied any more, as legs have failed: 8:0 ("), "{told}");
    // A leg that is there for reads alone is good enough to copy from.
    instance.dmsim(&["fail", "m", "a", "--writes"]);
    instance.dmsim(&["heal", "m"]);
    assert!(read_at(&device, 0, data.len()).expect("a read") == data);
    in_sync_and_the_same(&instance);
}

#[test]
fn legs_come_and_go_under_a_busy_ext4() {
    if !can_mount() || !has(&TOOLS) {
        return;
    }
    let key = "5a".repeat(64);
    let half = SECTORS / 2;
    for table in [
        format!("0 {SECTORS} linear /dev/sda 8"),
        format!("0 {half} linear /dev/sda {half}\n{half} {half} linear /dev/sda 0"),
        format!("0 {SECTORS} crypt aes-xts-plain64 {key} 0 /dev/sda 0"),
    ] {
        let instance = Instance::start();
        instance.image("a", "/dev/sda", SIZE + 4096);
        instance.image("b", "/dev/sdb", SIZE + MIB);
        instance.image("c", "/dev/sdc", SIZE);
        let device = instance.create("m", &table);
        let own = instance.dmsim(&["table", "--showkeys", "m"]);
        sh("mkfs.ext4", &["-q", "-F", text(&device)]);
        let written = {
            let mounted = Mounted::over(&device, false);
            std::fs::create_dir(mounted.dir.path().join("kept")).expect("a folder");
            fill(&mounted.dir.path().join("kept"), 8 * MIB);
            digests(&mounted.dir.path().join("kept"))
        };
        let (mut second, mut third) = ("/dev/sdb", "/dev/sdc");
        if table.contains("crypt") {
            let told = instance.refused(&["mirror", "m", "--add", "/dev/sdb"]);
            assert!(told.contains("in the clear"), "{told}");
            let crypt = |name: &str, on: &str| {
                let table = format!("0 {SECTORS} crypt aes-xts-plain64 {key} 0 {on} 0");
                instance.create(name, &table);
            };
            crypt("second", second);
            crypt("third", third);
            (second, third) = ("/dev/mapper/second", "third");
        }
        under_load(&device, || {
            let mirror = |args: &[&str]| {
                instance.dmsim(&[&["mirror", "m"], args].concat());
            };
            // There and back, at once and when it is in sync.
            mirror(&["--add", second]);
            mirror(&["--drop", "1"]);
            assert_eq!(instance.dmsim(&["table", "--showkeys", "m"]), own);
            mirror(&["--add", second, "--log", "log", "--region-size", "64K"]);
            in_sync_and_the_same(&instance);
            mirror(&["--add", third, "--resync-rate", "64M"]);
            in_sync_and_the_same(&instance);
            assert_eq!(letters(&instance), "AAA");
            mirror(&["--drop", second]);
            in_sync_and_the_same(&instance);
            mirror(&["--drop", third]);
            assert_eq!(instance.dmsim(&["table", "--showkeys", "m"]), own);
            // Its data move to another leg for good.
            mirror(&["--add", second]);
            in_sync_and_the_same(&instance);
            mirror(&["--drop", "0"]);
        });
        let now = instance.dmsim(&["table", "m"]);
        let wanted = if table.contains("crypt") { "253:" } else { "8:16" };
        assert!(now.starts_with(&format!("0 {SECTORS} linear {wanted}")), "{now}");
        let mounted = Mounted::over(&device, false);
        assert_eq!(digests(&mounted.dir.path().join("kept")), written, "{table}");
    }
}

#[test]
fn a_resync_cut_off_by_a_crash_goes_on_and_what_differs_is_repaired() {
    let mut instance = Instance::start();
    let a = instance.image("a", "/dev/sda", 64 * MIB);
    write_at(&a, 0, &bytes(3, 64 << 20)).expect("room for it");
    instance.image("b", "/dev/sdb", 64 * MIB);
    instance.create("m", &format!("0 {} linear /dev/sda 0", 64 * MIB / 512));
    let rate = ["--log", "log", "--region-size", "512K", "--resync-rate", "16M"];
    instance.dmsim(&[&["mirror", "m", "--add", "/dev/sdb"][..], &rate].concat());
    wait_until("some of it is done", || status(&instance, "m").0 > 16);
    // What is copied is in the log soon.
    std::thread::sleep(Duration::from_secs(1));
    let (done, all, ..) = status(&instance, "m");
    assert!(done < all, "it was too fast to be cut off");
    instance.dmsim(&["fail", "m", "1", "--reads"]);
    let dir = instance.crash();
    let b = dir.path().join("b");
    // What is copied already is not copied again.
    write_at(&b, MIB + 4096, &[1]).expect("an image");
    instance = Instance::start_in(dir, &[]);
    instance.dmsim(&["restore"]);
    assert!(!instance.dmsim(&["tree"]).contains("on purpose"), "a restart heals");
    instance.dmsim(&["wait", "--sync", "m"]);
    let found = instance.run(&["check", "m", "--json"]);
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    let found: serde_json::Value = serde_json::from_slice(&found.stdout).expect("JSON");
    assert_eq!(
        found["differing"],
        serde_json::json!([{"region": 2, "regions": 1, "start": 2048, "len": 1024, "legs": [1]}])
    );
    assert_eq!(found["out_of_sync_regions"], 0);
    let output = instance.run(&["check", "m"]);
    let told = String::from_utf8(output.stdout).expect("text");
    assert!(told.contains("region 2, sectors 2048+1024: leg 8:16 differs from 8:0"), "{told}");
    let told = instance.dmsim(&["check", "m", "--repair", "--from", "/dev/sda"]);
    assert!(told.ends_with("1 regions differ, and are repaired\n"), "{told}");
    in_sync_and_the_same(&instance);
    assert_eq!(digest(&a), digest(&instance.path("b")));
}

#[test]
fn regions_that_are_not_in_sync_do_not_count_as_different() {
    let instance = Instance::start();
    slow(&instance, &bytes(3, 64 << 20));
    let told = instance.dmsim(&["check", "m"]);
    assert!(told.contains("not in sync") && told.contains("no region differs"), "{told}");
    instance.dmsim(&["suspend", "m"]);
    let told = instance.dmsim(&["check", "m"]);
    assert!(told.contains("no region differs"), "{told}");
    assert!(instance.dmsim(&["info", "m"]).contains("SUSPENDED"), "it stays as it was");
}

#[test]
fn a_resync_is_waited_for_and_the_wait_interrupted() {
    let instance = Instance::start();
    instance.image("a", "/dev/sda", 256 * MIB);
    instance.image("b", "/dev/sdb", 256 * MIB);
    instance.create("m", &format!("0 {} linear /dev/sda 0", 256 * MIB / 512));
    let told = instance.refused(&["wait", "--sync", "m"]);
    assert!(told.contains("is no mirror"), "{told}");
    instance.dmsim(&["mirror", "m", "--add", "b", "--resync-rate", "1M"]);
    let mut waits = background(&instance, &["wait", "--sync", "m"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(waits.try_wait().expect("ours").is_none(), "256 s are not over");
    let pid = rustix::process::Pid::from_child(&waits);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is ours");
    assert_eq!(waits.wait().expect("it ends").code(), Some(130));
    let waited = background(&instance, &["wait", "--sync", "m"]);
    instance.dmsim(&["mirror", "m", "--resync-rate", "0"]);
    let waited = waited.wait_with_output().expect("it ends");
    assert!(waited.status.success(), "{waited:?}");
    in_sync_and_the_same(&instance);
    instance.dmsim(&["suspend", "m"]);
    instance.dmsim(&["load", "m", "--table", "0 2048 mirror core 1 64 2 8:0 0 8:16 0"]);
    assert!(instance.refused(&["wait", "--sync", "m"]).contains("is suspended"));
}

#[test]
fn a_file_that_is_closed_leaves_a_clean_log() {
    let instance = Instance::start();
    for (file, name) in [("a", "/dev/sda"), ("b", "/dev/sdb"), ("log", "/dev/sdc")] {
        instance.image(file, name, MIB);
    }
    // Below another device, too.
    instance.create("m", "0 2048 mirror disk 3 /dev/sdc 64 nosync 2 /dev/sda 0 /dev/sdb 0");
    let device = instance.create("above", "0 2048 linear /dev/mapper/m 0");
    for at in [0, MIB / 2] {
        write_at(&device, at, &bytes(9, 8192)).expect("a write");
        let log = std::fs::read(instance.path("log")).expect("a log");
        assert_eq!(log[1024..1028], [0xff; 4]);
    }
}

#[test]
fn legs_that_are_mapped_devices_fail_for_the_mirror_alone() {
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", 4 * MIB);
    let one = instance.create("one", "0 2048 linear /dev/sda 0");
    instance.create("two", "0 2048 linear /dev/sda 2048");
    let features = "2 handle_errors keep_log";
    let table = format!("0 2048 mirror core 1 64 2 /dev/mapper/one 0 two 0 {features}");
    let device = instance.create("m", &table);
    instance.dmsim(&["wait", "--sync", "m"]);
    instance.dmsim(&["fail", "m", "one"]);
    let data = bytes(5, 65536);
    write_at(&device, 0, &data).expect("a leg is left");
    assert_eq!(letters(&instance), "DA");
    assert!(read_at(&device, 0, 65536).expect("a leg is left") == data);
    assert!(read_at(&one, 0, 65536).expect("others read it") == [0; 65536]);
    let info = instance.dmsim(&["info", "--json", "m"]);
    assert!(info.contains("\"failing\"") && info.contains("\"all\""), "{info}");
    instance.dmsim(&["heal", "m"]);
    in_sync_and_the_same(&instance);
    assert!(read_at(&one, 0, 65536).expect("a leg") == data);
    assert_eq!(letters(&instance), "AA");
    let told = instance.refused(&["fail", "m", "log"]);
    assert!(told.contains("its log is in memory"), "{told}");
}

#[test]
fn what_cannot_be_added_is_told_of() {
    let instance = Instance::start();
    instance.image("a", "/dev/sda", MIB);
    let path = instance.path("big");
    std::fs::File::create(&path).expect("a file").set_len(MIB).expect("room");
    instance.dmsim(&["attach", "big", "--as", "/dev/sdb", "--sector-size", "4096"]);
    instance.create("m", "0 2048 linear /dev/sda 0");
    let told = instance.refused(&["mirror", "m", "--add", "/dev/sdb"]);
    assert!(told.contains("has sectors of 4096 bytes, and `m` of 512"), "{told}");
    for leg in 1..9 {
        instance.image(&format!("leg{leg}"), &format!("/dev/sd{}", b"cdefghijk"[leg] as char), MIB);
        instance.dmsim(&["mirror", "m", "--add", &format!("leg{leg}")]);
        instance.dmsim(&["wait", "--sync", "m"]);
    }
    instance.image("tenth", "/dev/sdz", MIB);
    let told = instance.refused(&["mirror", "m", "--add", "tenth"]);
    assert!(told.contains("has 9 legs, which is the most"), "{told}");
    in_sync_and_the_same(&instance);
    instance.dmsim(&["snapshot", "m", "s"]);
    let told = instance.refused(&["mirror", "m", "--drop", "1"]);
    assert!(told.contains("is no mirror"), "{told}");
    let told = instance.refused(&["mirror", "m", "--add", "tenth"]);
    assert!(told.contains("has a table of `snapshot-origin`"), "{told}");
    instance.dmsim(&["mirror", "m-real", "--drop", "leg8"]);
    assert_eq!(instance.run(&["mirror", "m"]).status.code(), Some(2));
}
