//! A device below that is made to fail for one of its users: whichever way a bio comes, and
//! for nobody else.

use sim_core::control::Command;
use sim_core::{Bio, BlkError, BlkResult, DevNumber, Errno, Fails, Sector, Sectors};
use testkit::{World, id, send};

/// Two disks; d0 and d1 both over the first, d2 over d0, d3 striped over d0 and the second.
fn stack() -> World {
    let world = World::new(7, targets::registry());
    world.add_disk(Sectors(64));
    world.add_disk(Sectors(64));
    world.set_up(0, "0 32 linear 7:0 0");
    world.set_up(1, "0 32 linear 7:0 32");
    world.set_up(2, "0 16 linear 253:0 8");
    world.set_up(3, "0 32 striped 2 4 253:0 0 7:1 0");
    world
}

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
        let world = stack();
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
    let world = stack();
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
