//! Faults: each I/O below fails once, or from there on, in turn. No write is lost that was
//! acknowledged, and a bio fails only where the kernel's would.

use sim_core::control::Command;
use sim_core::{Held, Op, Sectors};
use testkit::{Damage, Fault, FaultSpan, Rng, SimDisk, Started, each_seed, id};

use crate::rig::{Case, FLUSH, Rig, Step, steps};

const STEPS: usize = 14;

fn case(seed: u64) -> Case {
    Case {
        legs: if seed.is_multiple_of(5) { 3 } else { 2 },
        len: 36,
        region: [4, 8, 16][seed as usize / 2 % 3],
        disk_log: !seed.is_multiple_of(4),
        features: ["", "1 handle_errors", "2 handle_errors keep_log"][seed as usize % 3],
        in_sync: !seed.is_multiple_of(7),
    }
}

fn ended(disk: &SimDisk) -> u64 {
    let counts = disk.counts();
    counts.reads + counts.writes + counts.flushes + counts.discards
}

/// A fault, and what a run with it does when bios are held.
#[derive(Clone, Copy, Debug)]
struct Plan {
    disk: usize,
    fault: Fault,
    /// Another leg has a fault too, once.
    other: Option<(usize, u64)>,
    held: Held,
    /// The disk is repaired before the device is suspended.
    repaired: bool,
}

fn run(case: &Case, seed: u64, plan: Plan) -> Result<(), String> {
    let rig = Rig::new(case, seed);
    rig.disks[plan.disk].inject(plan.fault);
    if let Some((disk, after)) = plan.other {
        rig.disks[disk].inject(Fault::After(after));
    }
    let steps = steps(&mut Rng::new(seed), case.len, STEPS, 6);
    let mut tasks = rig.start(&steps, 2);
    rig.idle()?;
    rig.sent.verdict()?;
    errors_are_the_kernels(case, plan, &rig, None)?;
    let holds = case.features == "1 handle_errors";
    let mut rounds = 0;
    loop {
        tasks.retain(|task| !task.is_done());
        if tasks.is_empty() && rounds > 0 {
            break;
        }
        if !tasks.is_empty() && !holds {
            return Err(format!("a bio is held without handle_errors: {}", rig.status()));
        }
        // What is handed back may be held again, as long as the disk is broken.
        if plan.repaired || rounds > 0 {
            rig.disks.iter().for_each(|disk| disk.heal());
        }
        let held = if rounds > STEPS { Held::Flush } else { plan.held };
        suspend(&rig, held)?;
        resume(&rig, held)?;
        rig.idle()?;
        rig.sent.verdict()?;
        errors_are_the_kernels(case, plan, &rig, Some(held))?;
        rounds += 1;
        if rounds > 3 * STEPS {
            let left = tasks.iter().filter(|task| !Started::is_done(task)).count();
            return Err(format!("{left} tasks never end: {}", rig.status()));
        }
    }
    rig.disks.iter().for_each(|disk| disk.heal());
    // Out of sync, the kernel does not ask a leg again that has failed.
    let all_is_read = case.in_sync && plan.other.is_none();
    if all_is_read || rig.content().is_ok() {
        rig.read_back().map_err(|why| format!("repaired: {why}"))?;
    }
    // The resync starts when the device is resumed, and not before.
    suspend(&rig, Held::Flush)?;
    resume(&rig, Held::Flush)?;
    rig.idle()?;
    // Where both legs have failed the kernel reads neither, as long as its letters stay.
    if plan.other.is_none() || rig.content().is_ok() {
        rig.read_back().map_err(|why| format!("resumed: {why}; {}", rig.status()))?;
    }
    let log_is_good = !case.disk_log || plan.disk != case.log_disk();
    let all_in_sync = rig.status().contains(&format!("{0}/{0} ", case.len.div_ceil(case.region)));
    if all_in_sync && log_is_good && !case.features.is_empty() {
        rig.legs_are_equal()?;
    }
    drop_power(case, seed, plan, rig)
}

