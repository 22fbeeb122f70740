//! Sets that were cut off in Linux, in a reshape, or with writes in their journal: they read as they did
//! there, and what was cut off goes on to its end.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use sim_core::{Sector, Sectors, StatusKind};
use testkit::{Schedule, SimDisk, Speed, World, read_all};

use crate::images::image;

/// Sectors of a set's data, as the images' README has it.
const DATA: usize = 4096;

/// Of the raid10 that is given a leg.
const LESS: usize = 3072;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds a disk with an image of a folder.
fn add(world: &World, folder: &str, name: &str) -> Arc<SimDisk> {
    let bytes = image(&format!("{folder}/{name}"));
    let disk = world.add_disk(Sectors::in_bytes(bytes.len() as u64));
    disk.set_speed(Speed::Waits);
    disk.fill(Sector::ZERO, &bytes);
    disk
}

/// Starts a set of so many legs from the images of a folder with a line, and lets it come to its end.
#[track_caller]
fn goes_on(folder: &str, line: &str, legs: usize, data: usize, expected: &str, status: &str) {
    let world = World::with(&Schedule::Random(1), targets::registry(), &[]);
    let names = (0..legs).flat_map(|leg| [format!("m{leg}"), format!("d{leg}")]);
    let letters: Vec<String> = (b'a'..)
        .zip(names)
        .map(|(letter, name)| {
            add(&world, folder, &name);
            char::from(letter).to_string()
        })
        .collect();
    let device = world.set_up(0, &format!("{line} {legs} {}", letters.join(" ")));
    let content = || world.sim.block_on(read_all(device.clone())).expect("it reads");
    assert_eq!(sha256(&content()[..data * 512]), expected, "{folder}, in the middle");
    world.sim.run_until_idle().expect("it ends");
    assert_eq!(sha256(&content()[..data * 512]), expected, "{folder}, at the end");
    let live = device.live().expect("a table");
    let told = live.status(StatusKind::Info, Default::default()).expect("no panic");
    assert_eq!(told.0[0].params.to_string(), status, "{folder}");
}

#[test]
fn a_set_that_was_given_a_leg_goes_on() {
    goes_on(
        "raid5-grow-middle",
        "0 6144 raid raid5_ls 3 8 region_size 64",
        4,
        DATA,
        "06c7a30fa7634f884fb784b23563aabf6cae71759dab13ee4798350b1952520c",
        "raid5_ls 4 AAAA 2048/2048 idle 0 0 -",
    );
}

#[test]
fn a_set_that_gave_a_leg_up_goes_on() {
    goes_on(
        "raid5-shrink-middle",
        "0 4096 raid raid5_ls 3 8 region_size 64",
        3,
        DATA,
        "06c7a30fa7634f884fb784b23563aabf6cae71759dab13ee4798350b1952520c",
        "raid5_ls 3 AAA 2048/2048 idle 0 64 -",
    );
}

#[test]
fn a_set_that_changed_its_layout_goes_on() {
    goes_on(
        "raid5-layout-middle",
        "0 4096 raid raid5_la 3 16 region_size 64",
        3,
        DATA,
        "b01713ed3c33915aea6c123854c6451eee20173eb702deda0a7caf45b0dd531a",
        "raid5_la 3 AAA 2048/2048 idle 0 64 -",
    );
}

#[test]
fn a_raid10_that_was_given_a_leg_goes_on() {
    goes_on(
        "raid10-grow-middle",
        "0 4096 raid raid10 7 8 region_size 64 raid10_copies 2 raid10_format near",
        4,
        LESS,
        "f9eabd37b88dc3b1f1cc9f85d65e113f37917aced6f62b9773b45e4d72fb6d89",
        "raid10 4 AAAA 4096/4096 idle 0 0 -",
    );
}

#[test]
fn a_raid10_that_changed_where_its_copies_are_goes_on() {
    goes_on(
        "raid10-offset-middle",
        "0 4096 raid raid10 7 8 region_size 64 raid10_copies 2 raid10_format offset",
        4,
        DATA,
        "5c0f9d0845380433f7c74321c8f9af3c8a41096c25eb9b266f0d517c34934c3a",
        "raid10_offset 4 AAAA 4096/4096 idle 0 64 -",
    );
}

/// Has data alone of eight rows, and rows with their parity.
#[test]
fn a_journal_of_writes_that_ended_there_is_replayed() {
    let folder = "raid5-journal-writeback";
    let world = World::with(&Schedule::Random(1), targets::registry(), &[]);
    let disks: Vec<_> = ["m0", "d0", "m1", "d1", "m2", "d2", "j"]
        .iter()
        .map(|name| add(&world, folder, name))
        .collect();
    let line = "0 4096 raid raid5_ls 5 16 journal_dev g journal_mode writeback 3 a b c d e f";
    let device = world.set_up(0, line);
    let content = world.sim.block_on(read_all(device.clone())).expect("it reads");
    let expected = "59477ce1f8c7612a4f12f36550a76e733aaa7d50f426a2be2e3ceed3dc9e4243";
    assert_eq!(sha256(&content), expected);
    for row in (0..2048).map(Sector) {
        let leg = |leg: usize| disks[leg * 2 + 1].look(row, Sectors(1), <[u8]>::to_vec);
        let xor = |(one, other): (&u8, &u8)| one ^ other;
        let both: Vec<u8> = leg(0).iter().zip(&leg(1)).map(xor).collect();
        assert_eq!(both, leg(2), "row {row}");
    }
}
