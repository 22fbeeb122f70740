//! Requests on a device, in process: what is read, written, refused and waited for.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use common::asked::{Channel, Slow, allocate, ask, end, read, slow, write};
use common::{M, MIB, World, pattern};
use fuse_frontend::request::{Durability, MAX_SIZE, Seek};
use sim_core::control::WhenOpen;
use sim_core::{Access, Errno};

const PUNCH: u32 = 3;
const ZERO: u32 = 0x10;
const ZERO_KEEP: u32 = 0x11;

#[test]
fn what_is_written_anywhere_is_read_back_and_nothing_else_changes() {
    for backing in ["disk", "disk4k"] {
        let world = World::new();
        let disk = world.disk_with(&format!("0 2048 linear {backing} 8"));
        let mut model = pattern(MIB as usize);
        write(&disk, 0, &model).unwrap();
        let places = [(0, 1), (1, 1), (511, 2), (100, 5000), (4095, 2), (512, 512), (1536, 4096)];
        let tail = MIB as usize;
        let at_the_end = [(tail - 1, 1), (tail - 513, 513), (tail - 9000, 8999)];
        for (round, (at, len)) in places.into_iter().chain(at_the_end).enumerate() {
            let data = vec![0xe0 + round as u8; len];
            assert_eq!(write(&disk, at as u64, &data), Ok(len as u32));
            model[at..at + len].copy_from_slice(&data);
            assert!(read(&disk, 0, model.len()).unwrap() == model, "{len} bytes at {at}");
            assert_eq!(read(&disk, at as u64, len).unwrap(), data);
        }
    }
}

#[test]
fn a_read_past_the_end_is_short_and_a_write_gives_what_fits_or_no_space() {
    let world = World::new();
    let disk = world.disk_with("0 8 linear disk 0");
    assert_eq!(disk.size(), 4096);
    assert_eq!(read(&disk, 4000, 1000).unwrap().len(), 96);
    assert_eq!(read(&disk, 4096, 1).unwrap(), []);
    assert_eq!(read(&disk, u64::MAX, usize::MAX).unwrap(), []);
    assert_eq!(write(&disk, 3584, &[7; 1024]), Ok(512));
    assert_eq!(write(&disk, 4000, &[7; 1024]), Ok(96));
    assert_eq!(write(&disk, 4096, &[7; 1]), Err(Errno::NOSPC));
    assert_eq!(write(&disk, u64::MAX, &[7; 512]), Err(Errno::NOSPC));
}

#[test]
fn a_read_only_device_reads_and_refuses_every_change() {
    let world = World::new();
    let disk = world.disk(world.create_as("d", "0 8 linear disk 0", Access::ReadOnly));
    assert_eq!(read(&disk, 0, 4096).unwrap().len(), 4096);
    assert_eq!(write(&disk, 0, &[1; 512]), Err(Errno::PERM));
    assert_eq!(write(&disk, 9999, &[1; 512]), Err(Errno::PERM));
    assert_eq!(allocate(&disk, PUNCH, 0, 512), Err(Errno::PERM));
}

#[test]
fn a_removed_device_is_gone_and_not_empty() {
    let world = World::new();
    let disk = world.disk_with("0 8 linear disk 0");
    world.remove("d", WhenOpen::Refuse).unwrap();
    assert_eq!(read(&disk, 0, 512), Err(Errno::NODEV));
    assert_eq!(write(&disk, 0, &[1; 512]), Err(Errno::NODEV));
    assert_eq!(disk.seek(0, Seek::Data), Err(Errno::NODEV));
    assert_eq!(allocate(&disk, ZERO, 0, 512), Err(Errno::NODEV));
    assert_eq!(end(ask(|reply| disk.flush(reply))), Err(Errno::NODEV));
}

