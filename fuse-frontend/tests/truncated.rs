//! Open files that were truncated: where they end, and what becomes of the bytes that their writes
//! leave out.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use common::asked::{allocate, ask, end, read, slow, write};
use common::mounted::{Mounted, direct, errno, mount};
use common::{MIB, World, pattern};
use fuse_frontend::Options;
use fuse_frontend::request::{Disk, Durability, End};
use rustix::fs::{FallocateFlags, fallocate};
use sim_core::{Access, Errno};

const O_DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;

fn truncate(disk: &Arc<Disk>, cut: &Arc<End>, size: u64) -> Result<u32, Errno> {
    end(ask(|reply| disk.truncate(cut, size, true, || 7, reply)))
}

fn write_to(disk: &Arc<Disk>, cut: &Arc<End>, at: u64, data: &[u8]) -> Result<u32, Errno> {
    end(ask(|reply| disk.write_to(cut, at, data, Durability::AtFlush, reply)))
}

fn allocate_to(disk: &Arc<Disk>, cut: &Arc<End>, mode: u32, at: u64, len: u64) -> Option<Errno> {
    end(ask(|reply| disk.allocate_to(cut, mode, at, len, reply))).err()
}

/// A device of 1 MiB with a pattern on it, and an open file of it.
fn filled(table: &str) -> (World, Arc<Disk>, Arc<End>, Vec<u8>) {
    let world = World::new();
    let disk = world.disk_with(table);
    let model = pattern(MIB as usize);
    write(&disk, 0, &model).unwrap();
    (world, disk, Arc::default(), model)
}

#[test]
fn a_gap_reads_as_zeros_to_the_byte_and_nothing_else_changes() {
    const KEY: &str = "00112233445566778899aabbccddeeff";
    let crypt = format!("0 2048 crypt aes-cbc-plain {KEY} 0 disk 0");
    for table in ["0 2048 linear disk 0", "0 2048 linear disk4k 0", &crypt] {
        let (_world, disk, cut, mut model) = filled(table);
        assert_eq!(truncate(&disk, &cut, 0), Ok(7));
        for (at, len) in [(700, 3), (5000, 5000), (70_000, 1), (200_000, 4096), (100, 50)] {
            let before = cut.get().unwrap() as usize;
            assert_eq!(write_to(&disk, &cut, at as u64, &vec![0xee; len]), Ok(len as u32));
            if before < at {
                model[before..at].fill(0);
            }
            model[at..at + len].fill(0xee);
            assert!(read(&disk, 0, model.len()).unwrap() == model, "{table}: {len} at {at}");
        }
        assert_eq!(cut.get(), Some(204_096), "a write before the end moves it nowhere");
        assert_eq!(truncate(&disk, &cut, 300_001), Ok(7));
        model[204_096..300_001].fill(0);
        assert!(read(&disk, 0, model.len()).unwrap() == model, "{table}");
    }
}

#[test]
fn a_file_that_was_not_truncated_has_no_gap() {
    let (_world, disk, cut, mut model) = filled("0 2048 linear disk 0");
    assert_eq!(write_to(&disk, &cut, 9000, &[1; 10]), Ok(10));
    assert_eq!(truncate(&disk, &cut, MIB), Ok(7));
    assert_eq!(cut.get(), None, "it is as long as that");
    assert_eq!(write_to(&disk, &cut, 19_000, &[1; 10]), Ok(10));
    model[9000..9010].fill(1);
    model[19_000..19_010].fill(1);
    assert!(read(&disk, 0, model.len()).unwrap() == model);
}

#[test]
fn what_lies_behind_the_last_end_stays() {
    let (_world, disk, cut, model) = filled("0 2048 linear disk 0");
    for size in [0, 500_000, 1000] {
        // Shorter, longer, shorter: the way up is zeroed.
        assert_eq!(truncate(&disk, &cut, size), Ok(7));
    }
    let found = read(&disk, 0, model.len()).unwrap();
    assert!(found[..500_000].iter().all(|byte| *byte == 0));
    assert!(found[500_000..] == model[500_000..]);
}

