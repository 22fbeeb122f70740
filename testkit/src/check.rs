//! Tests as data: a table, the bios that go in, and the I/O that comes out below.

use sim_core::{BlkResult, Op, Registry, Sectors};

use crate::io::{self, Io};
use crate::{World, send};

/// The size of the disks `a`, `b` and `c` of a check: 32 MiB.
pub const CHECK_DISK: Sectors = Sectors(65_536);

/// Checks what a table makes of some bios, sent one after another.
///
/// A bio is `R 4+8`: the operation, the first sector, the length. The operations are `R`, `W`,
/// `F` (flush, without a range), `D` (discard), `Z` (write-zeroes) and `E` (secure erase); `fua`
/// and `preflush` may follow. The I/O below has the disk's letter as its second word. Several are
/// separated by `, `. What one bio leads to is in the order of disks and sectors, flushes first,
/// as it is under way all at once; a bio that fails leaves its errno at the end.
///
/// ```
/// testkit::check(&targets::registry(), "0 64 linear a 10", "R 4+8, F", "R a 14+8, F a");
/// testkit::check(&targets::registry(), "0 64 error", "W 0+1", "EIO");
/// ```
///
/// # Panics
/// When something else comes out, and when the table or a bio cannot be read.
#[track_caller]
pub fn check(registry: &Registry, table: &str, bios: &str, ios: &str) {
    let found = outcome(registry, table, bios);
    assert_eq!(found, ios, "{table}: {bios}");
}

/// Returns what comes out below, as [`check`] compares it.
///
/// # Panics
/// When the table or a bio cannot be read.
pub fn outcome(registry: &Registry, table: &str, bios: &str) -> String {
    let world = World::new(0, registry.clone());
    let disks: Vec<_> = (0..3).map(|_| world.add_disk(CHECK_DISK)).collect();
    let device = world.set_up(0, table);
    // What the target does, not what the flattened map makes of it.
    device.set_folding(false);
    disks.iter().for_each(|disk| disk.watch());
    let mut out = Vec::new();
    for text in bios.split(", ") {
        let io = io::parse(text).unwrap_or_else(|| panic!("a bio such as `R 4+8`, not `{text}`"));
        let result = submit(&world, &io);
        let mut below: Vec<Io> = disks.iter().flat_map(|disk| disk.take_ios()).collect();
        below.sort_by_key(|io| (io.op != Op::Flush, io.disk, io.sector));
        out.extend(below.iter().map(Io::to_string));
        out.extend(result.err().map(|error| error.errno().name().to_owned()));
    }
    out.join(", ")
}

fn submit(world: &World, io: &Io) -> BlkResult {
    let mut data = vec![0; if io.op.is_abnormal() { 0 } else { io.len.bytes() as usize }];
    world.sim.block_on(send(world.device(0), io.bio(&mut data)))
}
