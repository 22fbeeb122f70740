//! RAID sets of image files: legs that fail under a mounted file system and are replaced, crashes in a
//! rebuild, sets put together again from their images alone.

mod beside;
mod bios;
mod grow;
mod journal;
mod md;
mod parity;
mod scale;
mod tables;
mod words;

use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::filesystems::{digests, fill};
use crate::harness::{
    Instance, Mounted, bytes, can_mount, has, read_at, sh, text, wait_until, write_at,
};
use crate::mirrors::{background, under_load};

const MIB: u64 = 1 << 20;
const TOOLS: [&str; 2] = ["mkfs.ext4", "e2fsck"];

/// The images of a set, made by the command itself.
fn create(instance: &Instance, level: &str, legs: usize, size: &str) -> PathBuf {
    let images: Vec<String> = (0..legs).map(|leg| format!("{leg}.img")).collect();
    let images = images.iter().map(String::as_str);
    let args: Vec<&str> =
        ["raid", "create", level].into_iter().chain(images).chain(["r", "--size", size]).collect();
    let file = instance.dmsim(&args);
    let file = PathBuf::from(file.trim_end());
    assert_eq!(file, instance.device("r"));
    file
}

/// Fails where copies differ, or parity is wrong.
fn is_right(instance: &Instance) {
    let told = instance.dmsim(&["raid", "check", "r"]);
    assert!(told == "r: no sector differs\n" || told == "r: parity is right\n", "{told}");
}

/// Writes to the device, has the daemon killed, and fails where what was written is not there again, or the
/// legs differ.
fn comes_back_after_a_crash(instance: Instance, what: &str) {
    let device = instance.device("r");
    let data = bytes(7, 2 << 20);
    write_at(&device, 0, &data).expect("room for it");
    sh("sync", &[text(&device)]);
    let dir = instance.crash();
    let instance = Instance::start_in(dir, &[]);
    instance.dmsim(&["restore"]);
    instance.dmsim(&["wait", "--sync", "r"]);
    is_right(&instance);
    assert!(read_at(&device, 0, 2 << 20).expect("a read") == data, "{what}");
}

fn json(instance: &Instance) -> serde_json::Value {
    let status = instance.dmsim(&["raid", "status", "r", "--json"]);
    serde_json::from_str(&status).expect("JSON")
}

fn states(instance: &Instance) -> Vec<String> {
    let legs = json(instance)["legs"].as_array().expect("legs").clone();
    legs.iter().map(|leg| leg["state"].as_str().expect("a state").to_owned()).collect()
}

#[track_caller]
fn no_sector_differs(instance: &Instance) {
    let told = instance.dmsim(&["raid", "check", "r"]);
    assert!(["r: no sector differs\n", "r: parity is right\n"].contains(&&*told), "{told}");
}

/// Returns the table of each device, by its name.
fn tables(instance: &Instance) -> String {
    instance.dmsim(&["table"])
}