#[test]
fn there_is_nothing_past_the_end_of_the_device() {
    let (_world, disk, cut, model) = filled("0 2048 linear disk 0");
    assert_eq!(truncate(&disk, &cut, MIB + 1), Err(Errno::FBIG));
    assert_eq!(truncate(&disk, &cut, 0), Ok(7));
    assert_eq!(write_to(&disk, &cut, MIB, &[1]), Err(Errno::NOSPC));
    assert_eq!(truncate(&disk, &cut, u64::MAX), Err(Errno::FBIG));
    assert_eq!(cut.get(), Some(0), "what is refused moves nothing");
    assert!(read(&disk, 0, model.len()).unwrap() == model);
    assert_eq!(write_to(&disk, &cut, MIB - 1, &[1; 10]), Ok(1));
    assert_eq!(cut.get(), Some(MIB));
}

#[test]
fn an_allocation_makes_the_file_longer_where_it_would() {
    let (_world, disk, cut, mut model) = filled("0 2048 linear disk 0");
    assert_eq!(truncate(&disk, &cut, 1000), Ok(7));
    // KEEP_SIZE, and holes.
    assert_eq!(allocate_to(&disk, &cut, 0x1, 0, 5000), None);
    assert_eq!(cut.get(), Some(1000));
    assert_eq!(allocate_to(&disk, &cut, 0, 2000, 3000), None);
    model[1000..5000].fill(0);
    assert_eq!(cut.get(), Some(5000));
    assert!(read(&disk, 0, model.len()).unwrap() == model);
    assert_eq!(allocate_to(&disk, &cut, 0x10, 9000, 1000), None);
    model[5000..10_000].fill(0);
    assert_eq!(cut.get(), Some(10_000));
    assert!(read(&disk, 0, model.len()).unwrap() == model);
    assert_eq!(allocate(&disk, 0, 0, MIB), Ok(()));
    assert_eq!(cut.get(), Some(10_000), "another open file");
}

#[test]
fn room_is_taken_where_it_is_known_what_a_write_needs_and_refused_elsewhere() {
    let world = World::new();
    world.create("lower", "0 4096 linear disk 2048");
    let stacked = world.control.find_shown("lower").unwrap().device;
    world.devices.add("lower", stacked);
    let cases = [
        ("0 1024 linear disk 0", Ok(())),
        ("0 1024 striped 2 8 disk 0 disk4k 0", Ok(())),
        ("0 1024 linear lower 0", Ok(())),
        ("0 1024 zero", Err(Errno::OPNOTSUPP)),
        ("0 512 linear disk 0\n512 512 error", Err(Errno::OPNOTSUPP)),
        ("0 1024 mirror core 1 1024 2 disk 0 disk4k 0", Ok(())),
        ("0 1024 crypt aes-cbc-plain 00112233445566778899aabbccddeeff 0 disk 0", Ok(())),
        ("0 1024 snapshot disk disk4k N 8", Err(Errno::OPNOTSUPP)),
    ];
    for (number, (table, expected)) in cases.into_iter().enumerate() {
        let disk = world.disk(world.create(&format!("d{number}"), table));
        assert_eq!(allocate(&disk, 0, 100, 300_000), expected, "{table}");
        assert_eq!(allocate(&disk, 1, 100, 300_000), expected, "{table}");
        let cut = Arc::<End>::default();
        truncate(&disk, &cut, 0).unwrap();
        assert_eq!(allocate_to(&disk, &cut, 0, 100, 300_000), expected.err(), "{table}");
        assert_eq!(cut.get(), Some(if expected.is_ok() { 300_100 } else { 0 }), "{table}");
    }
}

