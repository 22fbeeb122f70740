//! Discards and zeros without data, as a block device is asked for them.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::sync::Arc;

use common::asked::{Slow, ask, end, read, write};
use common::{MIB, World, pattern};
use fuse_frontend::request::Disk;
use sim_core::{Allocation, BlockDevice, Errno, Sector};

const KEY: &str = "00112233445566778899aabbccddeeff";

fn discard(disk: &Arc<Disk>, at: u64, len: u64) -> Result<(), Errno> {
    end(ask(|reply| disk.discard(at, len, reply)))
}

fn write_zeroes(disk: &Arc<Disk>, at: u64, len: u64) -> Result<(), Errno> {
    end(ask(|reply| disk.write_zeroes(at, len, reply)))
}

/// A disk whose bios are noted, over a device with this table; and what it notes.
fn noted(world: &World, table: &str) -> (Arc<Slow>, Arc<Disk>) {
    let slow = Slow::over(world.create("d", table));
    (slow.clone(), world.disk(slow))
}

#[test]
fn a_discard_leaves_blocks_alone_that_it_fills_in_part() {
    let world = World::new();
    let (slow, disk) = noted(&world, "0 8192 linear disk4k 0");
    let data = pattern(32 << 10);
    write(&disk, 0, &data).unwrap();
    slow.seen();
    discard(&disk, 512, 12 << 10).unwrap();
    let seen = slow.seen();
    assert_eq!(seen, ["Discard 8+16"]);
    let found = read(&disk, 0, 32 << 10).unwrap();
    assert_eq!(found[..4096], data[..4096]);
    assert_eq!(found[4096..12288], vec![0; 8192], "two blocks, of memory");
    assert_eq!(found[12288..], data[12288..]);
    // One that fills none changes nothing.
    slow.seen();
    discard(&disk, 512, 7 << 9).unwrap();
    assert_eq!(slow.seen(), [""; 0]);
}

#[test]
fn zeros_fill_blocks_in_part_too() {
    let world = World::new();
    let (slow, disk) = noted(&world, "0 8192 linear disk4k 0");
    for (at, len) in [(512_usize, 12 << 10), (4096, 4096), (512, 512), (3584, 1024), (0, 32 << 10)]
    {
        let data = pattern(32 << 10);
        write(&disk, 0, &data).unwrap();
        slow.seen();
        write_zeroes(&disk, at as u64, len as u64).unwrap();
        let has_whole = at.next_multiple_of(4096) + 4096 <= at + len;
        let says_so = slow.seen().iter().any(|bio| bio.contains("WriteZeroes"));
        assert_eq!(says_so, has_whole, "{at}+{len}");
        let mut due = data;
        due[at..at + len].fill(0);
        assert!(read(&disk, 0, 32 << 10).unwrap() == due, "{at}+{len}");
    }
}

#[test]
fn what_a_device_does_not_take_is_refused_and_changes_nothing() {
    let world = World::new();
    let mut slow = Slow::over(world.create("d", "0 8192 linear disk 0"));
    let limits = &mut Arc::get_mut(&mut slow).unwrap().limits;
    (limits.max_discard_sectors, limits.max_write_zeroes_sectors) = (0, 0);
    let disk = world.disk(slow);
    let data = pattern(8192);
    write(&disk, 0, &data).unwrap();
    assert_eq!(discard(&disk, 0, 8192), Err(Errno::OPNOTSUPP));
    assert_eq!(write_zeroes(&disk, 512, 4096), Err(Errno::OPNOTSUPP));
    assert_eq!(read(&disk, 0, 8192).unwrap(), data);
}

#[test]
fn a_range_past_the_end_is_refused() {
    let world = World::new();
    let disk = world.disk_with("0 8192 linear disk 0");
    for (at, len) in [(4 * MIB - 512, 1024), (4 * MIB, 512), (u64::MAX - 511, 512)] {
        assert_eq!(discard(&disk, at, len), Err(Errno::NOSPC), "{at}+{len}");
        assert_eq!(write_zeroes(&disk, at, len), Err(Errno::NOSPC), "{at}+{len}");
    }
}

/// On a regular file a hole has to read as zeros, so that encryption refuses it there.
#[test]
fn a_discard_above_encryption_makes_a_hole_below() {
    for (options, expected) in [(" 1 allow_discards", Ok(())), ("", Err(Errno::OPNOTSUPP))] {
        let world = World::new();
        let below = world.create("below", "0 8192 linear disk 0");
        world.devices.add("below", below.clone());
        let table = format!("0 8192 crypt aes-cbc-plain {KEY} 0 below 0{options}");
        let disk = world.disk(world.create("above", &table));
        write(&disk, 0, &pattern(1 << 20)).unwrap();
        let is_hole = || matches!(below.run_at(Sector(0)), (Allocation::Hole, _));
        assert!(!is_hole());
        assert_eq!(discard(&disk, 0, 1 << 20), expected);
        assert_eq!(is_hole(), expected.is_ok(), "{table}");
    }
}
