//! Devices on devices, and devices beside each other: nothing blocks that should not, nothing is
//! lost.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::harness::{Instance, bytes, read_at, text, wait_until, write_at};

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;

#[test]
fn two_devices_over_one_image_keep_to_their_halves() {
    let instance = Instance::start();
    let image = instance.image("a.img", "/dev/sda", 4096 * SECTOR);
    let low = instance.create("low", "0 2048 linear /dev/sda 0");
    let high = instance.create("high", "0 2048 linear /dev/sda 2048");
    let (one, two) = (bytes(1, 2048 * 512), bytes(2, 2048 * 512));
    std::thread::scope(|scope| {
        scope.spawn(|| write_at(&low, 0, &one).expect("a write"));
        scope.spawn(|| write_at(&high, 0, &two).expect("a write"));
    });
    assert!(read_at(&image, 0, one.len()).expect("the image") == one);
    assert!(read_at(&image, 2048 * SECTOR, two.len()).expect("the image") == two);
}

#[test]
fn three_devices_on_top_of_one_another_are_one_device() {
    let instance = Instance::start();
    let image = instance.image("a.img", "/dev/sda", 4096 * SECTOR);
    instance.create("bottom", "0 3000 linear /dev/sda 96");
    instance.create("middle", "0 2000 striped 2 8 /dev/mapper/bottom 0 /dev/mapper/bottom 2000");
    let top = instance.create("top", "0 500 linear /dev/mapper/middle 4");
    let data = bytes(3, 500 * 512);
    write_at(&top, 0, &data).expect("a write");
    assert!(read_at(&top, 0, data.len()).expect("the device") == data);
    // Sector 0 of the top is sector 4 of the middle: stripe 0, place 4 of the bottom.
    assert!(read_at(&image, 100 * SECTOR, 512).expect("the image") == data[..512]);
    // Sector 4 of the top begins the second chunk: stripe 1.
    assert!(read_at(&image, 2096 * SECTOR, 512).expect("the image") == data[4 * 512..5 * 512]);
}

#[test]
fn a_suspended_device_holds_its_bios_while_another_goes_on() {
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 4096 * SECTOR);
    let held = instance.create("held", "0 1024 linear /dev/sda 0");
    let free = instance.create("free", "0 1024 linear /dev/sda 1024");
    // More writers than the mount has workers: if one waited in a worker, the free device would
    // stop too.
    let (stop, held_writes, free_writes) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let write = |path: &std::path::Path, writer: u64, writes: &AtomicU64| {
        let file = File::options().read(true).write(true).open(path).expect("a device");
        let (mut round, offset) = (0, writer * 4096);
        while !stop.load(SeqCst) {
            round += 1;
            let data = bytes(writer << 20 | round, 4096);
            file.write_all_at(&data, offset).expect("a write");
            let mut back = vec![0; 4096];
            file.read_exact_at(&mut back, offset).expect("a read");
            assert!(back == data, "writer {writer}, round {round}");
            writes.fetch_add(1, SeqCst);
        }
    };
    std::thread::scope(|scope| {
        for writer in 0..16 {
            let (held, free) = (&held, &free);
            let (held_writes, free_writes, write) = (&held_writes, &free_writes, &write);
            scope.spawn(move || write(held, writer, held_writes));
            scope.spawn(move || write(free, writer, free_writes));
        }
        let moved = |writes: &AtomicU64, what: &str| {
            let before = writes.load(SeqCst);
            wait_until(what, || writes.load(SeqCst) > before + 100);
        };
        // However this ends, the writers do too: the scope waits for them.
        let _end = OnDrop(|| {
            stop.store(true, SeqCst);
            instance.run(&["resume", "held"]);
        });
        for _ in 0..5 {
            moved(&held_writes, "the held device is written to");
            instance.dmsim(&["suspend", "held"]);
            let at = held_writes.load(SeqCst);
            moved(&free_writes, "the free device goes on");
            std::thread::sleep(Duration::from_millis(50));
            // A writer whose I/O had ended before may count it only now; each does so once.
            let passed = held_writes.load(SeqCst) - at;
            assert!(passed <= 16, "{passed} rounds passed a suspended device");
            instance.dmsim(&["resume", "held"]);
        }
        moved(&held_writes, "the held device goes on");
    });
}

