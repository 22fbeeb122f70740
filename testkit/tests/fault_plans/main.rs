//! Faults on demand: each kind does what it says and no more, whichever way a bio comes; the same seed and
//! the same bios give the same faults; without a plan all is as it was.

mod fails;
mod kinds;
mod plans;
mod random;

use sim_core::control::{Answer, Command, Failure};
use sim_core::{
    Bio, BlkError, BlkResult, DevNumber, FaultKind, FaultPlan, FaultReport, FaultRule, Sector,
    Sectors,
};
use testkit::{World, id, send};

const SIZE: usize = 32;

/// Two disks; d0 and d1 over the first, d2 over d0, d3 striped over d0 and the second.
fn stack(seed: u64) -> World {
    let world = World::new(seed, targets::registry());
    world.add_disk(Sectors(64));
    world.add_disk(Sectors(64));
    world.set_up(0, "0 32 linear 7:0 0");
    world.set_up(1, "0 32 linear 7:0 32");
    world.set_up(2, "0 16 linear 253:0 8");
    world.set_up(3, "0 32 striped 2 4 253:0 0 7:1 0");
    world
}

fn rule(kind: FaultKind) -> FaultRule {
    FaultRule::new(kind)
}

fn plan(rules: &[FaultRule]) -> Option<FaultPlan> {
    Some(FaultPlan { seed: Some(7), rules: rules.to_vec() })
}

fn set(
    world: &World,
    device: u32,
    below: Option<&str>,
    plan: Option<FaultPlan>,
) -> Result<Vec<FaultReport>, Failure> {
    let below: Option<DevNumber> = below.map(|below| below.parse().expect("a number"));
    match world.execute(Command::SetFaults { id: id(device), below, plan, replaces: true })? {
        Answer::Faults(reports) => Ok(reports),
        other => panic!("{other:?}"),
    }
}

fn arm(world: &World, device: u32, rules: &[FaultRule]) {
    set(world, device, None, plan(rules)).expect("a plan that can be armed");
}

fn heal(world: &World, device: u32) -> FaultReport {
    let mut taken = set(world, device, None, None).expect("it can be taken away");
    taken.pop().expect("a plan was armed")
}

fn report(world: &World, device: u32) -> Vec<FaultReport> {
    match world.execute(Command::Faults { id: id(device) }) {
        Ok(Answer::Faults(reports)) => reports,
        other => panic!("{other:?}"),
    }
}

fn done(world: &World, device: u32, bio: Bio<'_>) -> BlkResult {
    world.sim.block_on(send(world.device(device), bio))
}

fn read(world: &World, device: u32, at: u64, sectors: usize) -> Result<Vec<u8>, BlkError> {
    // What was in a buffer before is never seen.
    let mut buffer = vec![0xee; sectors * 512];
    done(world, device, Bio::read(Sector(at), &mut buffer))?;
    Ok(buffer)
}

fn write(world: &World, device: u32, at: u64, sectors: usize, byte: u8) -> BlkResult {
    done(world, device, Bio::write(Sector(at), &vec![byte; sectors * 512]))
}

/// The first byte of each sector.
fn bytes(world: &World, device: u32) -> String {
    let content = read(world, device, 0, SIZE).expect("no fault");
    content.chunks(512).map(|sector| char::from(sector[0].max(b'.'))).collect()
}
