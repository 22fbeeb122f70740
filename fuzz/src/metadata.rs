//! One fuzz target for the metadata of any target type.

use std::sync::Arc;

use sim_core::control::{Answer, Command, Report, Slot};
use sim_core::{Bio, BlockDevice, Errno, KeyText, Registry, Sector, Sectors};
use testkit::send;

use crate::bytes::Bytes;
use crate::disks::{World, id, lines};

/// The size of each disk.
const DISK: Sectors = Sectors(4096);

/// Sectors of a bio.
const STEP: u64 = 64;

/// The most that is read of a device: what a table promises may be without end.
const READ: u64 = 8192;

/// Makes a target over disks that hold whatever bytes are given, and uses it: reads everything,
/// writes some, discards, flushes, asks for its status, suspends, resumes and reads again. `table`
/// names the disks `a` to `d`, of 4096 sectors each; every one of them begins with `data`.
///
/// Returns whether the target took that content: [`Errno`] of the load or of the resume where it
/// did not. Bios and the second resume may fail as they like.
///
/// # Panics
/// When the target does, when something never ends, or when it cannot be suspended and removed:
/// that is what the fuzzer looks for.
pub fn metadata(registry: Registry, table: &str, data: &[u8]) -> Result<(), Errno> {
    let world = World::new(registry, 4, DISK, 512);
    fill(&world, data);
    world.create("fuzzed");
    let taken = world.load("fuzzed", lines(table)).and_then(|_| world.resume("fuzzed"));
    if taken.is_ok() {
        let device = world.control.device(&id("fuzzed")).expect("it was made above");
        read_all(&world, &device);
        write_some(&world, &device, data);
        report(&world);
        world.suspend("fuzzed");
        if world.resume("fuzzed").is_ok() {
            read_all(&world, &device);
            world.suspend("fuzzed");
        }
        assert_eq!(device.in_flight(), 0, "bios in flight though the device is suspended");
    }
    world.remove("fuzzed");
    taken.map(|_| ()).map_err(|failure| failure.errno)
}

/// [`metadata`] for the targets of this project: the first byte chooses the table.
pub fn metadata_of_ours(data: &[u8]) {
    const TABLES: [&str; 7] = [
        "0 4096 linear a 0",
        "0 4096 striped 2 64 a 0 b 0",
        "0 128 zero \n128 128 error \n256 256 linear a 8\n512 384 striped 3 128 b 0 c 8 d 16",
        "0 100000000000 zero ",
        "0 4096 snapshot a b P 0",
        "0 4000 snapshot a b PO 1 2 discard_zeroes_cow discard_passdown_origin",
        "0 4096 snapshot-merge a b P 8",
    ];
    let mut bytes = Bytes::new(data);
    let table = bytes.pick(&TABLES);
    match (metadata(targets::registry(), table, bytes.rest()), table.contains("snapshot")) {
        (Ok(()), _) | (Err(Errno::INVAL | Errno::NXIO | Errno::IO), true) => {}
        (Err(errno), true) => panic!("{table}: a store is never refused with {errno:?}"),
        (Err(errno), false) => {
            panic!("{table}: a target without metadata takes any content, not {errno:?}")
        }
    }
}

fn fill(world: &World, data: &[u8]) {
    let room = usize::try_from(DISK.bytes()).expect("a disk in memory");
    let mut content = data[..data.len().min(room)].to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    if content.is_empty() {
        return;
    }
    for disk in &world.disks {
        let written = world.sim.block_on(disk.submit(Bio::write(Sector(0), &content)));
        assert_eq!(written, Ok(()), "memory takes everything");
    }
}

fn read_all(world: &World, device: &Arc<sim_core::MappedDevice>) {
    let size = device.size().0;
    let mut buffer = vec![0; Sectors(STEP).bytes() as usize];
    for at in (0..size.min(READ)).step_by(STEP as usize) {
        let len = Sectors(STEP.min(size - at)).bytes() as usize;
        // It may fail: what must not happen is a panic, or no answer.
        let _ = world.sim.block_on(send(device.clone(), Bio::read(Sector(at), &mut buffer[..len])));
    }
}

/// Writes, zeroes and discards here and there, at places that the data's last bytes choose.
fn write_some(world: &World, device: &Arc<sim_core::MappedDevice>, data: &[u8]) {
    let size = device.size().0;
    let block = device.limits().logical_block();
    let page = vec![0x5a; block.bytes().max(4096) as usize];
    let len = Sectors::in_bytes(page.len() as u64);
    if size < len.0 {
        return;
    }
    let mut places = Bytes::new(&data[data.len().saturating_sub(64)..]);
    for _ in 0..16 {
        let at = Sector(places.number() % (size - len.0 + 1) / block.0 * block.0);
        let bio = match places.below(5) {
            0 => Bio::discard(at, len),
            1 => Bio::write_zeroes(at, len),
            2 => Bio::flush(),
            3 => Bio::write(at, &page).with_fua(),
            _ => Bio::write(at, &page),
        };
        let _ = world.sim.block_on(send(device.clone(), bio));
    }
}

fn report(world: &World) {
    for report in [Report::Status, Report::Table, Report::Measure] {
        let (slot, device_names) = (Slot::Live, false);
        let keys = KeyText::Zeros;
        let command = Command::TableStatus { id: id("fuzzed"), report, slot, device_names, keys };
        match world.execute(command) {
            Ok(Answer::Table(_, lines)) => assert!(!lines.is_empty(), "a live table has lines"),
            other => panic!("a live table is not reported: {other:?}"),
        }
    }
}