fn checked(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_leg_that_fails_under_a_busy_ext4_is_replaced() {
    if !can_mount() || !has(&TOOLS) {
        return;
    }
    for (level, legs, is_cut) in [("raid1", 2, false), ("raid1", 2, true), ("raid10", 4, false)] {
        let instance = Instance::start();
        let device = create(&instance, level, legs, "97M");
        sh("mkfs.ext4", &["-q", "-F", text(&device)]);
        let written = {
            let mounted = Mounted::over(&device, false);
            let kept = mounted.dir.path().join("kept");
            std::fs::create_dir(&kept).expect("a folder");
            fill(&kept, 8 * MIB);
            digests(&kept)
        };
        let before = tables(&instance).lines().count();
        under_load(&device, || {
            if is_cut {
                let image = std::fs::File::options().write(true).open(instance.path("1.img"));
                image.expect("an image").set_len(0).expect("it is cut");
            } else {
                instance.dmsim(&["fail", "r", "1"]);
            }
            wait_until("the leg has failed", || states(&instance)[1] == "failed");
            let told = instance.dmsim(&["raid", "status", "r"]);
            assert!(told.contains(": degraded, ") && told.contains("\n1    failed "), "{told}");
            let new = std::fs::File::create(instance.path("new.img")).expect("a new file");
            new.set_len(97 * MIB).expect("it is sparse");
            instance.dmsim(&["raid", "replace", "r", "1", "new.img"]);
            assert_eq!(states(&instance), vec!["in_sync"; legs], "{level}");
            no_sector_differs(&instance);
        });
        no_sector_differs(&instance);
        assert_eq!(tables(&instance).lines().count(), before, "the old leg's devices are gone");
        let new = instance.path("new.img");
        assert_eq!(json(&instance)["legs"][1]["file"], text(&new));
        assert_eq!(json(&instance)["health"], "in sync");
        // Without the legs beside it, it is what the file system is read from.
        if level == "raid1" {
            instance.dmsim(&["fail", "r", "0"]);
        }
        let mounted = Mounted::over(&device, false);
        assert_eq!(digests(&mounted.dir.path().join("kept")), written, "{level}");
    }
}

#[test]
fn a_raid1_under_a_busy_ext4_gets_a_leg_more() {
    if !can_mount() || !has(&TOOLS) {
        return;
    }
    let instance = Instance::start();
    let device = create(&instance, "raid1", 2, "65M");
    sh("mkfs.ext4", &["-q", "-F", text(&device)]);
    let written = {
        let mounted = Mounted::over(&device, false);
        let kept = mounted.dir.path().join("kept");
        std::fs::create_dir(&kept).expect("a folder");
        fill(&kept, 8 * MIB);
        digests(&kept)
    };
    under_load(&device, || {
        let new = std::fs::File::create(instance.path("new.img")).expect("a new file");
        new.set_len(65 * MIB).expect("it is sparse");
        instance.dmsim(&["raid", "grow", "r", "new.img"]);
        assert_eq!(states(&instance), ["in_sync"; 3]);
        let told = instance.refused(&["raid", "grow", "r", "new.img"]);
        assert!(told.contains("new.img"), "{told}");
    });
    no_sector_differs(&instance);
    // After a crash it is a set of three, and the new leg alone has all of it.
    let instance = Instance::start_in(instance.crash(), &[]);
    instance.dmsim(&["restore"]);
    assert_eq!(json(&instance)["may_lose"], 2);
    instance.dmsim(&["fail", "r", "0"]);
    instance.dmsim(&["fail", "r", "1"]);
    let mounted = Mounted::over(&device, false);
    assert_eq!(digests(&mounted.dir.path().join("kept")), written);
}

#[test]
fn a_leg_that_failed_for_a_while_gets_what_it_has_missed() {
    let instance = Instance::start();
    let device = create(&instance, "raid1", 2, "33M");
    instance.dmsim(&["fail", "r", "0.img"]);
    let data = bytes(3, 1 << 20);
    write_at(&device, 5 * MIB, &data).expect("a leg is left");
    assert_eq!(states(&instance), ["failed", "in_sync"]);
    let told = instance.refused(&["wait", "--sync", "r"]);
    assert!(told.contains("leg 0 has failed: `dmsim heal r` tries again"), "{told}");
    instance.dmsim(&["heal", "r"]);
    assert_eq!(states(&instance), ["in_sync"; 2]);
    instance.dmsim(&["wait", "--sync", "r"]);
    no_sector_differs(&instance);
    for leg in ["0.img", "1.img"] {
        assert!(read_at(&instance.path(leg), 6 * MIB, 1 << 20).expect("a leg") == data, "{leg}");
    }
}

#[test]
fn a_set_comes_back_with_its_legs_after_a_stop_and_after_a_crash() {
    for level in ["raid0", "raid1", "raid10", "raid5", "raid6"] {
        let instance = Instance::start();
        let device = create(&instance, level, 4, "9M");
        let data = bytes(7, 4 << 20);
        write_at(&device, 0, &data).expect("room for it");
        sh("sync", &[text(&device)]);
        let before = tables(&instance);
        let dir = instance.crash();
        let instance = Instance::start_in(dir, &[]);
        instance.dmsim(&["restore"]);
        assert_eq!(tables(&instance), before, "{level}");
        assert!(read_at(&device, 0, 4 << 20).expect("a set") == data, "{level}");
        if level != "raid0" {
            instance.dmsim(&["wait", "--sync", "r"]);
            no_sector_differs(&instance);
        }
        instance.dmsim(&["stop"]);
        instance.dmsim(&["start"]);
        instance.dmsim(&["restore"]);
        assert_eq!(tables(&instance), before, "{level}");
        assert!(read_at(&device, 0, 4 << 20).expect("a set") == data, "{level}");
    }
}

/// Puts another table into a set.
fn load(instance: &Instance, table: &str) {
    instance.dmsim(&["suspend", "r"]);
    instance.dmsim(&["load", "r", "--table", table]);
    instance.dmsim(&["resume", "r"]);
}

/// Makes a raid1 that is full of these bytes, and whose legs are filled at a MiB a second.
fn slow(instance: &Instance, data: &[u8]) -> PathBuf {
    let device = create(instance, "raid1", 2, "65M");
    write_at(&device, 0, data).expect("room for it");
    let table = instance.dmsim(&["table", "r"]);
    load(instance, &table.trim_end().replace("raid1 1 0", "raid1 3 0 max_recovery_rate 1024"));
    std::fs::File::create(instance.path("new")).expect("a file").set_len(65 * MIB).expect("room");
    device
}

#[test]
fn a_rebuild_cut_off_by_a_crash_goes_on() {
    let instance = Instance::start();
    let data = bytes(9, 64 << 20);
    let device = slow(&instance, &data);
    instance.dmsim(&["raid", "replace", "r", "1", "new", "--no-wait"]);
    let table = instance.dmsim(&["table", "r"]);
    assert!(!table.contains("rebuild"), "{table}");
    assert_eq!(states(&instance), ["in_sync", "rebuilding"]);
    write_at(&device, MIB, &[1; 4096]).expect("both legs");
    let dir = instance.crash();
    let instance = Instance::start_in(dir, &[]);
    instance.dmsim(&["restore"]);
    assert_eq!(states(&instance), ["in_sync", "rebuilding"]);
    let fast = table.trim_end().replace("raid1 3 0 max_recovery_rate 1024", "raid1 1 0");
    load(&instance, &fast);
    instance.dmsim(&["wait", "--sync", "r"]);
    no_sector_differs(&instance);
    instance.dmsim(&["fail", "r", "0"]);
    let mut now = read_at(&device, 0, data.len()).expect("the new leg");
    assert!(now[MIB as usize..][..4096] == [1; 4096]);
    now[MIB as usize..][..4096].copy_from_slice(&data[MIB as usize..][..4096]);
    assert!(now == data);
}

#[test]
fn a_resync_that_goes_on_is_not_called_in_sync() {
    let instance = Instance::start();
    create(&instance, "raid1", 2, "257M");
    let table = instance.dmsim(&["table", "r"]);
    let with = |words: &str| table.trim_end().replace("raid1 1 0", words);
    let is_resyncing = || {
        let status = json(&instance);
        assert_eq!(states(&instance), ["resyncing"; 2], "{status}");
        let said = (&status["health"], &status["may_lose"], &status["action"]["what"]);
        assert_eq!(said, (&"resyncing".into(), &0.into(), &"resync".into()), "{status}");
    };
    load(&instance, &with("raid1 4 0 sync max_recovery_rate 65536"));
    is_resyncing();
    // From the beginning on, it would be a new one.
    let done = || json(&instance)["action"]["done_bytes"].as_u64().expect("it goes on");
    let deadline = Instant::now() + Duration::from_secs(20);
    while done() < 96 * MIB {
        assert!(Instant::now() < deadline, "nothing is done");
    }
    load(&instance, &with("raid1 3 0 max_recovery_rate 1024"));
    is_resyncing();
    // The kernel's word for what goes on.
    assert!(instance.dmsim(&["status", "r"]).contains(" repair "));
    load(&instance, &with("raid1 1 0"));
    instance.dmsim(&["wait", "--sync", "r"]);
    assert_eq!(json(&instance)["health"], "in sync");
}

#[test]
fn a_set_is_put_together_from_its_images_alone() {
    for (level, legs) in [("raid0", 2), ("raid1", 2), ("raid10", 4), ("raid5", 3), ("raid6", 5)] {
        let instance = Instance::start();
        let device = create(&instance, level, legs, "9M");
        let data = bytes(5, 7 << 20);
        write_at(&device, 0, &data).expect("room for it");
        if level == "raid6" {
            // Its first resync is not left out.
            instance.dmsim(&["wait", "--sync", "r"]);
        }
        instance.dmsim(&["raid", "remove", "r"]);
        assert_eq!(instance.dmsim(&["ls"]).trim_end(), "No devices found", "{level}");
        // In another order, and one of them elsewhere.
        std::fs::rename(instance.path("0.img"), instance.path("moved")).expect("a new name");
        let mut images: Vec<String> = (1..legs).rev().map(|leg| format!("{leg}.img")).collect();
        images.push("moved".to_owned());
        let assemble = |images: &[String]| {
            let images = images.iter().map(String::as_str);
            let args: Vec<&str> =
                ["raid", "assemble"].into_iter().chain(images).chain(["--name", "r"]).collect();
            instance.run(&args)
        };
        assert!(assemble(&images).status.success());
        assert!(read_at(&device, 0, data.len()).expect("a set") == data, "{level}");
        instance.dmsim(&["raid", "remove", "r"]);
        images.pop();
        let output = assemble(&images);
        let told = String::from_utf8_lossy(&output.stderr);
        if level == "raid0" {
            assert!(told.contains("lacks some of its data: 1 of the 2 legs are there"), "{told}");
            continue;
        }
        assert!(output.status.success() && told.contains("leg 0 is missing"), "{told}");
        assert!(read_at(&device, 0, data.len()).expect("a set") == data, "{level}");
        assert_eq!(json(&instance)["health"], "degraded");
        let told = instance.refused(&["raid", "replace", "r", "0", "nothing"]);
        assert!(told.contains("nothing: no such file"), "{told}");
        let new = std::fs::File::create(instance.path("new")).expect("a file");
        new.set_len(9 * MIB).expect("room");
        instance.dmsim(&["raid", "replace", "r", "0", "new"]);
        assert_eq!(states(&instance), vec!["in_sync"; legs], "{level}");
        no_sector_differs(&instance);
        assert!(read_at(&device, 0, data.len()).expect("a set") == data, "{level}");
        // What was replaced by it does not come back by mistake.
        instance.dmsim(&["raid", "remove", "r"]);
        images.push("moved".to_owned());
        let told = assemble(&images);
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.contains("moved: is not up to date"), "{told}");
    }
}

