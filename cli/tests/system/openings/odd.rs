//! Images that were made to do harm, or are odd, and words that do not fit them.

use std::os::unix::ffi::OsStrExt;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use super::{MIB, disk, locked_disk};
use crate::harness::{Instance, has, text, write_at};

fn ended(instance: &Instance, words: &[&str], status: i32) -> String {
    told(instance.run(words), status)
}

fn told(output: Output, status: i32) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{told}");
    told
}

fn devices(instance: &Instance) -> usize {
    instance.dmsim(&["ls"]).lines().filter(|line| *line != "No devices found").count()
}

#[test]
fn partitions_that_lie_over_one_another_are_opened_once() {
    let instance = Instance::start();
    let image = instance.path("bomb.img");
    // Each is the disk again.
    disk(&image, MIB, &[(0, 2048); 4]);
    let since = Instant::now();
    ended(&instance, &["open", text(&image)], 0);
    assert_eq!(devices(&instance), 4);
    instance.dmsim(&["close", "bomb"]);
    // Each has a table of its own, with the rest of it four times.
    for at in (0..32).rev() {
        let part = instance.path("part.img");
        disk(&part, MIB, &[(1, 1024); 4]);
        let sector = std::fs::read(&part).expect("an image");
        write_at(&image, at * 512, &sector[..512]).expect("room for it");
    }
    let said = ended(&instance, &["open", text(&image)], 11);
    assert!(said.contains("no more than 256 within other partitions"), "{said}");
    assert!(devices(&instance) < 300);
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
}

#[test]
fn a_partition_that_is_cut_short_is_not_written() {
    let instance = Instance::start();
    let image = instance.path("short.img");
    disk(&image, 2 * MIB, &[(2048, 8192)]);
    let said = ended(&instance, &["open", text(&image)], 0);
    assert!(said.contains("short1: is opened read-only, as a part of it is missing"), "{said}");
    assert!(write_at(&instance.device("short1"), 0, &[1; 512]).is_err());
}

#[test]
fn a_partition_of_what_has_no_table_is_an_error() {
    let instance = Instance::start();
    let image = instance.path("swap.img");
    std::fs::File::create(&image).and_then(|file| file.set_len(MIB)).expect("room for it");
    write_at(&image, 4086, b"SWAPSPACE2").expect("room for it");
    let said = ended(&instance, &["open", "--partition", "1", text(&image)], 2);
    assert!(said.contains("has no partition table"), "{said}");
}

#[test]
fn images_of_one_name_are_told_apart() {
    let instance = Instance::start();
    let images = ["x", "y"].map(|folder| {
        std::fs::create_dir(instance.path(folder)).expect("a new folder");
        let image = instance.path(folder).join("two.img");
        disk(&image, 2 * MIB, &[(2048, 1024)]);
        image
    });
    let said = ended(&instance, &["open", text(&images[0]), text(&images[1])], 0);
    assert!(said.contains("y/two.img is called as") && said.contains("x/two.img is"), "{said}");
    assert!(instance.device("two1").exists() && instance.device("two_2p1").exists());
    instance.dmsim(&["close", "two"]);
    assert_eq!(devices(&instance), 0);
}

#[test]
fn what_was_left_locked_is_opened_later_by_its_name() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let instance = Instance::start();
    let [image, key] = locked_disk(&instance, 1000);
    // Nobody has a key, which is none that opens.
    let mut open = instance.command(&["open", "--leave-locked", text(&image)]);
    told(open.stdin(Stdio::null()).output().expect("dmsim runs"), 11);
    instance.dmsim(&["open", "--key-file", text(&key), "disk2"]);
    assert!(instance.device("disk2_crypt").exists());
    let said = ended(&instance, &["close", "disk"], 1);
    assert!(said.contains("disk2 is in use"), "{said}");
    instance.dmsim(&["close", "disk2"]);
    // Of a name that it did not have.
    instance.dmsim(&["rename", "disk1", "other"]);
    instance.dmsim(&["close", "disk"]);
    assert_eq!(devices(&instance), 0);
}

#[test]
fn a_terminal_is_told_nothing_that_it_obeys() {
    let instance = Instance::start();
    let name = instance.path("red\u{1b}[31m\u{202e}.img");
    let output = instance.command(&["open"]).arg(&name).output().expect("dmsim runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.is_ascii() && !output.stderr.contains(&0x1b), "{output:?}");
    assert!(name.as_os_str().as_bytes().contains(&0x1b));
}

#[test]
fn the_table_of_an_image_that_is_not_raw_is_not_looked_for() {
    let instance = Instance::start();
    let image = instance.path("disk.qcow2");
    std::fs::File::create(&image).and_then(|file| file.set_len(MIB)).expect("room for it");
    write_at(&image, 0, b"QFI\xfb\0\0\0\x03").expect("room for it");
    let said = ended(&instance, &["partitions", text(&image)], 4);
    assert!(said.contains("qcow2") && said.contains("Make it raw"), "{said}");
}

#[test]
fn what_nobody_can_be_told_is_no_fault() {
    let instance = Instance::start();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
    let open = instance.command(&["open", "/nowhere.img"]).stderr(full).output();
    assert_eq!(open.expect("dmsim runs").status.code(), Some(1));
}