#[test]
fn a_suspended_device_holds_its_requests_and_their_own_data() {
    let world = World::new();
    let disk = world.disk_with("0 2048 linear disk 0");
    world.suspend("d");
    let mut data = pattern(4096);
    let written = ask(|reply| disk.write(0, &data, Durability::AtFlush, reply));
    data.fill(0);
    let unaligned = ask(|reply| disk.write(5000, &[9; 3], Durability::AtFlush, reply));
    let read_late = ask(|reply: Channel<Vec<u8>>| disk.read(8192, 100, reply));
    let flushed = ask(|reply| disk.flush(reply));
    let long = Duration::from_millis(50);
    assert_eq!(written.recv_timeout(long), Err(RecvTimeoutError::Timeout));
    world.resume("d");
    assert_eq!(end(written), Ok(4096));
    assert_eq!(end(unaligned), Ok(3));
    assert_eq!(end(read_late).map(|data| data.len()), Ok(100));
    assert_eq!(end(flushed), Ok(()));
    assert_eq!(read(&disk, 0, 4096).unwrap(), pattern(4096));
    assert_eq!(read(&disk, 4999, 5).unwrap(), [0, 9, 9, 9, 0]);
}

#[test]
fn what_a_suspended_device_holds_can_be_failed() {
    let world = World::new();
    let device = world.create("d", "0 2048 linear disk 0");
    let disk = world.disk(device.clone());
    world.suspend("d");
    let aligned = ask(|reply| disk.write(0, &[1; 512], Durability::AtFlush, reply));
    let unaligned = ask(|reply| disk.write(700, &[1; 2], Durability::AtFlush, reply));
    device.fail_held();
    assert_eq!(end(aligned), Err(Errno::NODEV));
    assert_eq!(end(unaligned), Err(Errno::NODEV));
    assert!(disk.device().open(Access::ReadOnly).is_ok());
}

#[test]
fn two_writes_of_one_block_both_last() {
    let world = World::new();
    let (slow, disk) = slow(&world);
    slow.gate.close();
    let first = ask(|reply| disk.write(0, b"ab", Durability::AtFlush, reply));
    let second = ask(|reply| disk.write(2, b"cd", Durability::AtFlush, reply));
    assert_eq!(slow.seen(), ["Read 0+1"], "one change of a block at a time");
    slow.gate.open();
    assert_eq!((end(first), end(second)), (Ok(2), Ok(2)));
    assert_eq!(read(&disk, 0, 5).unwrap(), b"abcd\0");
}

#[test]
fn a_write_of_whole_blocks_is_not_undone_by_a_change_of_one_of_them() {
    let world = World::new();
    let (slow, disk) = slow(&world);
    slow.gate.close();
    // Reads block 0, to write it back later.
    let part = ask(|reply| disk.write(100, b"part", Durability::AtFlush, reply));
    let whole = ask(|reply| disk.write(0, &[b'w'; 512], Durability::AtFlush, reply));
    assert_eq!(slow.seen(), ["Read 0+1"]);
    slow.gate.open();
    assert_eq!((end(part), end(whole)), (Ok(4), Ok(512)));
    let block = read(&disk, 0, 512).unwrap();
    assert_eq!(&block[..100], &[b'w'; 100], "bytes that the partial write was not given");
    assert_eq!(&block[104..], &[b'w'; 408]);
}

#[test]
fn a_change_of_a_block_waits_for_writes_under_way() {
    let world = World::new();
    let (slow, disk) = slow(&world);
    slow.gate.close();
    let whole = ask(|reply| disk.write(0, &[b'w'; 512], Durability::AtFlush, reply));
    let part = ask(|reply| disk.write(100, b"part", Durability::AtFlush, reply));
    assert_eq!(slow.seen(), ["Write 0+1"]);
    slow.gate.open();
    assert_eq!((end(whole), end(part)), (Ok(512), Ok(4)));
    assert_eq!(&read(&disk, 99, 6).unwrap(), b"wpartw");
}

#[test]
fn only_blocks_that_are_filled_in_part_are_read_first() {
    let world = World::new();
    let (slow, disk) = slow(&world);
    let seen = |at, len| {
        slow.seen();
        write(&disk, at, &vec![1; len]).unwrap();
        slow.seen().join(", ")
    };
    assert_eq!(seen(0, 512), "Write 0+1");
    assert_eq!(seen(0, 600), "Read 1+1, Write 0+2");
    assert_eq!(seen(100, 412), "Read 0+1, Write 0+1");
    assert_eq!(seen(100, 512), "Read 0+1, Read 1+1, Write 0+2");
    assert_eq!(seen(500, 1036), "Read 0+1, Write 0+3");
    assert_eq!(seen(1, 1), "Read 0+1, Write 0+1");
}