/// The power fails. A leg that failed and is back counts as good after that: the log has no place
/// to say which one was behind.
fn drop_power(case: &Case, seed: u64, plan: Plan, rig: Rig) -> Result<(), String> {
    if plan.disk == 0 {
        // What the resync has copied to the first leg is there for good after a flush.
        rig.run(&[Step::Bio(FLUSH)], 1)?;
    }
    let failed_first = plan.disk == 0 && !rig.status().contains("AA");
    let (legal, disks) = (rig.legal(), rig.disks.clone());
    drop(rig);
    disks.iter().for_each(|disk| disk.lose_cache());
    if failed_first || plan.other.is_some() {
        return Ok(());
    }
    let rig = Rig::over(case, seed, &disks);
    let content = rig.content().map_err(|why| format!("after a power cut: {why}"))?;
    legal.check_power_cut(&content).map_err(|why| format!("after a power cut: {why}"))
}

fn suspend(rig: &Rig, held: Held) -> Result<(), String> {
    let suspend = rig.world.control.execute(Command::DevSuspend { id: id(0), held });
    let ended = rig.world.sim.try_block_on(suspend);
    let ended = ended.map_err(|stuck| format!("a suspend never ends: {stuck}"))?;
    ended.map(drop).map_err(|failure| failure.to_string())
}

fn resume(rig: &Rig, held: Held) -> Result<(), String> {
    let resume = rig.world.control.execute(Command::DevResume { id: id(0), held });
    let ended = rig.world.sim.try_block_on(resume);
    let ended = ended.map_err(|stuck| format!("a resume never ends: {stuck}"))?;
    ended.map(drop).map_err(|failure| failure.to_string())
}

/// Fails where a bio has failed that the kernel would have ended well.
fn errors_are_the_kernels(
    case: &Case,
    plan: Plan,
    rig: &Rig,
    suspended: Option<Held>,
) -> Result<(), String> {
    if plan.other.is_some() {
        return Ok(());
    }
    let holds = case.features == "1 handle_errors";
    let is_log = case.disk_log && plan.disk == case.log_disk();
    for (step, error) in rig.take_errors() {
        let is_read = step.op == Op::Read;
        let legal = match (is_log, plan.disk) {
            // Reads know nothing of the log.
            (true, _) if is_read => false,
            (true, _) if case.features.ends_with("keep_log") => true,
            // Held, and the suspend was none that hands back.
            (true, _) => holds && suspended == Some(Held::Flush),
            // Out of sync there is no other leg than the first.
            (false, 0) if !case.in_sync => true,
            (false, _) if is_read => false,
            (false, _) => holds && suspended == Some(Held::Flush),
        };
        if !legal {
            let status = rig.status();
            return Err(format!("{step} failed where the kernel's would not: {error}; {status}"));
        }
    }
    Ok(())
}

fn every_io(seed: u64) -> Result<u64, String> {
    let case = case(seed);
    let well = Rig::new(&case, seed);
    let before: Vec<u64> = well.disks.iter().map(|disk| ended(disk)).collect();
    well.run(&steps(&mut Rng::new(seed), case.len, STEPS, 6), 2)?;
    let after: Vec<u64> = well.disks.iter().map(|disk| ended(disk)).collect();
    drop(well);
    let mut runs = 0;
    for (disk, (before, after)) in before.into_iter().zip(after).enumerate() {
        for nth in 0..after - before {
            for lasts in [FaultSpan::Once, FaultSpan::ForGood] {
                let damage = [Damage::Error, Damage::Short(Sectors(1))][(seed + nth) as usize % 2];
                let fault = Fault::At { after: nth, lasts, damage };
                let held = [Held::Flush, Held::NoFlush][(seed + nth) as usize / 2 % 2];
                let repaired = nth.is_multiple_of(3);
                let (leg, often) = ((disk + 1) % case.legs, disk < case.legs);
                for other in [None, often.then_some((leg, (nth * 7 + seed) % (nth + 5)))] {
                    let plan = Plan { disk, fault, other, held, repaired };
                    run(&case, seed, plan).map_err(|why| format!("{case:?}, {plan:?}: {why}"))?;
                    runs += 1;
                }
            }
        }
    }
    Ok(runs)
}

const TEST: &str = "-p dmsim-targets --test mirror no_fault";

#[test]
fn no_fault_loses_what_was_acknowledged_or_fails_what_the_kernel_would_not() {
    let mut runs = 0;
    each_seed(TEST, 24, |seed| {
        runs += every_io(seed)?;
        Ok(())
    });
    println!("{runs} runs");
}
