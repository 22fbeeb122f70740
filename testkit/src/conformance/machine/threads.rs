//! Bios from several threads at once, while another suspends, reloads and resumes.
//!
//! Under the seeded executor one task runs at a time, and others come in where it waits. What goes
//! wrong between two instructions, such as a counter that is read and then written, shows here alone.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use sim_core::control::{Command, WhenOpen};
use sim_core::{BlockDevice, Held, Runtime};

use super::super::rig::is_legal;
use super::super::suite::Suite;
use super::{Machine, PATIENCE, load};
use crate::traffic::BioStep;
use crate::{Legal, Rng, id, read_all};

/// How many tasks send bios.
const TASKS: usize = 4;

/// How many bios each of them sends.
const BIOS: usize = 60;

/// No bio is sent any more after this time: some targets have each wait.
const LASTS: Duration = Duration::from_secs(1);

/// The seed chooses disks and bios. The order is the machine's: a case that fails need not fail again.
pub(in super::super) fn threads(suite: &Suite, seed: u64) -> Result<(), String> {
    let (machine, device) = suite.machine(&suite.ground(seed), true)?;
    let sent = suite.new_traffic();
    let read = |what: &str| {
        let device = device.clone();
        machine.run(what, async move { read_all(device).await })?
    };
    if sent.is_storage() {
        let legal = Legal::new(&read("the first read")?);
        sent.adopt(legal.in_blocks_of(device.limits().logical_block().0));
    }
    let (mut rng, shape) = (Rng::new(seed), suite.shape(seed));
    let (size, limits) = (device.size().0, device.limits());
    let count = TASKS * BIOS * shape.times;
    let steps: Vec<BioStep> = (0..count).map(|_| shape.step(&mut rng, size, &limits)).collect();
    let (done, ended) = channel();
    for task in 0..TASKS {
        let own: Vec<BioStep> = steps.iter().skip(task).step_by(TASKS).cloned().collect();
        let (sent, device, done) = (sent.clone(), device.clone(), done.clone());
        machine.runtime.spawn(Box::pin(async move {
            let mut failed = None;
            let began = Instant::now();
            for step in own {
                if began.elapsed() > LASTS {
                    break;
                }
                failed = sent.clone().send(device.clone(), step).await.err().or(failed);
            }
            // Whoever has lost patience does not listen any more.
            let _unheard = done.send(failed);
        }));
    }
    drop(done);
    let moved = moves(suite, &machine, &mut rng);
    let deadline = Instant::now() + PATIENCE;
    let mut failed = None;
    for _ in 0..TASKS {
        match ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(error) => failed = failed.or(error),
            Err(RecvTimeoutError::Timeout) => {
                // Where a command has failed, that is why bios wait.
                moved?;
                let bios = sent.under_way();
                return Err(format!("a bio never ends, after {PATIENCE:?}\n  under way: {bios}"));
            }
            Err(RecvTimeoutError::Disconnected) => {
                machine.verdict()?;
                return Err("a task that sends bios panicked".to_owned());
            }
        }
    }
    machine.verdict()?;
    moved?;
    if let (Some(error), true) = (failed, sent.is_storage()) {
        return Err(format!("a bio failed though no I/O below did: {error}"));
    }
    sent.verdict()?;
    if let Some(legal) = sent.legal() {
        is_legal(&legal, &read("the last read")?)?;
    }
    drop(device);
    leaves_nothing(&machine)
}

/// Suspends, reloads and resumes, at any time.
fn moves(suite: &Suite, machine: &Machine, rng: &mut Rng) -> Result<(), String> {
    for _ in 0..3 {
        for _ in 0..rng.below(400) {
            std::thread::yield_now();
        }
        let held = [Held::Flush, Held::NoFlush][rng.below(2)];
        machine.execute(Command::DevSuspend { id: id(0), held })?;
        let pending: u64 = machine.disks.iter().map(|disk| disk.in_flight()).sum();
        if pending > 0 {
            return Err(format!("{pending} I/Os are in flight below a suspended device"));
        }
        if rng.below(2) == 0 {
            machine.execute(load(0, &suite.table)?)?;
        }
        machine.execute(Command::DevResume { id: id(0), held })?;
    }
    Ok(())
}

fn leaves_nothing(machine: &Machine) -> Result<(), String> {
    machine.execute(Command::DevSuspend { id: id(0), held: Held::Flush })?;
    machine.execute(Command::DevRemove { id: id(0), open: WhenOpen::Refuse })?;
    machine.verdict()?;
    match machine.disks.iter().find(|disk| disk.open_count() > 0) {
        Some(disk) => Err(format!("{} is open with no device left", disk.name())),
        None => Ok(()),
    }
}