#[test]
fn a_synchronous_write_is_durable_when_it_ends() {
    let world = World::new();
    let (slow, disk) = slow(&world);
    let at_once = |at, len| {
        end(ask(|reply| disk.write(at, &vec![1; len], Durability::AtOnce, reply))).unwrap();
        slow.seen().join(", ")
    };
    assert_eq!(at_once(0, 512), "Write 0+1 FUA");
    assert_eq!(at_once(1, 1), "Read 0+1, Write 0+1 FUA");
}

#[test]
fn errors_of_the_device_reach_the_client() {
    let world = World::new();
    let disk = world.disk_with("0 8 error\n8 8 linear disk 0");
    assert_eq!(read(&disk, 0, 512), Err(Errno::IO));
    assert_eq!(read(&disk, 4000, 200), Err(Errno::IO));
    assert_eq!(write(&disk, 10, &[1; 3]), Err(Errno::IO));
    assert_eq!(write(&disk, 4000, &[1; 200]), Err(Errno::IO));
    assert_eq!(read(&disk, 4096, 512).map(|data| data.len()), Ok(512));
}

#[test]
fn a_punched_hole_reads_as_zeros_to_the_byte() {
    for backing in ["disk", "disk4k"] {
        let world = World::new();
        let disk = world.disk_with(&format!("0 2048 linear {backing} 0"));
        for mode in [PUNCH, ZERO, ZERO_KEEP] {
            for (at, len) in [(0, 4096), (100, 50), (100, 20_000), (4096, 5000), (9, 4087)] {
                let mut model = pattern(40_000);
                write(&disk, 0, &model).unwrap();
                allocate(&disk, mode, at, len).unwrap();
                model[at as usize..(at + len) as usize].fill(0);
                assert!(read(&disk, 0, model.len()).unwrap() == model, "{mode}: {len} at {at}");
            }
        }
    }
}

#[test]
fn a_discard_that_does_nothing_still_leaves_zeros() {
    let world = World::new();
    let mut slow = Slow::over(world.create("d", "0 8192 linear disk 0"));
    Arc::get_mut(&mut slow).unwrap().limits.discard_granularity = 0;
    let disk = world.disk(slow.clone());
    write(&disk, 0, &pattern(10_000)).unwrap();
    allocate(&disk, PUNCH, 512, 4096).unwrap();
    let mut model = pattern(10_000);
    model[512..4608].fill(0);
    assert_eq!(read(&disk, 0, 10_000).unwrap(), model);
}

#[test]
fn a_device_without_write_zeroes_is_written_zeros() {
    let world = World::new();
    let mut slow = Slow::over(world.create("d", "0 8192 linear disk 0"));
    Arc::get_mut(&mut slow).unwrap().limits.max_write_zeroes_sectors = 0;
    let disk = world.disk(slow.clone());
    write(&disk, 0, &pattern(3 << 20)).unwrap();
    slow.seen();
    allocate(&disk, ZERO, 0, 5 << 19).unwrap();
    assert_eq!(slow.seen(), ["Write 0+2048", "Write 2048+2048", "Write 4096+1024"]);
    assert_eq!(read(&disk, 0, 5 << 19).unwrap(), vec![0; 5 << 19]);
}

#[test]
fn room_is_there_within_the_device_and_not_past_its_end() {
    let world = World::new();
    let disk = world.disk_with("0 8 linear disk 0");
    assert_eq!(allocate(&disk, 0, 0, 4096), Ok(()));
    assert_eq!(allocate(&disk, 0, 0, 4097), Err(Errno::NOSPC));
    assert_eq!(allocate(&disk, 1, 4096, 1), Err(Errno::NOSPC));
    assert_eq!(allocate(&disk, ZERO, 0, 4097), Err(Errno::NOSPC));
    assert_eq!(allocate(&disk, ZERO_KEEP, 0, 4097), Ok(()));
    assert_eq!(allocate(&disk, PUNCH, 4000, u64::MAX - 4000), Ok(()));
    assert_eq!(allocate(&disk, PUNCH, 1 << 40, 512), Ok(()));
    assert_eq!(allocate(&disk, PUNCH, u64::MAX, 512), Err(Errno::FBIG));
    for mode in [2, 8, 0x20, 0x40, 0x12, 0x13] {
        assert_eq!(allocate(&disk, mode, 0, 512), Err(Errno::OPNOTSUPP), "mode {mode:#x}");
    }
}