/// Does something when it goes, also when a test fails.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_lower_device_that_is_suspended_holds_what_comes_from_above() {
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 4096 * SECTOR);
    instance.create("low", "0 1024 linear /dev/sda 0");
    let up = instance.create("up", "0 1024 linear /dev/mapper/low 0");
    write_at(&up, 0, &bytes(1, 4096)).expect("a write");
    instance.dmsim(&["suspend", "low"]);
    let written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (up, written) = (&up, &written);
        scope.spawn(move || {
            write_at(up, 0, &bytes(2, 4096)).expect("a write that waits");
            written.store(true, SeqCst);
        });
        std::thread::sleep(Duration::from_millis(200));
        assert!(!written.load(SeqCst), "the write waits below");
        // What waits is mapped by the table that is there after the resume.
        instance.dmsim(&["load", "low", "--table", "0 1024 linear /dev/sda 2048"]);
        instance.dmsim(&["resume", "low"]);
        wait_until("the write has ended", || written.load(SeqCst));
    });
    assert!(read_at(&up, 0, 4096).expect("a read") == bytes(2, 4096));
    let image = instance.path("a.img");
    assert!(read_at(&image, 2048 * SECTOR, 4096).expect("the image") == bytes(2, 4096));
    assert!(read_at(&image, 0, 4096).expect("the image") == bytes(1, 4096));
}

#[test]
fn a_device_takes_another_size_with_another_table() {
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 4096 * SECTOR);
    let device = instance.create("d", "0 1024 linear /dev/sda 0");
    let size = || device.metadata().expect("a device").len();
    assert_eq!(size(), 1024 * SECTOR);
    instance.dmsim(&["load", "d", "--table", "0 2048 linear /dev/sda 0"]);
    assert_eq!(size(), 1024 * SECTOR);
    instance.dmsim(&["resume", "d"]);
    assert_eq!(size(), 2048 * SECTOR);
    instance.dmsim(&["remove", "d"]);
    assert!(!device.exists());
}

fn set_len(path: &std::path::Path, len: u64) {
    let file = File::options().write(true).open(path).expect("an image");
    file.set_len(len).expect("room for it");
}

#[test]
fn the_store_of_a_snapshot_is_grown_by_its_image() {
    let instance = Instance::start();
    instance.image("base.img", "/dev/sda", 8 * MIB);
    let cow = instance.image("cow.img", "/dev/sdb", MIB / 4);
    let snap = instance.create("snap", "0 16384 snapshot /dev/sda /dev/sdb P 16");
    write_at(&snap, 0, &bytes(1, 128 << 10)).expect("there is room");
    assert_eq!(instance.dmsim(&["status", "snap"]), "0 16384 snapshot 288/512 32\n");
    set_len(&cow, 2 * MIB);
    // Nobody has said so yet.
    assert_eq!(instance.dmsim(&["status", "snap"]), "0 16384 snapshot 288/512 32\n");
    assert_eq!(instance.dmsim(&["resize", "/dev/sdb"]), "4096\n");
    assert_eq!(instance.dmsim(&["status", "snap"]), "0 16384 snapshot 288/4096 32\n");
    let more = bytes(2, 800 << 10);
    write_at(&snap, MIB, &more).expect("there is room");
    assert_eq!(instance.dmsim(&["status", "snap"]), "0 16384 snapshot 1888/4096 32\n");
    assert!(read_at(&snap, MIB, more.len()).expect("a read") == more);
}

#[test]
fn a_table_may_reach_as_far_as_its_image_was_grown() {
    let instance = Instance::start();
    let image = instance.image("disk.img", "/dev/sda", MIB);
    let disk = instance.create("disk", "0 2048 linear /dev/sda 0");
    write_at(&disk, 0, &bytes(1, MIB as usize)).expect("there is room");
    set_len(&image, 2 * MIB);
    let table = "0 4096 linear /dev/sda 0";
    instance.dmsim(&["load", "disk", "--table", table]);
    assert!(!instance.run(&["resume", "disk"]).status.success(), "the image is too small");
    // By its path, from where the command is typed.
    assert_eq!(instance.dmsim(&["resize", "disk.img"]), "4096\n");
    instance.dmsim(&["load", "disk", "--table", table]);
    instance.dmsim(&["resume", "disk"]);
    assert_eq!(std::fs::metadata(&disk).expect("a device").len(), 2 * MIB);
    write_at(&disk, MIB, &bytes(2, MIB as usize)).expect("there is room");
    // Cut below it: what is left can be read, and written.
    set_len(&image, MIB / 2);
    assert_eq!(instance.dmsim(&["resize", text(&image)]), "1024\n");
    assert!(read_at(&disk, 0, 4096).expect("a read") == bytes(1, 4096));
    read_at(&disk, MIB / 2, 4096).expect_err("it is gone");
    write_at(&disk, MIB, &[1; 4096]).expect_err("it is gone");
    assert_eq!(std::fs::metadata(&image).expect("an image").len(), MIB / 2);
    instance.refused(&["resize", "/dev/sdc"]);
}
