//! Sets that a BIOS made, opened as they are.

use std::path::PathBuf;

use testkit::{bios_arrays, bios_pattern, write_bios_images};

use super::{comes_back_after_a_crash, json, states};
use crate::harness::{Instance, read_at, text, write_at};

fn images(instance: &Instance, name: &str) -> Vec<PathBuf> {
    write_bios_images(name, &instance.path("")).expect("room for them")
}

/// Returns the words that open a volume of the disks with these numbers.
fn words(images: &[PathBuf], disks: &[usize], more: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = ["raid", "assemble"].map(str::to_owned).to_vec();
    words.extend(disks.iter().map(|nr| text(&images[*nr]).to_owned()));
    words.extend(["--name".to_owned(), "r".to_owned()]);
    if text(&images[0]).contains("imsm") {
        let serials: Vec<String> = disks.iter().map(|nr| format!("/dev/loop{nr}")).collect();
        words.extend(["--serials".to_owned(), serials.join(",")]);
    }
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

fn assemble(instance: &Instance, images: &[PathBuf], disks: &[usize], more: &[&str]) -> String {
    let words = words(images, disks, more);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    instance.dmsim(&words)
}

fn refused(instance: &Instance, images: &[PathBuf], disks: &[usize], more: &[&str]) -> String {
    let words = words(images, disks, more);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    instance.refused(&words)
}

/// Fails where a volume has not what Linux wrote.
#[track_caller]
fn has_pattern(instance: &Instance, what: &str, plus: u8) {
    let device = instance.device("r");
    let blocks = std::fs::metadata(&device).expect("a file").len() / 4096;
    for block in (0..128).chain(blocks - 16..blocks) {
        let found = read_at(&device, block * 4096, 4096).expect("a read");
        let expected = bios_pattern(block) + if block < 32 { plus } else { 0 };
        assert!(found == vec![expected; 4096], "{what}: block {block}");
    }
}

#[test]
fn every_volume_is_read_without_a_disk_too() {
    let instance = Instance::start();
    for name in bios_arrays() {
        let images = images(&instance, name);
        let all: Vec<usize> = (0..images.len()).collect();
        let plus = u8::from(name.ends_with("-failed"));
        let is_flat = ["imsm0", "ddf0"].contains(&name);
        let is_whole = !name.contains('-') && !is_flat;
        let volumes = if name.ends_with("-two") { &["sys", "fast"][..] } else { &["vol0"][..] };
        for volume in volumes {
            assemble(&instance, &images, &all, &["--volume", volume]);
            has_pattern(&instance, name, plus);
            if is_flat || *volume == "fast" {
                instance.dmsim(&["remove", "r"]);
            } else {
                instance.dmsim(&["raid", "remove", "r"]);
            }
        }
        if is_whole {
            assemble(&instance, &images, &all[1..], &[]);
            has_pattern(&instance, name, plus);
            assert_eq!(json(&instance)["health"], "degraded", "{name}");
            instance.dmsim(&["raid", "remove", "r"]);
            // What it lacks now, the others have as failed.
            assemble(&instance, &images, &all, &[]);
            assert_eq!(
                states(&instance).iter().filter(|state| *state == "in_sync").count() + 1,
                all.len()
            );
            instance.dmsim(&["raid", "remove", "r"]);
        }
    }
}

#[test]
fn a_volume_comes_back_after_a_crash() {
    for name in ["imsm5", "ddf5", "imsm1", "ddf10"] {
        let instance = Instance::start();
        let images = images(&instance, name);
        let all: Vec<usize> = (0..images.len()).collect();
        assemble(&instance, &images, &all, &[]);
        comes_back_after_a_crash(instance, name);
    }
}

/// Who has which place is not read from the images: they are written meanwhile, and may be gone.
#[test]
fn a_volume_is_known_whatever_becomes_of_its_images() {
    let instance = Instance::start();
    for (name, level) in [("imsm5", "raid5"), ("ddf10", "raid10"), ("imsm1", "raid1")] {
        let images = images(&instance, name);
        let all: Vec<usize> = (0..images.len()).collect();
        assemble(&instance, &images, &all, &[]);
        images.iter().for_each(|image| std::fs::remove_file(image).expect("it is there"));
        instance.dmsim(&["wait", "--sync", "r"]);
        let status = json(&instance);
        assert_eq!(status["level"], level, "{name}: {status}");
        assert_eq!(states(&instance), vec!["in_sync"; images.len()], "{name}");
        super::is_right(&instance);
        instance.dmsim(&["raid", "remove", "r"]);
    }
}

#[test]
fn what_is_the_matter_with_a_set_is_told() {
    let instance = Instance::start();
    let five = images(&instance, "imsm5");
    let all: Vec<&str> = five.iter().map(|image| text(image)).collect();
    let told = instance.refused(&["raid", "assemble", all[0], all[1], all[2], "--name", "r"]);
    assert!(told.contains("does not say which") && told.contains("`/dev/loop1`"), "{told}");
    let told = refused(&instance, &five, &[0], &[]);
    assert!(told.contains("assembled from 1 of 3 members, not enough"), "{told}");
    let told = assemble(&instance, &five, &[2, 0, 1], &[]);
    let said =
        "raid5 `vol0` of 3 disks, a volume of an Intel RAID set (imsm)\n0 16384 md 4 volume vol0";
    assert!(told.starts_with(said), "{told}");
    instance.dmsim(&["raid", "remove", "r"]);
    let two = images(&instance, "ddf-two");
    let told = refused(&instance, &two, &[0, 1, 2], &[]);
    assert!(told.contains("the volumes `sys` and `fast`: name one by --volume"), "{told}");
    let begun = images(&instance, "ddf5-initialized");
    let told = assemble(&instance, &begun, &[0, 1, 2], &[]);
    assert!(told.contains("a DDF RAID set, read-only"), "{told}");
    write_at(&instance.device("r"), 0, &[1; 4096]).expect_err("it is read-only");
    instance.dmsim(&["raid", "remove", "r"]);
    let told = instance.refused(&["raid", "assemble", text(&begun[0]), all[0], "--name", "r"]);
    assert!(told.contains("is of"), "{told}");
    // One whose checksum is wrong, and one of somebody else's.
    let len = std::fs::metadata(&five[1]).expect("a file").len();
    write_at(&five[1], len - 1024 + 0x60, &[0xff]).expect("a byte");
    let told = refused(&instance, &five, &[0, 1, 2], &[]);
    assert!(told.contains("imsm5.1") && told.contains("a wrong checksum"), "{told}");
    let other = instance.path("nv.img");
    let file = std::fs::File::create_new(&other).expect("a file");
    file.set_len(1 << 20).expect("room");
    write_at(&other, (1 << 20) - 512, b"$XIDE$").expect("a mark");
    let told = instance.refused(&["raid", "assemble", text(&other), "--name", "r"]);
    assert!(told.contains("a member of a LSI Logic MegaRAID RAID set (lsi)"), "{told}");
}

#[test]
fn serial_numbers_are_read_from_the_names_of_files() {
    let instance = Instance::start();
    let images = images(&instance, "imsm1");
    // Its serial numbers get other letters, and its checksum the difference.
    for image in &images {
        let len = std::fs::metadata(image).expect("a file").len();
        let mut table = read_at(image, len - 1024, 512).expect("a table");
        for disk in 0..2 {
            let serial = &mut table[0xd8 + 48 * disk..][..16];
            let nr = serial[9];
            serial.fill(0);
            serial[..6].copy_from_slice(&[b'W', b'D', b'-', b'A', b'B', nr]);
        }
        table[0x20..0x24].fill(0);
        let size = u32::from_le_bytes(table[0x24..0x28].try_into().expect("4")) as usize;
        let sum = table[..size].chunks_exact(4).fold(0_u32, |sum, word| {
            sum.wrapping_add(u32::from_le_bytes(word.try_into().expect("4")))
        });
        table[0x20..0x24].copy_from_slice(&sum.to_le_bytes());
        write_at(image, len - 1024, &table).expect("a table");
    }
    let named: Vec<PathBuf> =
        (0..2).map(|nr| instance.path(&format!("disk-WD-AB{nr}.img"))).collect();
    for (image, name) in images.iter().zip(&named) {
        std::fs::rename(image, name).expect("a name");
    }
    let told =
        instance.dmsim(&["raid", "assemble", text(&named[1]), text(&named[0]), "--name", "r"]);
    assert!(told.contains("serials WD-AB1,WD-AB0 2"), "{told}");
    has_pattern(&instance, "imsm1", 0);
}
