//! Parts about the life of a device: suspends, and what is left when it is over.

use std::sync::Arc;

use futures_util::future::{Either, select};
use sim_core::control::{Command, Failure, WhenOpen};
use sim_core::{Access, BlockDevice, Held, parse_table};

use super::rig::{Latch, Rig};
use super::suite::Suite;
use crate::traffic::BioStep;
use crate::{Rng, SimDisk, id};

/// Bios from some tasks, while another suspends, reloads and resumes.
pub(super) fn suspend(suite: &Suite, seed: u64) -> Result<(), String> {
    let rig = suite.start(seed)?;
    let mut rng = Rng::new(seed);
    let steps = rig.steps(&mut rng, 24);
    let over = Arc::new(Latch::new(1));
    let (cycles, counts) = (cycles(suite, &rig, seed), over.clone());
    let cycle = rig.world.sim.start("suspends", async move {
        let result = cycles.await;
        counts.count();
        result
    });
    let ran = rig.run_well(&steps, 2);
    let ended = rig.wait(&over);
    // Where the device was left suspended, that is why bios wait.
    cycle.take().unwrap_or(Ok(()))?;
    ran.and(ended)?;
    rig.read_back()?;
    rig.world.suspend(0, Held::Flush).map_err(|failure| failure.to_string())?;
    rig.drained()
}

fn cycles(
    suite: &Suite,
    rig: &Rig,
    seed: u64,
) -> impl Future<Output = Result<(), String>> + Send + use<> {
    let mut rng = Rng::new(!seed);
    let (control, handle, disks) =
        (rig.world.control.clone(), rig.world.handle(), rig.disks.clone());
    let lines = parse_table(&suite.table).unwrap_or_default();
    let targets: Vec<_> = lines.into_iter().map(|(_, spec)| spec).collect();
    let text = |failure: Failure| failure.to_string();
    async move {
        for _ in 0..3 {
            for _ in 0..rng.below(12) {
                handle.turn().await;
            }
            let held = [Held::Flush, Held::NoFlush][rng.below(2)];
            control.execute(Command::DevSuspend { id: id(0), held }).await.map_err(text)?;
            let before = activity(&disks);
            if before.1 > 0 {
                return Err(format!("{} I/Os are in flight below a suspended device", before.1));
            }
            if rng.below(2) == 0 {
                let (access, base, targets) = (Access::ReadWrite, String::new(), targets.clone());
                let load = Command::TableLoad { id: id(0), access, targets, base };
                control.execute(load).await.map_err(text)?;
            }
            for _ in 0..rng.below(12) {
                handle.turn().await;
            }
            if activity(&disks) != before {
                return Err("an I/O went through a suspended device".to_owned());
            }
            control.execute(Command::DevResume { id: id(0), held }).await.map_err(text)?;
        }
        Ok(())
    }
}

/// Returns how many I/Os have ended, and how many are pending.
fn activity(disks: &[Arc<SimDisk>]) -> (u64, u64) {
    let each = disks.iter().map(|disk| disk.activity());
    each.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
}

/// Bios that are given up at any point; then the device goes, and leaves nothing.
pub(super) fn idle(suite: &Suite, seed: u64) -> Result<(), String> {
    let rig = suite.start(seed)?;
    let mut rng = Rng::new(seed);
    let steps = rig.steps(&mut rng, 24);
    give_up(&rig, &steps, &mut rng)?;
    rig.sent.verdict()?;
    rig.read_back()?;
    let suspend = Command::DevSuspend { id: id(0), held: Held::Flush };
    let suspended = rig.world.sim.try_block_on(rig.world.control.execute(suspend));
    let suspended = suspended.map_err(|stuck| format!("a suspend never ends: {stuck}"))?;
    suspended.map_err(|failure| failure.to_string())?;
    rig.drained()?;
    if rig.device.in_flight() > 0 {
        return Err(format!("{} bios are in flight for ever", rig.device.in_flight()));
    }
    let remove = Command::DevRemove { id: id(0), open: WhenOpen::Refuse };
    rig.world.execute(remove).map_err(|failure| format!("remove: {failure}"))?;
    let Rig { world, disks, device, .. } = rig;
    drop(device);
    if let Some(disk) = disks.iter().find(|disk| disk.open_count() > 0) {
        return Err(format!("{} is open with no device left", disk.name()));
    }
    drop(world);
    Ok(())
}

fn give_up(rig: &Rig, steps: &[BioStep], rng: &mut Rng) -> Result<(), String> {
    let latch = Arc::new(Latch::new(steps.len()));
    for step in steps {
        let (sent, device, handle) = (rig.sent.clone(), rig.device.clone(), rig.world.handle());
        let (latch, patience, step) = (latch.clone(), rng.below(8), step.clone());
        rig.world.sim.start("gives up", async move {
            let turns = Box::pin(async move {
                for _ in 0..patience {
                    handle.turn().await;
                }
            });
            match select(Box::pin(sent.send(device, step)), turns).await {
                Either::Left(_) | Either::Right(_) => latch.count(),
            }
        });
    }
    rig.wait(&latch)
}