#[test]
fn what_differs_is_found_and_repaired() {
    let instance = Instance::start();
    for (level, legs, piece) in [("raid1", 2, 128), ("raid10", 2, 128)] {
        create(&instance, level, legs, "9M");
        no_sector_differs(&instance);
        write_at(&instance.path("1.img"), 3 * MIB, &[1]).expect("an image");
        let found = checked(&instance.run(&["raid", "check", "r"]));
        assert_eq!(found, (Some(1), format!("r: {piece} sectors differ\n")), "{level}");
        assert_eq!(json(&instance)["differing_bytes"], piece * 512);
        let told = instance.dmsim(&["raid", "status", "r"]);
        assert!(told.ends_with(&format!("the last check: {piece} sectors differ\n")), "{told}");
        let found = checked(&instance.run(&["raid", "repair", "r"]));
        let repaired = format!("r: {piece} sectors differ, and are repaired\n");
        assert_eq!(found, (Some(0), repaired), "{level}");
        no_sector_differs(&instance);
        assert_eq!(read_at(&instance.path("1.img"), 3 * MIB, 1).expect("an image"), [0]);
        instance.dmsim(&["raid", "check", "r", "--no-wait"]);
        instance.dmsim(&["raid", "remove", "r"]);
        for leg in 0..legs {
            std::fs::remove_file(instance.path(&format!("{leg}.img"))).expect("an image");
        }
    }
    create(&instance, "raid0", 2, "9M");
    let told = instance.refused(&["raid", "check", "r"]);
    assert!(told.contains("is a raid0, which has no copies"), "{told}");
    let told = instance.refused(&["raid", "status", "r_rimage_0"]);
    assert!(told.contains("is no RAID set"), "{told}");
    let told = instance.refused(&["check", "r"]);
    assert!(told.contains("is a RAID set, and no mirror: `dmsim raid`"), "{told}");
}