#[test]
fn a_snapshot_that_promises_zeros_takes_holes() {
    for features in ["1 discard_zeroes_cow", "2 discard_zeroes_cow discard_passdown_origin"] {
        let world = World::new();
        let model = pattern(MIB as usize);
        write(&world.disk(world.create("origin", "0 2048 linear disk 0")), 0, &model).unwrap();
        let disk = world.disk_with(&format!("0 2048 snapshot disk disk4k N 8 {features}"));
        let mut model = model;
        write(&disk, 65_536, &[9; 4096]).unwrap();
        model[65_536..69_632].fill(9);
        // Over chunks with and without an exception, and parts of others.
        for (at, len) in [(60_001, 20_000), (200_704, 8192), (300_000, 100)] {
            assert_eq!(allocate(&disk, 3, at as u64, len as u64), Ok(()), "{features}");
            model[at..at + len].fill(0);
            assert!(read(&disk, 0, model.len()).unwrap() == model, "{features}: {len} at {at}");
        }
    }
}

#[test]
fn a_parallel_write_into_the_gap_wins() {
    let world = World::new();
    let (slow, disk) = slow(&world);
    write(&disk, 0, &pattern(MIB as usize)).unwrap();
    let cut = Arc::<End>::default();
    truncate(&disk, &cut, 0).unwrap();
    slow.gate.close();
    slow.seen();
    let far = ask(|reply| disk.write_to(&cut, 8192, &[8; 512], Durability::AtFlush, reply));
    let near = ask(|reply| disk.write(4096, &[4; 512], Durability::AtFlush, reply));
    let own = ask(|reply| disk.write_to(&cut, 2048, &[2; 512], Durability::AtFlush, reply));
    assert_eq!(slow.seen().len(), 1, "the zeros alone are under way");
    slow.gate.open();
    assert_eq!((end(far), end(near), end(own)), (Ok(512), Ok(512), Ok(512)));
    let found = read(&disk, 0, 9000).unwrap();
    let filled: Vec<u8> = found[..8704].chunks(512).map(|sector| sector[0]).collect();
    assert_eq!(filled, [0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8]);
}

#[test]
fn a_write_under_way_is_not_zeroed_by_one_behind_it() {
    let world = World::new();
    let (slow, disk) = slow(&world);
    write(&disk, 0, &pattern(MIB as usize)).unwrap();
    let cut = Arc::<End>::default();
    truncate(&disk, &cut, 0).unwrap();
    slow.gate.close();
    let first = ask(|reply| disk.write_to(&cut, 0, &[1; 4096], Durability::AtFlush, reply));
    let second = ask(|reply| disk.write_to(&cut, 8192, &[2; 512], Durability::AtFlush, reply));
    slow.gate.open();
    assert_eq!((end(first), end(second)), (Ok(4096), Ok(512)));
    let found = read(&disk, 0, 8704).unwrap();
    assert!(found[..4096] == [1; 4096] && found[4096..8192] == [0; 4096]);
    assert!(found[8192..] == [2; 512]);
}

#[test]
fn a_read_only_device_is_truncated_in_vain() {
    let world = World::new();
    let disk = world.disk(world.create_as("d", "0 8 linear disk 0", Access::ReadOnly));
    let cut = Arc::default();
    assert_eq!(truncate(&disk, &cut, 0), Ok(7));
    assert_eq!(truncate(&disk, &cut, 512), Err(Errno::PERM));
    assert_eq!(write_to(&disk, &cut, 512, &[1; 512]), Err(Errno::PERM));
}

/// A mount with one device of 1 MiB that has a pattern on it.
fn mounted(cache: bool) -> Option<(Mounted, Vec<u8>)> {
    let mounted = mount(&Options { cache, ..Options::default() })?;
    mounted.world.create("d", "0 2048 linear disk 0");
    let model = pattern(MIB as usize);
    mounted.open("d").write_all_at(&model, 0).unwrap();
    Some((mounted, model))
}

