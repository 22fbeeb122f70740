//! raid4, raid5 and raid6: legs that are lost under a mounted file system and come back, or are
//! replaced; what a crash without a leg may damage, told.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// Every type of the kernel's with parity, and how many legs it may lose.
const TYPES: [(&str, usize); 14] = [
    ("raid4", 1),
    ("raid5_n", 1),
    ("raid5_ls", 1),
    ("raid5_rs", 1),
    ("raid5_la", 1),
    ("raid5_ra", 1),
    ("raid6_zr", 2),
    ("raid6_nr", 2),
    ("raid6_nc", 2),
    ("raid6_n_6", 2),
    ("raid6_ls_6", 2),
    ("raid6_rs_6", 2),
    ("raid6_la_6", 2),
    ("raid6_ra_6", 2),
];

fn fail(instance: &Instance, legs: &[&str]) {
    for leg in legs {
        instance.dmsim(&["fail", "r", leg]);
    }
}

fn parity_is_right(instance: &Instance) {
    assert_eq!(instance.dmsim(&["raid", "check", "r"]), "r: parity is right\n");
}

/// Makes an ext4 with some files; returns what they are.
pub(super) fn filled(device: &Path) -> BTreeMap<String, String> {
    sh("mkfs.ext4", &["-q", "-F", text(device)]);
    let mounted = Mounted::over(device, false);
    let kept = mounted.dir.path().join("kept");
    std::fs::create_dir(&kept).expect("a folder");
    fill(&kept, 8 * MIB);
    digests(&kept)
}

/// Reads the files again.
pub(super) fn kept(device: &Path) -> BTreeMap<String, String> {
    let mounted = Mounted::over(device, false);
    digests(&mounted.dir.path().join("kept"))
}

#[test]
fn a_raid6_loses_two_legs_under_a_busy_ext4_and_gets_them_back() {
    if !can_mount() || !has(&TOOLS) {
        return;
    }
    let instance = Instance::start();
    let device = create(&instance, "raid6", 5, "49M");
    instance.dmsim(&["wait", "--sync", "r"]);
    let written = filled(&device);
    under_load(&device, || {
        fail(&instance, &["1", "3.img"]);
        let lost = || states(&instance) == ["in_sync", "failed", "in_sync", "failed", "in_sync"];
        wait_until("both legs have failed", lost);
        let told = instance.dmsim(&["raid", "status", "r"]);
        let head =
            "r: raid6 (raid6_zr), 144 MiB, chunks of 64 KiB: degraded, no leg more may fail\n";
        assert!(told.starts_with(head), "{told}");
        assert!(told.contains("\nwrite hole: after a crash, what legs 1, 3 had of"), "{told}");
        let refused = instance.refused(&["raid", "check", "r"]);
        assert!(
            refused.contains("legs 1, 3 are not in sync, and without that no par"),
            "{refused}"
        );
        std::thread::sleep(Duration::from_millis(500));
        instance.dmsim(&["heal", "r"]);
        assert_eq!(states(&instance), ["in_sync"; 5]);
        parity_is_right(&instance);
    });
    parity_is_right(&instance);
    assert_eq!(json(&instance)["may_lose"], 2);
    assert!(!instance.dmsim(&["raid", "status", "r"]).contains("write hole"));
    assert!(kept(&device) == written);
    // From what the two have got back.
    fail(&instance, &["0", "2"]);
    assert!(kept(&device) == written);
    sh("e2fsck", &["-f", "-n", text(&device)]);
}

#[test]
fn a_leg_of_a_raid5_that_is_cut_off_or_lost_under_a_busy_ext4_is_replaced() {
    if !can_mount() || !has(&TOOLS) {
        return;
    }
    let instance = Instance::start();
    let device = create(&instance, "raid5", 3, "49M");
    let written = filled(&device);
    under_load(&device, || {
        for (leg, is_cut) in [("1", true), ("0", false)] {
            if is_cut {
                let image = std::fs::File::options().write(true).open(instance.path("1.img"));
                image.expect("an image").set_len(0).expect("it is cut");
            } else {
                fail(&instance, &[leg]);
            }
            let place: usize = leg.parse().expect("a place");
            wait_until("the leg has failed", || states(&instance)[place] == "failed");
            let other = if leg == "1" { "2" } else { "1" };
            let new = format!("new{leg}");
            let file = std::fs::File::create(instance.path(&new)).expect("a new file");
            file.set_len(49 * MIB).expect("it is sparse");
            let told = instance.refused(&["raid", "replace", "r", other, &new]);
            assert!(told.contains("is one more than a raid5 can do without"), "{told}");
            instance.dmsim(&["raid", "replace", "r", leg, &new]);
            assert_eq!(states(&instance), ["in_sync"; 3]);
            assert_eq!(json(&instance)["legs"][place]["file"], text(&instance.path(&new)));
            parity_is_right(&instance);
        }
    });
    parity_is_right(&instance);
    fail(&instance, &["2"]);
    assert!(kept(&device) == written, "read from the two new legs");
}