#[test]
fn names_with_spaces_are_taken_and_a_leg_that_fails_in_a_check_is_left_out() {
    let instance = Instance::start();
    let images = ["a leg", "b leg", "c leg"];
    let file = instance
        .dmsim(&[&["raid", "create", "raid1"][..], &images, &["my set", "--size", "9M"]].concat());
    assert!(file.ends_with("/my\\x20set\n"), "{file}");
    write_at(&instance.path("b leg"), 3 * MIB, &[1]).expect("an image");
    instance.dmsim(&["fail", "my set", "c leg"]);
    let output = instance.run(&["raid", "check", "my set"]);
    let (code, told) = checked(&output);
    let expected = "my set: 128 sectors differ; leg 2 is not in sync, and was left out\n";
    assert_eq!((code, &*told), (Some(1), expected));
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(warned.contains("the check begins anew"), "{warned}");
    std::fs::File::create(instance.path("d leg")).expect("a file").set_len(9 * MIB).expect("room");
    instance.dmsim(&["raid", "replace", "my set", "c leg", "d leg"]);
    let told = instance.dmsim(&["raid", "status", "my set"]);
    assert!(told.starts_with("my set: raid1, 8 MiB: in sync\n"), "{told}");
    assert!(told.contains("/d leg\n"), "{told}");
    instance.dmsim(&["raid", "remove", "my set"]);
    let images = ["a leg", "d leg"];
    instance.dmsim(&[&["raid", "assemble"][..], &images, &["--name", "other set"]].concat());
}