fn content(mounted: &Mounted) -> Vec<u8> {
    mounted.frontend.settled();
    let mut bytes = vec![0; MIB as usize];
    mounted.open("d").read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn an_open_that_truncates_is_meant_and_no_other() {
    for cache in [false, true] {
        let Some((mounted, mut model)) = mounted(cache) else { return };
        // As fresh as can be: of the same thread, never used.
        let others: Vec<File> = (0..3).map(|_| mounted.open("d")).collect();
        let mut cut = File::create(mounted.path("d")).unwrap();
        let late = mounted.open("d");
        for (number, other) in others.iter().chain([&late]).enumerate() {
            let at = 10_000 + 1000 * number;
            other.write_all_at(&[1; 100], at as u64).unwrap();
            model[at..at + 100].fill(1);
        }
        assert!(content(&mounted) == model, "with a cache: {cache}: no gap was made");
        cut.write_all(b"begin").unwrap();
        cut.write_all_at(b"end", 50_000).unwrap();
        model[..5].copy_from_slice(b"begin");
        model[5..50_000].fill(0);
        model[50_000..50_003].copy_from_slice(b"end");
        assert!(content(&mounted) == model, "with a cache: {cache}");
    }
}

#[test]
fn a_truncation_by_name_is_refused_unless_it_is_an_opens() {
    let Some((mounted, model)) = mounted(false) else { return };
    let path = mounted.path("d");
    let by_name = |len: u64| {
        let truncate = format!("import os; os.truncate('{}', {len})", path.display());
        std::process::Command::new("python3").args(["-c", &truncate]).output()
    };
    let used = mounted.open("d");
    used.read_at(&mut [0; 512], 0).unwrap();
    let Ok(output) = by_name(0) else { return println!("skipped: python3 is not installed") };
    assert!(String::from_utf8_lossy(&output.stderr).contains("Invalid argument"));
    assert!(by_name(MIB).unwrap().status.success(), "it is as long as that");
    used.write_all_at(&[1; 512], 512 * 1024).unwrap();
    assert!(content(&mounted)[..512 * 1024] == model[..512 * 1024]);
}

#[test]
fn a_file_that_was_truncated_reads_as_before_and_the_end_goes_with_it() {
    let Some((mounted, mut model)) = mounted(false) else { return };
    let open = || OpenOptions::new().read(true).write(true).truncate(true).open(mounted.path("d"));
    let mut bytes = Vec::new();
    open().unwrap().read_to_end(&mut bytes).unwrap();
    assert!(bytes == model);
    drop(open().unwrap());
    mounted.open("d").write_all_at(&[1; 10], 5000).unwrap();
    model[5000..5010].fill(1);
    assert!(content(&mounted) == model);
}

#[test]
fn a_shared_mapping_never_meets_the_end() {
    let Some((mounted, mut model)) = mounted(false) else { return };
    let script = "import mmap, os, sys
f = os.open(sys.argv[1], os.O_RDWR | os.O_TRUNC)
m = mmap.mmap(f, 1 << 20)
m[40960:40970] = b'0123456789'
m.flush()
m.close()";
    let mut python = std::process::Command::new("python3");
    let run = python.args(["-c", script]).arg(mounted.path("d"));
    let Ok(output) = run.output() else { return println!("skipped: python3 is not installed") };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    model[40_960..40_970].copy_from_slice(b"0123456789");
    assert!(content(&mounted) == model);
}

#[test]
fn ftruncate_and_fallocate_move_the_end_of_a_mounts_file() {
    for cache in [false, true] {
        let Some((mounted, mut model)) = mounted(cache) else { return };
        // The kernel has pages of what is going to be a gap.
        content(&mounted);
        let file = mounted.open("d");
        assert_eq!(errno(file.set_len(MIB + 1)), Err(Errno::FBIG));
        file.set_len(0).unwrap();
        assert_eq!(file.metadata().unwrap().len(), MIB);
        file.set_len(100_000).unwrap();
        model[..100_000].fill(0);
        assert!(content(&mounted) == model, "with a cache: {cache}");
        fallocate(&file, FallocateFlags::empty(), 150_000, 50_000).unwrap();
        model[100_000..200_000].fill(0);
        assert!(content(&mounted) == model, "with a cache: {cache}");
        file.write_all_at(&[9; 10], 300_000).unwrap();
        model[200_000..300_000].fill(0);
        model[300_000..300_010].fill(9);
        assert!(content(&mounted) == model, "with a cache: {cache}");
    }
}

#[test]
fn direct_io_is_in_whole_sectors() {
    let Some(mounted) = direct() else { return };
    mounted.world.create("d", "0 9 linear disk 0");
    let open = |flags| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags).open(mounted.path("d")).unwrap()
    };
    let file = open(O_DIRECT);
    for (at, len) in [(0, 100), (100, 512), (1, 1), (512, 513)] {
        assert_eq!(errno(file.write_at(&vec![1; len], at)), Err(Errno::INVAL), "{len} at {at}");
        assert_eq!(errno(file.read_at(&mut vec![1; len], at)), Err(Errno::INVAL), "{len} at {at}");
    }
    assert_eq!(errno(file.write_at(&[1; 1024], 512)), Ok(1024));
    // What lies past the end is cut off first.
    assert_eq!(errno(file.read_at(&mut [1; 1000], 4096)), Ok(512));
    assert_eq!(errno(file.read_at(&mut [1; 1000], 4608)), Ok(0));
    assert_eq!(errno(file.write_at(&[1; 1000], 4608)), Err(Errno::NOSPC));
    assert_eq!(errno(open(0).write_at(&[1; 3], 5)), Ok(3));
    // As it is at the moment.
    let plain = rustix::fs::fcntl_getfl(&file).unwrap() - rustix::fs::OFlags::DIRECT;
    rustix::fs::fcntl_setfl(&file, plain).unwrap();
    assert_eq!(errno(file.write_at(&[1; 3], 5)), Ok(3));
}