#[test]
fn a_hole_is_refused_where_the_device_cannot_discard() {
    let world = World::new();
    let disk = world.disk_with("0 8 error");
    let can = disk.device().limits().max_discard_sectors > 0;
    let punched = allocate(&disk, PUNCH, 0, 512);
    assert_eq!(punched, Err(if can { Errno::IO } else { Errno::OPNOTSUPP }));
}

#[test]
fn the_largest_device_of_zeros_is_zeroed_at_once_and_its_file_ends_before_2_to_the_63() {
    let world = World::new();
    let disk = world.disk_with(&format!("0 {} zero", MAX_SIZE / 512));
    assert_eq!(disk.size(), MAX_SIZE);
    assert_eq!(allocate(&disk, ZERO, 0, MAX_SIZE), Ok(()));
    assert_eq!(disk.seek(5, Seek::Data), Err(Errno::NXIO));
    assert_eq!(disk.seek(5, Seek::Hole), Ok(5));
    assert_eq!(read(&disk, MAX_SIZE - 1, 5).unwrap(), [0]);
}

#[test]
fn the_largest_device_of_errors_fails_at_its_first_chunk() {
    let world = World::new();
    let disk = world.disk_with(&format!("0 {} error", MAX_SIZE / 512));
    assert_eq!(allocate(&disk, ZERO, 0, MAX_SIZE), Err(Errno::IO));
}

#[test]
fn data_and_holes_are_found_where_they_are() {
    let world = World::new();
    let disk = world.disk_with("0 2048 linear disk 0\n2048 2048 zero");
    write(&disk, 128 << 10, &[1; 4096]).unwrap();
    assert_eq!(disk.seek(0, Seek::Hole), Ok(0));
    assert_eq!(disk.seek(0, Seek::Data), Ok(128 << 10));
    assert_eq!(disk.seek((128 << 10) + 7, Seek::Data), Ok((128 << 10) + 7));
    assert_eq!(disk.seek(128 << 10, Seek::Hole), Ok(192 << 10));
    assert_eq!(disk.seek(192 << 10, Seek::Data), Err(Errno::NXIO));
    assert_eq!(disk.seek(2 * MIB, Seek::Hole), Err(Errno::NXIO));
    assert_eq!(disk.seek(2 * MIB, Seek::Data), Err(Errno::NXIO));
}

#[test]
fn a_device_without_a_table_is_empty() {
    let world = World::new();
    let create =
        sim_core::control::Command::DevCreate { name: "d".to_owned(), uuid: None, minor: None };
    world.run(create).unwrap();
    world.load("d", "0 8 linear disk 0", Access::ReadWrite);
    let disk = world.disk(world.control.find_shown("d").unwrap().device);
    assert_eq!(disk.size(), 0);
    assert_eq!(read(&disk, 0, 512).unwrap(), []);
    assert_eq!(write(&disk, 0, &[1; 512]), Err(Errno::NOSPC));
    assert_eq!(disk.seek(0, Seek::Data), Err(Errno::NXIO));
}

#[test]
fn eight_threads_with_ranges_of_their_own_find_every_byte_again() {
    let world = World::new();
    for (name, backing) in [("a", "disk"), ("b", "disk4k")] {
        let disk = world.disk(world.create(name, &format!("0 {} linear {backing} 0", 8 * M)));
        std::thread::scope(|scope| {
            for thread in 0..8u8 {
                let disk = &disk;
                // Ranges that share their first and last blocks with the neighbours'.
                scope.spawn(move || {
                    let (at, len) = (u64::from(thread) * 10_007, 10_007);
                    for round in 0..50u8 {
                        let data = vec![thread.wrapping_mul(31).wrapping_add(round); len];
                        assert_eq!(write(disk, at, &data), Ok(len as u32));
                        assert!(read(disk, at, len).unwrap() == data, "thread {thread}");
                    }
                });
            }
        });
    }
}
