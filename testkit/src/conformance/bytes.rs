//! Parts about bytes: the model, splits, and the flattened map.

use sim_core::{Bio, BlkResult, BlockDevice, Op, Sector, Sectors};

use super::rig::Rig;
use super::suite::{SCHEDULE, Suite};
use crate::SECTOR;
use crate::traffic::{BioStep, pattern};
use crate::{Rng, Run, Schedule, exhaustive, send, shrink, story};

/// The most schedules of a small case that are tried, depth first.
const EXHAUSTIVE: u64 = 300;

/// Several tasks at once; every read, and the whole device at the end.
pub(super) fn model(suite: &Suite, seed: u64) -> Result<(), String> {
    let shortest = |(schedule, why): (Schedule, String)| {
        format!("{why}\nshortest schedule found: {SCHEDULE}='{schedule}'")
    };
    let schedule = suite.schedule(seed);
    let run = |schedule: &Schedule| model_under(suite, seed, schedule, 30, 1 + seed as usize % 4);
    let (result, made) = run(&schedule);
    if let Err(why) = result {
        let (schedule, why) = shrink(schedule.seed(), &made, why, run);
        // The story is that of the shortest schedule.
        story::forget();
        let _ = run(&schedule);
        return Err(shortest((schedule, why)));
    }
    if seed == 0 {
        let run = |schedule: &Schedule| model_under(suite, seed, schedule, 4, 2);
        let found = exhaustive(seed, EXHAUSTIVE, run);
        found.map_err(|(schedule, why)| {
            story::forget();
            let _ = run(&schedule);
            shortest((schedule, why))
        })?;
    }
    Ok(())
}

fn model_under(suite: &Suite, seed: u64, schedule: &Schedule, bios: usize, tasks: usize) -> Run {
    story::forget();
    let rig = match suite.start_under(schedule, seed) {
        Ok(rig) => rig,
        Err(error) => return (Err(error), Vec::new()),
    };
    let steps = rig.steps(&mut Rng::new(seed), bios);
    let result = rig.run_well(&steps, tasks).and_then(|()| rig.read_back());
    (result, rig.world.sim.choices())
}

/// One device takes each bio whole, another in pieces: they must agree.
pub(super) fn split(suite: &Suite, seed: u64) -> Result<(), String> {
    let (whole, pieces) = (suite.start(seed)?, suite.start(seed)?);
    let mut rng = Rng::new(seed);
    let steps = whole.steps(&mut rng, 30);
    let block = whole.device.limits().logical_block().0.max(1);
    for (id, step) in (1..).zip(&steps) {
        // What a discarded range reads as is the device's choice.
        if matches!(step.op, Op::Discard | Op::SecureErase) {
            continue;
        }
        let data = data(step, id);
        let (mut one, mut many) = (data.clone(), data);
        let ended = submit(&whole, step, &mut one);
        let mut parts = Ok(());
        let mut done = 0;
        while done < step.len || step.op == Op::Flush {
            let blocks = (step.len - done) / block;
            let len = if blocks == 0 { 0 } else { 1 + rng.below(blocks as usize) as u64 } * block;
            let part = BioStep { sector: step.sector + done, len, ..step.clone() };
            let bytes = done as usize * SECTOR..(done + len) as usize * SECTOR;
            let buffer = if many.is_empty() { &mut [][..] } else { &mut many[bytes] };
            parts = parts.and(submit(&pieces, &part, buffer));
            done += len;
            if step.op == Op::Flush {
                break;
            }
        }
        agree(step, (ended, &one), (parts, &many), "whole", "in pieces")?;
    }
    same_content(&whole, &pieces, "whole", "in pieces")
}

/// One device goes by the flattened map, another by `map`: they must agree, and each must find what
/// went the other way.
pub(super) fn flatten(suite: &Suite, seed: u64) -> Result<(), String> {
    let (flat, mapped) = (suite.start(seed)?, suite.start(seed)?);
    flat.device.set_folding(true);
    mapped.device.set_folding(false);
    let mut rng = Rng::new(seed);
    for (id, step) in (1..).zip(&flat.steps(&mut rng, 30)) {
        let data = data(step, id);
        let (mut one, mut other) = (data.clone(), data);
        let ends = (submit(&flat, step, &mut one), submit(&mapped, step, &mut other));
        agree(step, (ends.0, &one), (ends.1, &other), "flattened", "mapped")?;
    }
    if flat.device.extents().is_some() {
        for sector in (0..flat.device.size().0).map(Sector) {
            let places = (flat.device.flat_place(sector), flat.device.walk_place(sector));
            if places.0 != places.1 {
                return Err(format!(
                    "sector {sector}: flattened {:?}, mapped {:?}",
                    places.0, places.1
                ));
            }
        }
    }
    same_content(&flat, &mapped, "flattened", "mapped")?;
    // The same device the other way: what one way has written, the other finds. By content, as where
    // and how a target keeps it may be the matter of a random number.
    let (one, other) = (flat.content(), mapped.content());
    flat.device.set_folding(false);
    mapped.device.set_folding(true);
    same(one, flat.content(), "flattened", "mapped, on the same device,")?;
    same(other, mapped.content(), "mapped", "flattened, on the same device,")
}

fn data(step: &BioStep, id: u64) -> Vec<u8> {
    match step.op {
        Op::Read => vec![0xee; step.len as usize * SECTOR],
        Op::Write => pattern(id, step.sector, step.len).to_vec(),
        Op::Flush | Op::Discard | Op::WriteZeroes | Op::SecureErase => Vec::new(),
    }
}

fn submit(rig: &Rig, step: &BioStep, data: &mut [u8]) -> BlkResult {
    let bio = match step.op {
        Op::Read => Bio::read(Sector(step.sector), data),
        Op::Write => Bio::write(Sector(step.sector), data),
        op => Bio::without_data(op, Sector(step.sector), Sectors(step.len)),
    };
    rig.world.sim.block_on(send(rig.device.clone(), bio.with_flags(step.flags)))
}

fn agree(
    step: &BioStep,
    one: (BlkResult, &[u8]),
    other: (BlkResult, &[u8]),
    name: &str,
    other_name: &str,
) -> Result<(), String> {
    if one.0.is_ok() != other.0.is_ok() {
        return Err(format!("{step}: {name} {:?}, {other_name} {:?}", one.0, other.0));
    }
    if one.0.is_ok() && one.1 != other.1 {
        return Err(format!("{step}: {name} and {other_name} read different bytes"));
    }
    Ok(())
}

fn same_content(one: &Rig, other: &Rig, name: &str, other_name: &str) -> Result<(), String> {
    same(one.content(), other.content(), name, other_name)
}

fn same(
    one: Result<Vec<u8>, String>,
    other: Result<Vec<u8>, String>,
    name: &str,
    other_name: &str,
) -> Result<(), String> {
    match (one, other) {
        (Ok(one), Ok(other)) => {
            let differs = one.chunks(SECTOR).zip(other.chunks(SECTOR)).position(|(a, b)| a != b);
            differs.map_or(Ok(()), |sector| {
                Err(format!("at the end sector {sector} differs, {name} and {other_name}"))
            })
        }
        (Err(_), Err(_)) => Ok(()),
        (Ok(_), Err(error)) => Err(format!("{other_name}: {error}")),
        (Err(error), Ok(_)) => Err(format!("{name}: {error}")),
    }
}
