//! Parts about what breaks: I/O that fails, and a power cut that loses all that is volatile.

use super::lives;
use super::suite::Suite;
use crate::traffic::BioStep;
use crate::{Damage, Fault, FaultSpan, Io, Legal, Rng, story};
use sim_core::{BlockDevice, Flags, Op, Sectors};

/// How many faults are tried with the bios of one seed.
const FAULTS: u64 = 20;

/// The same bios over and over, with another I/O failing each time: any, or one that makes
/// something durable.
pub(super) fn faults(suite: &Suite, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let told = story::point();
    let well = suite.start(seed)?;
    let steps = well.steps(&mut rng, 20);
    well.disks.iter().for_each(|disk| disk.watch());
    well.run_well(&steps, 2)?;
    let ios: Vec<u64> = well.disks.iter().map(|disk| disk.activity().0).collect();
    let durable = |io: &Io| io.op == Op::Flush || io.flags.fua || io.flags.preflush;
    let durable: Vec<u64> = (well.disks.iter())
        .map(|disk| disk.take_ios().iter().filter(|io| durable(io)).count() as u64)
        .collect();
    let used: Vec<usize> = (0..ios.len()).filter(|disk| ios[*disk] > 0).collect();
    drop(well);
    story::back_to(told);
    if used.is_empty() {
        return Ok(());
    }
    for count in 0..FAULTS {
        let disk = used[rng.below(used.len())];
        let lasts = [FaultSpan::Once, FaultSpan::ForGood][rng.below(2)];
        let (number, damage) = (rng.number(), damage(&mut rng));
        let fault = if count % 3 == 0 || durable[disk] == 0 {
            Fault::At { after: number % ios[disk], lasts, damage }
        } else {
            // What is in doubt is what was done and not told of.
            let damage = if rng.below(3) == 0 { Damage::DoneThenError } else { damage };
            Fault::AtDurable { after: number % durable[disk], lasts, damage }
        };
        let told = story::point();
        fail(suite, (seed, count), &steps, disk, fault)
            .map_err(|why| format!("disk {disk}, {fault:?}: {why}"))?;
        story::back_to(told);
    }
    Ok(())
}

/// Chooses how an I/O fails: without a trace, in part, or done and not told of.
pub(super) fn damage(rng: &mut Rng) -> Damage {
    [Damage::Error, Damage::Short(Sectors(1)), Damage::DoneThenError][rng.below(3)]
}

/// What one does who has seen an error: writes what there is left to write in small pieces, each
/// durable.
fn in_safety(mut step: BioStep, block: u64) -> BioStep {
    if step.op == Op::Write {
        (step.len, step.flags.fua) = (block, true);
    }
    step
}

fn fail(
    suite: &Suite,
    (seed, count): (u64, u64),
    steps: &[BioStep],
    disk: usize,
    fault: Fault,
) -> Result<(), String> {
    let rig = suite.start(seed)?;
    let mut first = rig.sent.legal().unwrap_or_else(|| Legal::new(&[]));
    let begin: Vec<usize> = rig.disks.iter().map(|disk| disk.checkpoint()).collect();
    rig.disks.iter().for_each(|disk| disk.record(rig.sent.journal().clone()));
    rig.disks[disk].inject(fault);
    let block = rig.device.limits().logical_block().0;
    if count % 4 == 0 {
        rig.run(steps, 2)?;
    } else {
        rig.run_until_error(steps, 2, move |step| in_safety(step, block))?;
    }
    rig.sent.verdict()?;
    let record = rig.sent.journal().take();
    rig.disks[disk].heal();
    let told = story::point();
    story::heading(format_args!("the disk is healed"));
    // The device may have given up; what it does read must be right.
    if rig.content().is_ok() {
        rig.read_back().map_err(|why| format!("with the disk healed: {why}"))?;
    }
    let (legal, disks) = (rig.sent.legal().unwrap_or_else(|| Legal::new(&[])), rig.disks.clone());
    drop(rig);
    story::heading(format_args!("the power fails, and what is volatile is lost"));
    disks.iter().for_each(|disk| disk.lose_cache());
    let rig = suite.restart(seed, &disks)?;
    let why = |why| format!("with the power off and on: {why}");
    rig.check_power_cut(&legal).map_err(why)?;
    drop(rig);
    lives::rewind(&disks, &begin);
    story::back_to(told);
    lives::crash_after_fault(suite, &disks, &record, &mut first, seed << 8 | count)
}

/// One bio at a time; now and then the power fails, and all goes that is not durable.
pub(super) fn operations(suite: &Suite, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut rig = suite.start(seed)?;
    for _ in 0..6 {
        let mut steps = rig.steps(&mut rng, 8);
        // What follows a write is what makes it durable, or not.
        if rng.below(2) == 0 {
            steps.push(BioStep { op: Op::Flush, sector: 0, len: 0, flags: Flags::default() });
        }
        for step in steps {
            rig.run_well(std::slice::from_ref(&step), 1).map_err(|why| format!("{step}: {why}"))?;
        }
        rig.read_back()?;
        let (legal, disks) =
            (rig.sent.legal().unwrap_or_else(|| Legal::new(&[])), rig.disks.clone());
        drop(rig);
        story::heading(format_args!("the power fails, and what is volatile is lost"));
        disks.iter().for_each(|disk| disk.lose_cache());
        rig = suite.restart(seed, &disks)?;
        rig.check_power_cut(&legal).map_err(|why| format!("with the power off and on: {why}"))?;
        rig.adopt()?;
    }
    Ok(())
}
