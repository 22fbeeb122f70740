//! What `fallocate`, `lseek` to data and holes, and `copy_file_range` do on devices whose table has
//! lines of several kinds.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use backing::Memory;
use common::asked::{Slow, allocate, read, write};
use common::mounted::{Mounted, errno, mount};
use common::{MIB, World, pattern};
use fuse_frontend::Options;
use fuse_frontend::request::Disk;
use proptest::prelude::*;
use rustix::fs::{FallocateFlags, SeekFrom, copy_file_range, fallocate, seek};
use sim_core::{Allocation, BlockDevice, DevNumber, Errno, Sector, Sectors};

const KEY: &str = "00112233445566778899aabbccddeeff";

/// `fallocate`'s modes.
const RESERVE: u32 = 0;
const PUNCH: u32 = 0x3;
const ZERO: u32 = 0x10;

/// A line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Linear,
    /// Over a device with blocks of 4096 bytes.
    Linear4k,
    /// Its discards read as zeros.
    Snapshot,
    /// Its discards are taken by its origin, and read as anything.
    Silent,
    /// Passes discards on, below which zeros mean nothing.
    Crypt,
    Mirror,
    Zero,
}

impl Line {
    const ALL: [Line; 7] = [
        Line::Linear,
        Line::Linear4k,
        Line::Snapshot,
        Line::Silent,
        Line::Crypt,
        Line::Mirror,
        Line::Zero,
    ];

    fn has_holes(self) -> bool {
        match self {
            Line::Linear | Line::Linear4k | Line::Snapshot | Line::Zero => true,
            Line::Silent | Line::Crypt | Line::Mirror => false,
        }
    }

    fn has_room(self) -> bool {
        match self {
            Line::Linear | Line::Linear4k | Line::Crypt | Line::Mirror => true,
            Line::Snapshot | Line::Silent | Line::Zero => false,
        }
    }

    /// Returns its words, on devices of its own that are called by its place.
    fn words(self, place: usize) -> String {
        let (a, b) = (format!("a{place}"), format!("b{place}"));
        match self {
            Line::Linear | Line::Linear4k => format!("linear {a} 0"),
            Line::Snapshot => format!("snapshot {a} {b} N 8 1 discard_zeroes_cow"),
            Line::Silent => format!("snapshot {a} {b} N 8"),
            Line::Crypt => format!("crypt aes-cbc-plain {KEY} 0 {a} 0 1 allow_discards"),
            Line::Mirror => format!("mirror core 1 8 2 {a} 0 {b} 0"),
            Line::Zero => "zero".to_owned(),
        }
    }
}

/// A device, with what it holds.
struct Model {
    lines: Vec<Line>,
    /// In bytes; all lines are as long.
    each: u64,
    bytes: Vec<u8>,
}

impl Model {
    fn new(lines: &[Line], sectors: u64, world: &World) -> (Model, Arc<Disk>) {
        let mut table = String::new();
        for (place, line) in lines.iter().enumerate() {
            // A snapshot's sectors are those of the whole table, as with the kernel.
            let block = if *line == Line::Linear4k { 4096 } else { 512 };
            for (half, name) in ["a", "b"].into_iter().enumerate() {
                let number = DevNumber { major: 8, minor: (2 * place + half) as u32 };
                let name = format!("{name}{place}");
                let memory = Memory::new(number, &name, Sectors(sectors * 8), block);
                world.devices.add(&name, memory);
            }
            let start = place as u64 * sectors;
            table += &format!("{start} {sectors} {}\n", line.words(place));
        }
        let disk = world.disk_with(&table);
        let bytes = vec![0; lines.len() * (sectors * 512) as usize];
        let mut model = Model { lines: lines.to_vec(), each: sectors * 512, bytes };
        let data = pattern(model.bytes.len());
        assert_eq!(write(&disk, 0, &data), Ok(data.len() as u32));
        model.put(0..data.len(), |at| data[at]);
        (model, disk)
    }

    /// Changes bytes where they are kept.
    fn put(&mut self, range: Range<usize>, byte: impl Fn(usize) -> u8) {
        for at in range {
            if self.lines[at / self.each as usize] != Line::Zero {
                self.bytes[at] = byte(at);
            }
        }
    }

    fn touched(&self, range: &Range<usize>) -> impl Iterator<Item = Line> {
        let each = self.each as usize;
        self.lines[range.start / each..range.end.div_ceil(each)].iter().copied()
    }

