//! A part about disks that have changed by themselves.

use std::sync::Arc;

use super::ground::DISKS;
use super::lives::rewind;
use super::suite::Suite;
use crate::{Entry, Legal, Rng, SECTOR, SimDisk, Traffic, story};
use sim_core::{BlockDevice, Held, Sector};

/// How many times the disks of one run are spoilt.
const TIMES: usize = 30;

/// The disks below have bits that are the other way round when the device comes up. It may refuse to
/// come up, and bios may fail. It does not panic, and nothing hangs. Where the disks that were spoilt
/// have checksums, what is read was there once: the newest may be gone, as what is spoilt at the end
/// of a log looks like what was never finished.
pub(super) fn corrupt(suite: &Suite, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed ^ 0xc0);
    let rig = suite.start(seed)?;
    let steps = rig.steps(&mut rng, 14);
    rig.disks.iter().for_each(|disk| disk.record(rig.sent.journal().clone()));
    rig.run_well(&steps, 1 + seed as usize % 2)?;
    let (disks, record) = (rig.disks.clone(), rig.sent.journal().take());
    let legal = rig.sent.legal().unwrap_or_else(|| Legal::new(&[]));
    drop(rig);
    if rng.below(2) == 0 {
        story::heading(format_args!("the power fails, and what is volatile is lost"));
        disks.iter().for_each(|disk| disk.lose_cache());
    }
    // What was written is what matters, and what it was written over.
    let written: Vec<(usize, u64)> = record
        .iter()
        .filter_map(|entry| match entry {
            Entry::Write(write) => Some((write, (write.data.len() / SECTOR) as u64)),
            Entry::Flush { .. } | Entry::Event { .. } => None,
        })
        .flat_map(|(write, len)| (0..len).map(|at| (write.disk as usize, write.sector + at)))
        .collect();
    let is_checked = |disk: usize| suite.checked.iter().any(|name| name == DISKS[disk]);
    let before: Vec<usize> = disks.iter().map(|disk| disk.checkpoint()).collect();
    for _ in 0..TIMES {
        let told = story::point();
        let checked_only = !suite.checked.is_empty() && rng.below(4) > 0;
        let may: Vec<&(usize, u64)> =
            written.iter().filter(|(disk, _)| !checked_only || is_checked(*disk)).collect();
        let mut spoilt = Vec::new();
        for _ in 0..1 + rng.below(3) {
            let (disk, sector) = match may.is_empty() || rng.below(5) == 0 {
                true if checked_only => continue,
                true => {
                    let disk = rng.below(disks.len());
                    (disk, rng.below(disks[disk].size().0.min(64) as usize) as u64)
                }
                false => *may[rng.below(may.len())],
            };
            // The first words of a sector are where metadata is, and its numbers are small.
            let bits = [8, 16 * 8, 64 * 8, SECTOR * 8][rng.below(4)];
            let bit = rng.below(bits);
            let mut bytes = disks[disk].sector(Sector(sector));
            bytes[bit / 8] ^= 1 << (bit % 8);
            disks[disk].fill(Sector(sector), &bytes);
            spoilt.push(format!("bit {bit} of sector {sector} of disk {}", DISKS[disk]));
        }
        let what = spoilt.join(", ");
        story::heading(format_args!("the other way round now: {what}"));
        let held = checked_only && suite.is_storage();
        come_up(suite, seed, &disks, held.then_some(&legal))
            .map_err(|why| format!("with {what} the other way round, {why}"))?;
        story::back_to(told);
        rewind(&disks, &before);
    }
    Ok(())
}

/// Brings the device up and uses it, whatever comes of that.
pub(super) fn come_up(
    suite: &Suite,
    seed: u64,
    disks: &[Arc<SimDisk>],
    legal: Option<&Legal>,
) -> Result<(), String> {
    let Ok(mut rig) = suite.restart(seed, disks) else { return Ok(()) };
    if let (Some(legal), Ok(content)) = (legal, rig.content()) {
        let mut sectors = (0..).zip(content.chunks_exact(SECTOR));
        if let Some((sector, bytes)) = sectors.find(|(sector, bytes)| !legal.was(*sector, bytes)) {
            return Err(legal.explain(sector, bytes));
        }
    }
    if rig.adopt().is_err() {
        rig.sent = Arc::new(Traffic::new(0, Arc::default(), None));
    }
    let steps = rig.steps(&mut Rng::new(seed), 8);
    rig.run(&steps, 2)?;
    // What is done at a suspend may fail like all else.
    let _ = rig.world.suspend(0, Held::Flush);
    Ok(())
}
