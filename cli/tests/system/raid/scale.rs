//! Sets of long legs, and of as many as there can be.

use super::{create, json};
use crate::harness::{Instance, bytes, read_at, write_at};

/// The most that a daemon may have held of memory, in KiB.
const MOST_MEMORY: u64 = 64 << 10;

/// Returns the most that the instance's daemon has held of memory so far, in KiB.
fn memory(instance: &Instance) -> u64 {
    let status = format!("/proc/{}/status", instance.pid());
    let status = std::fs::read_to_string(status).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Puts a set of these legs together in a daemon of its own, and returns that.
fn assembled(instance: Instance, legs: usize) -> Instance {
    instance.dmsim(&["raid", "remove", "r"]);
    let instance = Instance::start_in(instance.crash(), &[]);
    let images: Vec<String> = (0..legs).map(|leg| format!("{leg}.img")).collect();
    let images = images.iter().map(String::as_str);
    let args = ["raid", "assemble"].into_iter().chain(images).chain(["--name", "r"]);
    instance.dmsim(&args.collect::<Vec<&str>>());
    instance
}

#[test]
fn sixteen_legs_of_a_tib_take_little_memory() {
    let instance = Instance::start();
    let device = create(&instance, "raid5", 16, "1T");
    let data = bytes(3, 1 << 20);
    let len = std::fs::metadata(&device).expect("a file").len();
    assert!(len > 14 << 40, "{len}");
    let places = [0, 5 << 40, len - (1 << 20)];
    for at in places {
        write_at(&device, at, &data).expect("room for it");
    }
    let instance = assembled(instance, 16);
    for at in places {
        assert!(read_at(&device, at, data.len()).expect("a set") == data, "at {at}");
    }
    assert_eq!(json(&instance)["health"], "in sync");
    let held = memory(&instance);
    assert!(held < MOST_MEMORY, "{held} KiB");
}

#[test]
fn a_set_has_253_legs_and_does_without_two() {
    let instance = Instance::start();
    let device = create(&instance, "raid6", 253, "2M");
    let data = bytes(4, 20 << 20);
    write_at(&device, 1 << 20, &data).expect("room for it");
    let instance = assembled(instance, 253);
    for leg in ["17", "252"] {
        instance.dmsim(&["fail", "r", leg]);
    }
    assert!(read_at(&device, 1 << 20, data.len()).expect("a set") == data);
    let status = json(&instance);
    assert_eq!((&status["health"], &status["may_lose"]), (&"degraded".into(), &0.into()));
}