    /// What a `fallocate` within the device answers, and makes of the bytes.
    fn allocate(&mut self, mode: u32, range: Range<usize>) -> Result<(), Errno> {
        let can = match mode {
            RESERVE => self.touched(&range).all(Line::has_room),
            // The promise is the whole device's.
            PUNCH => self.lines.iter().all(|line| line.has_holes()),
            _ => true,
        };
        match (can, mode) {
            (false, _) => return Err(Errno::OPNOTSUPP),
            (true, RESERVE) => {}
            (true, _) => self.put(range, |_| 0),
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64),
    Allocate(u32, u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    // As parts of the device, of 65,536.
    let place = 0..65_536_u64;
    prop_oneof![
        (place.clone(), 1..20_000_u64).prop_map(|(at, len)| Step::Write(at, len)),
        (prop::sample::select(vec![RESERVE, PUNCH, ZERO]), place, 1..300_000_u64)
            .prop_map(|(mode, at, len)| Step::Allocate(mode, at, len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn zeros_are_made_whole_or_refused_whole(
        lines in prop::collection::vec(prop::sample::select(Line::ALL.to_vec()), 1..5),
        sectors in (1..33_u64).prop_map(|blocks| blocks * 8),
        steps in prop::collection::vec(step(), 1..8),
    ) {
        let world = World::new();
        let (mut model, disk) = Model::new(&lines, sectors, &world);
        let size = model.bytes.len() as u64;
        for step in steps {
            let (Step::Write(at, len) | Step::Allocate(_, at, len)) = step;
            let at = at * size / 65_536;
            let len = len.min(size - at);
            let range = at as usize..(at + len) as usize;
            match step {
                Step::Write(..) => {
                    let data = vec![at as u8 | 1; len as usize];
                    prop_assert_eq!(write(&disk, at, &data), Ok(len as u32));
                    model.put(range, |_| at as u8 | 1);
                }
                Step::Allocate(mode, ..) => {
                    let answer = allocate(&disk, mode, at, len);
                    prop_assert_eq!(answer, model.allocate(mode, range), "{:?}", step);
                }
            }
            let found = read(&disk, 0, model.bytes.len()).unwrap();
            let bytes = found.iter().zip(&model.bytes).enumerate();
            let wrong = bytes.filter(|(_, (is, due))| is != due).take(3).collect::<Vec<_>>();
            prop_assert_eq!(wrong, [], "{:?}", step);
        }
    }
}

/// The limits of a device are those that were below it when it was resumed.
#[test]
fn a_hole_is_zeroed_where_a_part_of_the_range_takes_no_discards_any_more() {
    let world = World::new();
    let mut stubborn = Slow::over(world.create("s", "0 2048 linear disk 8192"));
    Arc::get_mut(&mut stubborn).unwrap().limits.max_discard_sectors = 0;
    world.devices.add("stubborn", stubborn);
    let below = world.create("below", "0 4096 linear disk 0");
    world.devices.add("below", below);
    let disk = world.disk(world.create("d", "0 4096 linear below 0"));
    world.reload("below", "0 2048 linear disk 0\n2048 2048 linear stubborn 0");
    let mut model = pattern(2 * MIB as usize);
    write(&disk, 0, &model).unwrap();
    assert_eq!(allocate(&disk, PUNCH, 1000, 2 * MIB - 2000), Ok(()));
    model[1000..2 * MIB as usize - 1000].fill(0);
    assert!(read(&disk, 0, model.len()).unwrap() == model);
}

#[test]
fn room_is_taken_on_every_leg_and_below_encryption() {
    let world = World::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| {
        let minor = u32::from(name.as_bytes()[0]);
        let memory = Memory::new(DevNumber { major: 8, minor }, name, Sectors(4096), 512);
        world.devices.add(name, memory.clone());
        memory
    });
    let holes = |device: &Memory| {
        let runs = (0..4096).step_by(128).map(|at| device.run_at(Sector(at)).0);
        runs.filter(|run| *run == Allocation::Hole).count()
    };
    let mirror = world.disk(world.create("m", "0 2048 mirror core 2 1024 nosync 2 a 1024 b 0"));
    let crypt = format!("0 2048 crypt aes-cbc-plain {KEY} 0 c 2048");
    let crypt = world.disk(world.create("c", &crypt));
    assert_eq!([holes(&a), holes(&b), holes(&c)], [32; 3]);
    // 4 chunks of 64 KiB each.
    assert_eq!(allocate(&mirror, RESERVE, 65_536, 4 * 65_536), Ok(()));
    assert_eq!(allocate(&crypt, RESERVE, 65_536, 4 * 65_536), Ok(()));
    assert_eq!([holes(&a), holes(&b), holes(&c)], [28; 3]);
    assert!(read(&mirror, 0, MIB as usize).unwrap().iter().all(|byte| *byte == 0));
}

/// A mount with a device of two halves with a pattern on it, and another device.
fn mixed(cache: bool) -> Option<(Mounted, Vec<u8>)> {
    let mounted = mount(&Options { cache, ..Options::default() })?;
    mounted.world.create("d", "0 2048 linear disk 0\n2048 2048 linear disk4k 0");
    mounted.world.create("e", "0 4096 linear disk 8192");
    let model = pattern(2 * MIB as usize);
    mounted.open("d").write_all_at(&model, 0).unwrap();
    Some((mounted, model))
}

#[test]
fn a_walk_of_data_and_holes_passes_all_data() {
    for cache in [false, true] {
        let Some((mounted, model)) = mixed(cache) else { return };
        let file = mounted.open("d");
        let holes = [0..131_072, 500_000..700_001, 1_048_000..1_300_000, 2_000_000..2_097_152];
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for hole in &holes {
            fallocate(&file, flags, hole.start, hole.end - hole.start).unwrap();
        }
        let (mut at, mut data, size) = (0, Vec::new(), model.len() as u64);
        while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
            let end = seek(&file, SeekFrom::Hole(start)).unwrap();
            assert!(at <= start && start < end && end <= size, "{start}..{end} after {at}");
            data.push(start..end);
            at = end;
        }
        assert_eq!(seek(&file, SeekFrom::Data(at)), Err(rustix::io::Errno::NXIO));
        // All that is no hole is passed, and what is passed over reads as zeros.
        let passed = |at: u64| data.iter().any(|run| run.contains(&at));
        let mut found = vec![0; model.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        for (at, byte) in found.iter().enumerate() {
            let is_hole = holes.iter().any(|hole| hole.contains(&(at as u64)));
            assert_eq!(*byte, if is_hole { 0 } else { model[at] }, "byte {at}");
        }
        let lost = (0..size).find(|at| found[*at as usize] != 0 && !passed(*at));
        assert_eq!(lost, None);
        let skipped = size - data.iter().map(|run| run.end - run.start).sum::<u64>();
        assert!(skipped > 200_000, "{skipped} bytes of holes are told");
    }
}

#[test]
fn ranges_are_copied_from_one_devices_file_to_anothers_and_from_nowhere_else() {
    for cache in [false, true] {
        let Some((mounted, mut model)) = mixed(cache) else { return };
        let (from, file) = (mounted.open("d"), mounted.open("e"));
        let plain = tempfile::tempfile().unwrap();
        plain.set_len(MIB).unwrap();
        let refused = Err(rustix::io::Errno::XDEV);
        assert_eq!(copy_file_range(&plain, Some(&mut 0), &file, Some(&mut 0), 4096), refused);
        assert_eq!(copy_file_range(&file, Some(&mut 0), &plain, Some(&mut 0), 4096), refused);
        // Into a gap behind a virtual end too.
        file.write_all_at(&model, 0).unwrap();
        file.set_len(5000).unwrap();
        let (mut read_at, mut write_at) = (70_000, 200_001);
        while read_at < 100_000 {
            let len = (100_000 - read_at) as usize;
            let copied =
                copy_file_range(&from, Some(&mut read_at), &file, Some(&mut write_at), len);
            assert_ne!(copied, Ok(0));
            copied.unwrap();
        }
        let copied = model[70_000..100_000].to_vec();
        model[5000..200_001].fill(0);
        model[200_001..230_001].copy_from_slice(&copied);
        mounted.frontend.settled();
        let mut found = vec![0; model.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == model, "with a cache: {cache}");
        // Past the end, as a write.
        let past = copy_file_range(&from, Some(&mut 0), &file, Some(&mut (2 * MIB)), 4096);
        assert_eq!(errno(past.map_err(Into::into)), Err(Errno::NOSPC));
    }
}
