//! The daemon killed in the middle of things.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crate::harness::{Instance, bytes, command, read_at, wait_until};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 256;

/// What is known of each block: the last round that was flushed, and the last that was begun.
type Rounds = Mutex<Vec<(u64, u64)>>;

/// Writes rounds of random blocks with a flush after each few, until the device is gone.
fn write_until_the_end(device: &Path, rounds: &Rounds) {
    let file = std::fs::File::options().write(true).open(device).expect("the device");
    let mut pending = Vec::new();
    for round in 1.. {
        let block = (round * 2_654_435_761u64) % BLOCKS;
        rounds.lock().expect("one thread")[block as usize].1 = round;
        let written = file.write_all_at(&content(block, round), block * BLOCK as u64);
        if written.is_err() {
            return;
        }
        pending.push((block, round));
        if round % 7 == 0 {
            if file.sync_data().is_err() {
                return;
            }
            let mut rounds = rounds.lock().expect("one thread");
            for (block, round) in pending.drain(..) {
                rounds[block as usize].0 = round;
            }
        }
    }
}

fn content(block: u64, round: u64) -> Vec<u8> {
    let mut data = bytes(block << 24 | round, BLOCK);
    data[..8].copy_from_slice(&round.to_le_bytes());
    data
}

#[test]
fn a_daemon_killed_under_load_leaves_the_last_flush_or_later() {
    let instance = Instance::start();
    let image = instance.image("a.img", "/dev/sda", BLOCKS * BLOCK as u64);
    let sectors = BLOCKS * BLOCK as u64 / 512;
    let device = instance.create("d", &format!("0 {sectors} linear /dev/sda 0"));
    instance.create("other", "0 8 zero");
    let rounds: Rounds = Mutex::new(vec![(0, 0); BLOCKS as usize]);
    let dir = std::thread::scope(|scope| {
        scope.spawn(|| write_until_the_end(&device, &rounds));
        let flushed =
            || rounds.lock().expect("one thread").iter().any(|(flushed, _)| *flushed > 500);
        wait_until("some rounds are flushed", flushed);
        instance.crash()
    });

    let image = dir.path().join(image.file_name().expect("a file"));
    for (block, (flushed, begun)) in rounds.into_inner().expect("one thread").iter().enumerate() {
        let data = read_at(&image, block as u64 * BLOCK as u64, BLOCK).expect("the image");
        let round = u64::from_le_bytes(data[..8].try_into().expect("eight bytes"));
        assert!(round >= *flushed, "block {block}: round {round}, flushed was {flushed}");
        assert!(round <= *begun, "block {block}: round {round}, of {begun}");
        assert!(round == 0 || data == content(block as u64, round), "block {block} is torn");
    }

    // The mount is dead now; the next start clears it away, and restore builds all of it again.
    let mapper = dir.path().join("run/mapper");
    assert!(std::fs::read_dir(&mapper).is_err(), "a mount without its daemon");
    let instance = Instance::start_in(dir, &[]);
    instance.dmsim(&["restore"]);
    assert_eq!(
        instance.dmsim(&["table"]),
        format!("d: 0 {sectors} linear 8:0 0\nother: 0 8 zero \n")
    );
    let first = read_at(&instance.device("d"), 0, BLOCK).expect("the device");
    assert!(first == read_at(&instance.path("a.img"), 0, BLOCK).expect("the image"));
}

#[test]
fn whoever_waits_on_a_killed_daemon_gets_an_error() {
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 1 << 20);
    let device = instance.create("d", "0 2048 linear /dev/sda 0");
    instance.dmsim(&["suspend", "d"]);
    let waiter = std::thread::spawn(move || read_at(&device, 0, BLOCK));
    std::thread::sleep(Duration::from_millis(200));
    let dir = instance.crash();
    assert!(waiter.join().expect("no panic").is_err());
    let status = command(dir.path(), &["start"]).status().expect("dmsim runs");
    assert!(status.success(), "the dead mount is cleared away");
    let status = command(dir.path(), &["stop"]).status().expect("dmsim runs");
    assert!(status.success());
}