#[test]
fn an_interrupt_breaks_a_check_off() {
    let instance = Instance::start();
    create(&instance, "raid1", 2, "8G");
    let mut child = background(&instance, &["raid", "check", "r"]);
    std::thread::sleep(Duration::from_millis(400));
    assert!(child.try_wait().expect("ours").is_none(), "8 GiB are not read");
    let told = instance.refused(&["raid", "repair", "r"]);
    assert!(told.contains("is busy"), "{told}");
    let told = instance.dmsim(&["raid", "status", "r"]);
    assert!(told.contains("\ncheck: "), "{told}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is ours");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    wait_until("nothing goes on", || json(&instance)["action"].is_null());
}

#[test]
fn an_interrupt_ends_the_waiting_for_a_new_leg_alone() {
    let instance = Instance::start();
    slow(&instance, &bytes(1, 64 << 20));
    let mut child = background(&instance, &["raid", "replace", "r", "0.img", "new"]);
    wait_until("it is being filled", || states(&instance)[0] == "rebuilding");
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().expect("ours").is_none(), "64 s are not over");
    let going = json(&instance)["action"].clone();
    assert_eq!((&going["what"], &going["total_bytes"]), (&"recover".into(), &(64 * MIB).into()));
    let told = instance.refused(&["raid", "replace", "r", "1", "0.img", "--force"]);
    assert!(told.contains("leg 0 is not in sync"), "{told}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is ours");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let now = instance.dmsim(&["table", "r"]);
    assert!(now.contains("max_recovery_rate 1024") && !now.contains("rebuild"), "{now}");
    assert_eq!(states(&instance), ["rebuilding", "in_sync"]);
    let names = tables(&instance);
    assert!(names.contains("r_rmeta_0: ") && !names.contains("_new"), "{names}");
}
