//! A device below that is made to fail for one of its users: whichever way a bio comes, and
//! for nobody else.

use sim_core::control::Command;
use sim_core::{Bio, BlkError, BlkResult, DevNumber, Errno, Fails, Sector, Sectors};
use testkit::{World, id, send};

use super::stack;

fn make(world: &World, device: u32, below: &str, fails: Fails) {
    let below: DevNumber = below.parse().expect("a number");
    world.execute(Command::SetFails { id: id(device), below, fails }).expect("it is below");
}

fn read(world: &World, device: u32) -> BlkResult {
    let mut buffer = [0; 512];
    world.sim.block_on(send(world.device(device), Bio::read(Sector(0), &mut buffer)))
}

fn write(world: &World, device: u32) -> BlkResult {
    world.sim.block_on(send(world.device(device), Bio::write(Sector(0), &[5; 512])))
}

fn flush(world: &World, device: u32) -> BlkResult {
    world.sim.block_on(send(world.device(device), Bio::flush()))
}

#[test]
fn what_fails_does_so_for_whoever_comes_that_way_alone() {
    let failed = Err(BlkError::Io);
    for (fails, reads, writes) in [
        (Fails::Nothing, Ok(()), Ok(())),
        (Fails::Reads, failed, Ok(())),
        (Fails::Writes, Ok(()), failed),
        (Fails::All, failed, failed),
    ] {
        let world = stack(7);
        make(&world, 0, "7:0", fails);
        for device in [0, 2, 3] {
            assert_eq!(read(&world, device), reads, "{fails:?}: a read of d{device}");
            assert_eq!(write(&world, device), writes, "{fails:?}: a write of d{device}");
            assert_eq!(flush(&world, device), writes, "{fails:?}: a flush of d{device}");
        }
        let beside = (read(&world, 1), write(&world, 1), flush(&world, 1));
        assert_eq!(beside, (Ok(()), Ok(()), Ok(())), "{fails:?}");
        make(&world, 0, "7:0", Fails::Nothing);
        let healed = (read(&world, 2), write(&world, 2), flush(&world, 2));
        assert_eq!(healed, (Ok(()), Ok(()), Ok(())), "{fails:?}");
    }
}

#[test]
fn a_failure_stays_when_a_table_is_replaced_by_one_with_the_same_device() {
    let world = stack(7);
    make(&world, 0, "7:0", Fails::All);
    let table = sim_core::parse_table("0 32 linear 7:0 16").expect("a line");
    let table = table.into_iter().map(|(_, line)| line).collect();
    world.load(0, table).expect("a table");
    world.resume(0).expect("a table");
    assert_eq!(read(&world, 2), Err(BlkError::Io));
    let nowhere =
        Command::SetFails { id: id(0), below: "7:1".parse().expect("a number"), fails: Fails::All };
    assert_eq!(world.execute(nowhere).expect_err("not below").errno, Errno::NXIO);
}

/// What a device below counts as: one whose every bio is refused on the way.
#[test]
fn no_target_reaches_what_is_made_to_fail() {
    const KEY: &str = "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100";
    let tables = [
        "0 32 linear 7:0 0".to_owned(),
        "0 32 striped 2 8 7:0 0 7:1 0".to_owned(),
        format!("0 32 crypt aes-xts-plain64 {KEY} 0 7:0 0"),
        format!("0 32 crypt aes-xts-plain64 {KEY} 0 7:0 0 1 allow_discards"),
        "0 32 mirror core 1 8 2 7:0 0 7:1 0".to_owned(),
        "0 32 snapshot-origin 7:0".to_owned(),
        "0 32 snapshot 7:0 7:1 P 8".to_owned(),
        "0 32 snapshot 7:0 7:1 N 8".to_owned(),
    ];
    for (table, seed) in tables.iter().flat_map(|table| (0..8).map(move |seed| (table, seed))) {
        let world = World::new(seed, targets::registry());
        let disks: Vec<_> = (0..2).map(|_| world.add_disk(Sectors(4096))).collect();
        world.set_up(0, table);
        // Above it too: the flattened map must not lead past.
        world.set_up(1, "0 32 linear 253:0 0");
        world.sim.run_until_idle().expect("a mirror is in sync");
        let made = |fails| {
            for below in ["7:0", "7:1"] {
                let below: DevNumber = below.parse().expect("a number");
                // Not each table has both.
                let _ = world.execute(Command::SetFails { id: id(0), below, fails });
            }
        };
        let done = || disks.iter().map(|disk| disk.counts()).collect::<Vec<_>>();
        for fails in [Fails::All, Fails::Reads, Fails::Writes] {
            made(fails);
            let before = done();
            for device in [0, 1] {
                let ends = |bio| world.sim.block_on(send(world.device(device), bio));
                let mut buffer = [0; 4096];
                let _ = ends(Bio::read(Sector(8), &mut buffer));
                let _ = ends(Bio::write(Sector(8), &[5; 4096]));
                let _ = ends(Bio::write(Sector(8), &[5; 4096]).with_fua());
                let _ = ends(Bio::flush());
                let _ = ends(Bio::discard(Sector(0), Sectors(32)));
                let _ = ends(Bio::write_zeroes(Sector(0), Sectors(32)));
            }
            world.sim.run_until_idle().expect("all ends");
            for (disk, (now, before)) in done().iter().zip(&before).enumerate() {
                let what = format!("`{table}`, seed {seed}: {fails:?} of disk {disk}");
                if fails != Fails::Writes {
                    assert_eq!(now.reads, before.reads, "{what}");
                }
                if fails != Fails::Reads {
                    let writes = (now.writes, now.flushes, now.discards);
                    assert_eq!(writes, (before.writes, before.flushes, before.discards), "{what}");
                }
            }
        }
    }
}
