//! Sets whose data moves onto more legs while they are used, through crashes, and more than once.

use super::parity::{filled, kept};
use super::*;

/// Makes the image of a leg more.
fn empty(instance: &Instance, name: &str, size: u64) {
    let file = std::fs::File::create(instance.path(name)).expect("a new file");
    file.set_len(size).expect("it is sparse");
}

fn is_reshaping(instance: &Instance) -> bool {
    json(instance)["health"] == "reshaping"
}

fn size(instance: &Instance) -> u64 {
    json(instance)["size_bytes"].as_u64().expect("a size")
}

#[test]
fn a_raid5_that_is_written_grows_through_crashes_and_again() {
    let instance = Instance::start();
    let device = create(&instance, "raid5", 3, "17M");
    let mut data = bytes(1, 32 << 20);
    write_at(&device, 0, &data).expect("room for it");
    let table = instance.dmsim(&["table", "r"]);
    load(
        &instance,
        &table.trim_end().replace("raid5_ls 1 128", "raid5_ls 3 128 max_recovery_rate 2048"),
    );
    instance.dmsim(&["wait", "--sync", "r"]);
    empty(&instance, "3.img", 17 * MIB);
    let told = instance.dmsim(&["raid", "grow", "r", "3.img", "--no-wait"]);
    assert!(told.starts_with("r: data moves onto 4 legs"), "{told}");
    assert!(told.contains("it has 48 MiB, 16 MiB more"), "{told}");
    let told = instance.dmsim(&["raid", "status", "r"]);
    assert!(told.contains(", 32 MiB (becomes 48 MiB), "), "{told}");
    assert!(told.contains(": reshaping\n") && told.contains("\n3    reshaping "), "{told}");
    assert!(told.contains("\nreshape: "), "{told}");
    assert_eq!(json(&instance)["becomes_bytes"], 48 * MIB);
    let names = tables(&instance);
    assert!(!names.contains("_new") && !names.contains("delta_disks"), "{names}");
    empty(&instance, "4.img", 17 * MIB);
    let refused = instance.refused(&["raid", "grow", "r", "4.img"]);
    assert!(refused.contains("is being reshaped"), "{refused}");
    let mut write = |seed: u64, at: usize| {
        let more = bytes(seed, 300_000);
        write_at(&device, at as u64, &more).expect("a set");
        data[at..at + more.len()].copy_from_slice(&more);
    };
    for (seed, at) in [(2, 0), (3, 5_000_192), (4, 20_000_256), (5, 33_000_000)] {
        write(seed, at);
    }
    wait_until("some has moved", || json(&instance)["action"]["percent"].as_f64() > Some(15.0));
    write(6, 1_000_448);
    sh("sync", &[text(&device)]);
    let instance = Instance::start_in(instance.crash(), &[]);
    instance.dmsim(&["restore"]);
    assert!(is_reshaping(&instance), "it goes on");
    assert!(read_at(&device, 0, data.len()).expect("a set") == data, "in the middle");
    // And from the images alone.
    let instance = Instance::start_in(instance.crash(), &[]);
    let images = ["3.img", "0.img", "2.img", "1.img"];
    instance.dmsim(&[&["raid", "assemble"][..], &images, &["--name", "r"]].concat());
    instance.dmsim(&["wait", "--sync", "r"]);
    wait_until("it is longer", || size(&instance) == 48 * MIB);
    is_right(&instance);
    assert!(read_at(&device, 0, data.len()).expect("a set") == data, "after it");
    data.extend(bytes(7, 16 << 20));
    write_at(&device, 32 * MIB, &data[32 << 20..]).expect("what is new");
    let told = instance.dmsim(&["raid", "grow", "r", "4.img"]);
    assert!(told.starts_with("r: has 5 legs, and 64 MiB, 16 MiB more"), "{told}");
    wait_until("it is longer", || size(&instance) == 64 * MIB);
    is_right(&instance);
    assert!(read_at(&device, 0, data.len()).expect("a set") == data, "after the second");
    assert_eq!(instance.path("0.img").metadata().expect("an image").len(), 25 * MIB);
    // A leg is lost, and another takes its place in the ring.
    instance.dmsim(&["fail", "r", "1"]);
    assert!(read_at(&device, 0, data.len()).expect("a set") == data, "by parity");
    empty(&instance, "new.img", 17 * MIB);
    let refused = instance.refused(&["raid", "replace", "r", "1", "new.img"]);
    assert!(refused.contains("a leg needs 25 MiB"), "{refused}");
    empty(&instance, "new.img", 25 * MIB);
    instance.dmsim(&["raid", "replace", "r", "1", "new.img"]);
    is_right(&instance);
    let instance = Instance::start_in(instance.crash(), &[]);
    instance.dmsim(&["restore"]);
    instance.dmsim(&["raid", "remove", "r"]);
    let images = ["3.img", "0.img", "4.img", "2.img", "new.img"];
    instance.dmsim(&[&["raid", "assemble"][..], &images, &["--name", "r"]].concat());
    instance.dmsim(&["wait", "--sync", "r"]);
    assert!(read_at(&device, 0, data.len()).expect("a set") == data, "at the end");
    is_right(&instance);
}