#[test]
fn every_type_of_the_kernels_can_do_without_as_many_legs_as_it_says() {
    for (level, may_lose) in TYPES {
        let instance = Instance::start();
        let device = create(&instance, level, 5, "3M");
        instance.dmsim(&["wait", "--sync", "r"]);
        let found = json(&instance);
        assert_eq!((&found["raid_type"], &found["may_lose"]), (&level.into(), &may_lose.into()));
        assert_eq!(found["size_bytes"], 2 * MIB * (5 - may_lose as u64));
        let table = instance.dmsim(&["table", "r"]);
        assert!(table.contains(&format!(" raid {level} ")), "{table}");
        let data = bytes(may_lose as u64, 5 << 20);
        write_at(&device, 0, &data).expect("room for it");
        for lost in [["0", "1"], ["3", "4"]] {
            fail(&instance, &lost[..may_lose]);
            assert!(read_at(&device, 0, data.len()).expect("a set") == data, "{level}");
            write_at(&device, MIB, &data[MIB as usize..][..70_000]).expect("a set");
            instance.dmsim(&["heal", "r"]);
            assert_eq!(states(&instance), ["in_sync"; 5], "{level}");
            parity_is_right(&instance);
        }
    }
}

#[test]
fn parity_that_is_wrong_is_found_and_computed_anew() {
    for (level, legs) in [("4", 3), ("5", 3), ("6", 4)] {
        let instance = Instance::start();
        let device = create(&instance, level, legs, "9M");
        let data = bytes(1, 4 << 20);
        write_at(&device, 0, &data).expect("room for it");
        instance.dmsim(&["wait", "--sync", "r"]);
        parity_is_right(&instance);
        // Whether it is data there or parity, the two do not fit any more.
        let image = instance.path(&format!("{}.img", legs - 1));
        let before = read_at(&image, 2 * MIB, 1).expect("an image");
        write_at(&image, 2 * MIB, &[!before[0]]).expect("an image");
        let output = instance.run(&["raid", "check", "r", "--json"]);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(output.status.code(), Some(1), "{found}");
        assert_eq!((&found["differing_bytes"], &found["repaired"]), (&4096.into(), &false.into()));
        let told = instance.dmsim(&["raid", "status", "r"]);
        assert!(
            told.ends_with("the last check: parity is wrong in 8 sectors of each leg\n"),
            "{told}"
        );
        let output = instance.run(&["raid", "repair", "r", "--from", "copy"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains(" keeps no copies, but parity: `--from parity`, or nothing"),
            "{told}"
        );
        let found = checked(&instance.run(&["raid", "repair", "r", "--from", "parity"]));
        let repaired = "r: parity is wrong in 8 sectors of each leg, and is computed anew\n";
        assert_eq!(found, (Some(0), repaired.to_owned()), "{level}");
        parity_is_right(&instance);
    }
}

#[test]
fn what_a_crash_without_a_leg_may_damage_is_told() {
    let instance = Instance::start();
    let device = create(&instance, "raid5", 3, "9M");
    fail(&instance, &["1"]);
    write_at(&device, 0, &bytes(1, 1 << 20)).expect("legs are left");
    let told = instance.dmsim(&["raid", "status", "r"]);
    let hole =
        "bitmap: 4 MiB marked\nwrite hole: after a crash, what leg 1 had of that may be wrong";
    assert!(told.contains(hole), "{told}");
    assert_eq!(json(&instance)["marked_bytes"], 4 * MIB);
    instance.dmsim(&["raid", "remove", "r"]);
    let output = instance.run(&["raid", "assemble", "2.img", "0.img", "--name", "r"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("leg 1 is missing"), "{told}");
    assert!(told.contains("4 MiB were marked as being written when not all legs"), "{told}");
    // With all of it there is none, and bits go a while after the last write.
    instance.dmsim(&["raid", "remove", "r"]);
    instance.dmsim(&["raid", "assemble", "2.img", "0.img", "1.img", "--name", "r"]);
    instance.dmsim(&["wait", "--sync", "r"]);
    parity_is_right(&instance);
    wait_until("no bit is left", || json(&instance)["marked_bytes"] == 0);
    let told = instance.dmsim(&["raid", "status", "r"]);
    assert!(!told.contains("bitmap") && !told.contains("write hole"), "{told}");
    assert!(read_at(&device, 0, 1 << 20).expect("a set") == bytes(1, 1 << 20));
}

#[test]
fn a_name_that_was_forgotten_and_an_image_by_two_names_are_noticed() {
    let instance = Instance::start();
    let path = |name: &str| instance.path(name);
    for name in ["a", "b", "c"] {
        std::fs::File::create(path(name)).expect("a file").set_len(9 * MIB).expect("it is sparse");
    }
    let output = instance.run(&["raid", "create", "raid5", "a", "b", "c"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("c: is a file, and was taken for the name of the set"), "{told}");
    std::fs::hard_link(path("a"), path("d")).expect("a link");
    let told = instance.refused(&["raid", "create", "raid5", "a", "b", "d", "r"]);
    assert!(told.contains("d: is there twice: each leg needs an image of its own"), "{told}");
    assert_eq!(instance.dmsim(&["ls"]).trim_end(), "No devices found");
}

#[test]
fn a_leg_too_many_breaks_a_set_until_it_is_healed() {
    for (level, legs) in [("raid5", 3), ("raid6", 5)] {
        let instance = Instance::start();
        let device = create(&instance, level, legs, "9M");
        instance.dmsim(&["wait", "--sync", "r"]);
        let data = bytes(2, 4 << 20);
        write_at(&device, 0, &data).expect("room for it");
        sh("sync", &[text(&device)]);
        let too_many = if level == "raid5" { 2 } else { 3 };
        for leg in &["0", "1", "2"][..too_many] {
            instance.dmsim(&["fail", "r", leg, "--writes"]);
        }
        let write = write_at(&device, 0, &data)
            .and_then(|()| std::fs::File::options().write(true).open(&device)?.sync_all());
        assert!(write.is_err(), "{level} takes what it cannot keep");
        assert_eq!(json(&instance)["health"], "broken", "{level}");
        let told = instance.dmsim(&["raid", "status", "r"]);
        assert!(told.contains(": broken, as it lacks more legs than it can do without"), "{told}");
        instance.dmsim(&["heal", "r"]);
        assert_eq!(json(&instance)["health"], "in sync", "{level}");
        parity_is_right(&instance);
        assert!(read_at(&device, 0, data.len()).expect("a set") == data, "{level}");
    }
}

#[test]
fn a_leg_that_the_line_leaves_out_is_missing() {
    let instance = Instance::start();
    create(&instance, "raid5", 4, "9M");
    let table = instance.dmsim(&["table", "r"]);
    let words: Vec<&str> = table.split_whitespace().collect();
    let at = words.iter().rposition(|word| *word == "4").expect("four legs");
    // As the kernel, which takes it: three legs of the four.
    let shorter = [&["0", "32768"], &words[2..at], &["3"], &words[at + 1..at + 7]].concat();
    load(&instance, &shorter.join(" "));
    assert_eq!(states(&instance), ["in_sync", "in_sync", "in_sync", "missing"]);
    let status = json(&instance);
    assert_eq!((&status["health"], &status["may_lose"]), (&"degraded".into(), &0.into()));
}

#[test]
fn an_old_copy_of_a_leg_spoils_nothing() {
    for (level, legs) in [("raid1", 2), ("raid10", 4), ("raid5", 3), ("raid6", 4)] {
        for crashes in [false, true] {
            let what = format!("{level}, {crashes}");
            let instance = Instance::start();
            let device = create(&instance, level, legs, "5M");
            let images: Vec<String> = (0..legs).map(|leg| format!("{leg}.img")).collect();
            let args = ["raid", "assemble"].into_iter().chain(images.iter().map(String::as_str));
            let args: Vec<&str> = args.chain(["--name", "r"]).collect();
            write_at(&device, 0, &bytes(1, 2 << 20)).expect("room for it");
            instance.dmsim(&["wait", "--sync", "r"]);
            instance.dmsim(&["raid", "remove", "r"]);
            std::fs::copy(instance.path("0.img"), instance.path("copy")).expect("a copy");
            instance.dmsim(&args);
            let new = bytes(2, 2 << 20);
            write_at(&device, 0, &new).expect("room for it");
            let instance = match crashes {
                true => Instance::start_in(instance.crash(), &[]),
                false => {
                    instance.dmsim(&["raid", "remove", "r"]);
                    instance
                }
            };
            std::fs::rename(instance.path("copy"), instance.path("0.img")).expect("a name");
            let put = instance.run(&args);
            let told = String::from_utf8_lossy(&put.stderr).into_owned();
            if !put.status.success() {
                // What was being written is in no parity, so that it makes up for nothing.
                assert!(crashes && told.contains("these are a little behind"), "{what}: {told}");
                let without: Vec<&str> =
                    args.iter().copied().filter(|arg| *arg != "0.img").collect();
                instance.dmsim(&without);
            } else {
                assert!(told.contains("leg 0 is a little behind"), "{what}: {told}");
            }
            assert!(read_at(&device, 0, new.len()).expect("a set") == new, "{what}");
            if put.status.success() {
                instance.dmsim(&["wait", "--sync", "r"]);
                no_sector_differs(&instance);
                assert!(read_at(&device, 0, new.len()).expect("a set") == new, "{what}");
                let table = instance.dmsim(&["table", "r"]);
                assert!(!table.contains("rebuild"), "{table}");
            }
        }
    }
}

#[test]
fn a_set_is_put_together_once_by_whatever_path() {
    let instance = Instance::start();
    create(&instance, "raid1", 2, "5M");
    for leg in ["0", "1"] {
        let image = instance.path(&format!("{leg}.img"));
        std::fs::hard_link(image, instance.path(leg)).expect("a link");
    }
    let told = instance.refused(&["raid", "assemble", "0", "1", "--name", "again"]);
    assert!(told.contains("0: is in use by the table of `r_r"), "{told}");
    let told = instance.refused(&["raid", "create", "raid1", "new", "1", "other", "--size", "5M"]);
    assert!(told.contains("1: is in use by the table of `r_r"), "{told}");
}
