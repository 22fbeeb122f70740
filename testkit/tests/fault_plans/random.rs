//! Random plans against random bios, held against a model.

use super::*;
use sim_core::{Fate, FaultOp, FaultRate, Op, Rng, Strike};
use testkit::each_seed;

fn random_rule(rng: &mut Rng) -> FaultRule {
    let kind = FaultKind::ALL[rng.below(FaultKind::ALL.len())];
    let mut rule = rule(kind);
    let maybe = |rng: &mut Rng, one_in: usize| rng.below(one_in) == 0;
    if maybe(rng, 2) {
        rule.on = vec![kind.possible()[rng.below(kind.possible().len())]];
    }
    if maybe(rng, 2) && rule.ops() != [FaultOp::Flushes] {
        rule.start = Some(Sector(rng.below(28) as u64));
        rule.len = Some(Sectors(1 + rng.below(4) as u64));
    }
    if maybe(rng, 3) {
        rule.nth = Some(1 + rng.below(4) as u64);
    }
    if maybe(rng, 3) {
        rule.times = Some(1 + rng.below(3) as u64);
    }
    if maybe(rng, 2) {
        rule.rate = Some(FaultRate::try_from(0.5).expect("a rate"));
    }
    if kind == FaultKind::Slow || maybe(rng, 8) {
        rule.delay_ms = Some(1 + rng.below(50) as u64);
    }
    rule
}

/// What a disk with these faults would hold, an array of bytes: changed by what the log says of each bio.
fn model(
    content: &mut [u8],
    strike: Option<&Strike>,
    op: Op,
    at: usize,
    data: &mut [u8],
) -> BlkResult {
    let range = |at: usize, len: usize| at * 512..at * 512 + len;
    let fate = strike.map(|strike| strike.fate);
    let (to, len, result) = match fate {
        Some(Fate::Fails(error)) => return Err(error),
        Some(Fate::Lost) => return Ok(()),
        Some(Fate::Short(done)) => (at, done.0 as usize * 512, Err(BlkError::Io)),
        Some(Fate::Torn(done)) => (at, done.0 as usize * 512, Ok(())),
        Some(Fate::Elsewhere(to)) => (to.0 as usize, data.len(), Ok(())),
        Some(Fate::Late | Fate::WithoutFua | Fate::Flipped { .. }) | None => {
            (at, data.len(), Ok(()))
        }
    };
    let flip = |data: &mut [u8]| {
        for bit in fate.iter().flat_map(|fate| fate.bits()) {
            data[bit as usize / 8] ^= 1 << (bit % 8);
        }
    };
    match op {
        Op::Read => {
            data[len..].fill(0);
            data[..len].copy_from_slice(&content[range(to, len)]);
            flip(data);
        }
        Op::Write => {
            flip(data);
            content[range(to, len)].copy_from_slice(&data[..len]);
        }
        Op::Flush | Op::Discard | Op::WriteZeroes | Op::SecureErase => {}
    }
    result
}

/// Runs random bios one after the other against a random plan; each must do what the log says of it.
fn run(seed: u64, table: &str) -> Result<(FaultReport, Vec<u8>), String> {
    let world = World::new(seed, targets::registry());
    world.add_disk(Sectors(64));
    world.add_disk(Sectors(64));
    world.set_up(0, "0 64 linear 7:0 0");
    world.set_up(1, table);
    let mut rng = Rng::new(seed);
    let rules: Vec<_> = (0..1 + rng.below(4)).map(|_| random_rule(&mut rng)).collect();
    // Half of them below the device that is used.
    let device = rng.below(2) as u32;
    let above = if table.contains("253:0") { 1 } else { device };
    let plan = FaultPlan { seed: Some(rng.number()), rules };
    set(&world, device, None, Some(plan)).map_err(|error| error.to_string())?;
    let size = world.device(above).live().expect("a table").size().0 as usize;
    let mut content = vec![0; size * 512];
    let mut known = 0;
    for step in 0..40 {
        let len = 1 + rng.below(6);
        let (at, byte) = (rng.below(size - len), rng.number() as u8 | 1);
        let op = [Op::Read, Op::Write, Op::Write, Op::Flush][rng.below(4)];
        let mut data = vec![if op == Op::Write { byte } else { 0 }; len * 512];
        let sent = data.clone();
        let mut seen = vec![0xee; len * 512];
        let bio = match op {
            Op::Read => Bio::read(Sector(at as u64), &mut seen),
            Op::Flush => Bio::flush(),
            _ if byte % 3 == 0 => Bio::write(Sector(at as u64), &sent).with_fua(),
            _ => Bio::write(Sector(at as u64), &sent),
        };
        let result = done(&world, above, bio);
        let now = report(&world, device).pop().expect("it is armed");
        let strike = (now.strikes.len() > known).then(|| now.strikes[known]);
        known = now.strikes.len();
        if device != above {
            // Of the layer above, only that what is struck below is told.
            let failed =
                strike.is_some_and(|strike| matches!(strike.fate, Fate::Fails(_) | Fate::Short(_)));
            if result.is_err() != failed {
                return Err(format!("step {step}: {result:?} above {strike:?}"));
            }
            continue;
        }
        let expected = model(&mut content, strike.as_ref(), op, at, &mut data);
        if expected != result {
            return Err(format!(
                "step {step}: {op:?} {at}+{len}: {result:?}, not {expected:?}: {strike:?}"
            ));
        }
        if op == Op::Read && result.is_ok() && seen != data {
            return Err(format!("step {step}: read {at}+{len}: {strike:?}"));
        }
    }
    let taken = set(&world, device, None, None).map_err(|error| error.to_string())?.pop();
    let left = read(&world, above, 0, size).map_err(|error| error.to_string())?;
    if device == above && left != content {
        return Err("the device does not hold what the log says".to_owned());
    }
    Ok((taken.expect("it was armed"), left))
}

#[test]
fn each_bio_is_struck_as_the_log_says_and_the_same_seed_strikes_the_same() {
    let mut struck = 0;
    for table in ["0 32 linear 7:1 8", "0 32 striped 2 4 7:0 0 7:1 0", "0 32 linear 253:0 4"] {
        each_seed("fault_plans", 400, |seed| {
            let first = run(seed, table).map_err(|why| format!("{table}: {why}"))?;
            struck += first.0.strikes.len();
            match run(seed, table)? == first {
                true => Ok(()),
                false => Err(format!("{table}: the second run is another")),
            }
        });
    }
    assert!(struck > 5000, "{struck}");
}