#[test]
fn raid6_raid4_and_raid10_grow_and_come_back_after_a_crash() {
    for (level, legs, more, becomes) in [
        ("raid6", 4, 1, 12),
        ("raid4", 3, 2, 16),
        ("raid10", 4, 2, 12),
        ("raid10", 3, 1, 8),
        ("raid10_offset", 4, 1, 10),
    ] {
        let instance = Instance::start();
        let device = create(&instance, level, legs, "5M");
        instance.dmsim(&["wait", "--sync", "r"]);
        let data = bytes(1, size(&instance) as usize);
        write_at(&device, 0, &data).expect("room for it");
        let new: Vec<String> = (legs..legs + more).map(|leg| format!("{leg}.img")).collect();
        new.iter().for_each(|name| empty(&instance, name, 5 * MIB));
        let new: Vec<&str> = new.iter().map(String::as_str).collect();
        let told = instance.dmsim(&[&["raid", "grow", "r"][..], &new].concat());
        assert!(told.contains(&format!("and {becomes} MiB, ")), "{level}: {told}");
        wait_until("it is longer", || size(&instance) == becomes * MIB);
        assert!(read_at(&device, 0, data.len()).expect("a set") == data, "{level}");
        assert_eq!(states(&instance), vec!["in_sync"; legs + more], "{level}");
        is_right(&instance);
        comes_back_after_a_crash(instance, level);
    }
}

#[test]
fn a_raid5_under_a_busy_ext4_grows_and_the_file_system_after_it() {
    if !can_mount() || !has(&TOOLS) || !has(&["resize2fs"]) {
        return;
    }
    let instance = Instance::start();
    let device = create(&instance, "raid5", 3, "49M");
    let written = filled(&device);
    empty(&instance, "3.img", 49 * MIB);
    under_load(&device, || {
        instance.dmsim(&["raid", "grow", "r", "3.img"]);
    });
    wait_until("it is longer", || size(&instance) == 144 * MIB);
    is_right(&instance);
    sh("e2fsck", &["-f", "-p", text(&device)]);
    sh("resize2fs", &[text(&device)]);
    sh("e2fsck", &["-f", "-n", text(&device)]);
    assert_eq!(kept(&device), written);
}

#[test]
fn an_image_that_cannot_be_made_longer_has_to_have_the_room() {
    let instance = Instance::start();
    create(&instance, "raid5", 3, "9M");
    let before = tables(&instance);
    empty(&instance, "disk", 32 * MIB);
    let disk = instance.path("disk");
    let add = |len: u64| {
        let table = format!("0 {len} linear {} 0", text(&disk));
        instance.dmsim(&["load", "d", "--table", &table]);
        instance.dmsim(&["resume", "d"]);
    };
    instance.dmsim(&["create", "d", "--table", &format!("0 18432 linear {} 0", text(&disk))]);
    let file = instance.device("d");
    let refused = instance.refused(&["raid", "grow", "r", text(&file)]);
    assert!(refused.contains("has 9 MiB, and 17 MiB are needed"), "{refused}");
    let length = |leg: &str| instance.path(leg).metadata().expect("an image").len();
    assert_eq!(length("0.img"), 9 * MIB, "nothing was changed");
    assert!(before.lines().all(|line| tables(&instance).contains(line)), "nothing was changed");
    add(17 << 11);
    instance.dmsim(&["raid", "grow", "r", text(&file)]);
    wait_until("it is longer", || size(&instance) == 24 * MIB);
    is_right(&instance);
}

#[test]
fn a_leg_that_is_missing_in_the_middle_of_it_is_rebuilt_when_it_is_back() {
    // One that was there before, and a new one.
    for lost in [1, 3] {
        let instance = Instance::start();
        let device = create(&instance, "raid5", 3, "9M");
        let data = bytes(1, 16 << 20);
        write_at(&device, 0, &data).expect("room for it");
        let table = instance.dmsim(&["table", "r"]);
        let table =
            table.trim_end().replace("raid5_ls 1 128", "raid5_ls 3 128 max_recovery_rate 1024");
        load(&instance, &table);
        instance.dmsim(&["wait", "--sync", "r"]);
        empty(&instance, "3.img", 9 * MIB);
        instance.dmsim(&["raid", "grow", "r", "3.img", "--no-wait"]);
        wait_until("some has moved", || json(&instance)["action"]["percent"].as_f64() > Some(10.0));
        let instance = Instance::start_in(instance.crash(), &[]);
        let images: Vec<String> = (0..4).map(|leg| format!("{leg}.img")).collect();
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        let mut some = images.clone();
        some.remove(lost);
        let assemble = |images: &[&str]| {
            instance.dmsim(&[&["raid", "assemble"][..], images, &["--name", "r"]].concat());
        };
        assemble(&some);
        wait_until("all has moved", || json(&instance)["action"].is_null());
        assert_eq!(states(&instance)[lost], "missing");
        assert!(read_at(&device, 0, data.len()).expect("a set") == data, "without leg {lost}");
        instance.dmsim(&["raid", "remove", "r"]);
        assemble(&images);
        instance.dmsim(&["wait", "--sync", "r"]);
        assert_eq!(states(&instance), ["in_sync"; 4]);
        is_right(&instance);
        instance.dmsim(&["fail", "r", "2"]);
        assert!(read_at(&device, 0, data.len()).expect("a set") == data, "with leg {lost} again");
    }
}