/// Runs a script with the path of `d`; what it says where it fails.
fn python(mounted: &Mounted, script: &str) -> Option<String> {
    let mut python = std::process::Command::new("python3");
    let Ok(output) = python.args(["-c", script]).arg(mounted.path("d")).output() else {
        println!("skipped: python3 is not installed");
        return None;
    };
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn pages_that_others_have_of_a_gap_are_dropped_with_it() {
    for cache in [false, true] {
        let Some((mounted, _)) = mounted(cache) else { return };
        let script = "import mmap, os, sys, time
f = os.open(sys.argv[1], os.O_RDWR)
q = os.open(sys.argv[1], os.O_WRONLY)
os.ftruncate(q, 0)
m = mmap.mmap(f, 1 << 20)
m[40960]
def sent():
    a = os.memfd_create('x'); os.sendfile(a, f, 0, 8192); b = os.pread(a, 8192, 0); os.close(a)
    return b
sent()
os.pwrite(q, b'N' * 4096, 1 << 19)
os.fsync(q)
assert sent() == bytes(8192), 'sendfile has old bytes'
assert m[40960:45056] == bytes(4096), 'a mapping has old bytes'
m[40960] = 83
m.flush()
assert os.pread(f, 4096, 40960) == b'S' + bytes(4095), 'a mapping has brought old bytes back'";
        let Some(told) = python(&mounted, script) else { return };
        assert!(told.is_empty(), "with a cache: {cache}: {told}");
    }
}

#[test]
fn truncate_by_name_never_belongs_to_a_file_that_did_not_ask_for_it() {
    let Some((mounted, model)) = mounted(false) else { return };
    for open in [
        "os.open(p, os.O_RDWR); q = os.open(p, os.O_RDONLY); n = 0",
        "os.open(p, os.O_RDONLY); n = 200000",
        "os.open(p, os.O_RDWR); n = 1000",
        "os.open(p, os.O_WRONLY | os.O_TRUNC); n = 200000",
        "os.open(p, os.O_WRONLY | os.O_TRUNC); n = 0",
    ] {
        let script = format!("import os, sys\np = sys.argv[1]\nf = {open}\nos.truncate(p, n)");
        let Some(told) = python(&mounted, &script) else { return };
        assert!(told.contains("Invalid argument"), "{open}: {told}");
    }
    assert!(content(&mounted) == model);
}

#[test]
fn what_is_appended_to_a_device_that_has_grown_goes_nowhere() {
    let Some(mounted) = direct() else { return };
    mounted.world.create("d", "0 8 linear disk 0");
    let path = mounted.path("d");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 4096);
    mounted.world.reload("d", "0 16 linear disk 0");
    let refused = file.write(&[7; 512]).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::NOSPC.0));
    assert!(!std::fs::read(path).unwrap().contains(&7));
}
