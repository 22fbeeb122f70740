//! What tasks do to a device that keeps several copies.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::select;
use sim_core::{BlkError, Flags, MappedDevice, Op, Runtime};
use testkit::{BioStep, Rng, Started, Traffic, World};

/// Bios that failed.
pub(crate) type Errors = Arc<Mutex<Vec<(BioStep, BlkError)>>>;

/// Something that a task does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Bio(BioStep),
    /// A bio that is dropped after so many turns, if it has not ended by then.
    GiveUp(BioStep, u32),
    /// Regions become clean meanwhile, or are about to.
    Rest {
        ms: u64,
    },
    /// Somebody closes the device.
    Close,
}

pub(crate) const FLUSH: BioStep = BioStep { op: Op::Flush, sector: 0, len: 0, flags: NO_FLAGS };

const NO_FLAGS: Flags = Flags { fua: false, preflush: false, nowait: false, readahead: false };

/// Makes steps with bios of up to `most` sectors.
pub(crate) fn steps(rng: &mut Rng, size: u64, count: usize, most: u64) -> Vec<Step> {
    let step = |_| {
        let sector = rng.below(size as usize) as u64;
        let len = 1 + rng.below((size - sector).min(most) as usize) as u64;
        let bio = |op, fua| BioStep { op, sector, len, flags: Flags { fua, ..NO_FLAGS } };
        match rng.below(16) {
            0..=8 => Step::Bio(bio(Op::Write, rng.below(4) == 0)),
            9..=11 => Step::Bio(bio(Op::Read, false)),
            12 => Step::Bio(FLUSH),
            14 if rng.below(2) == 0 => Step::Close,
            13 => Step::GiveUp(bio(Op::Write, false), rng.below(5) as u32),
            // The first wakes up together with who makes regions clean.
            _ => Step::Rest { ms: [200, 450][rng.below(2)] },
        }
    };
    (0..count).map(step).collect()
}

/// Starts tasks that deal the steps out among themselves.
pub(crate) fn start(
    world: &World,
    device: &Arc<MappedDevice>,
    sent: &Arc<Traffic>,
    errors: &Errors,
    steps: &[Step],
    tasks: usize,
) -> Vec<Started<()>> {
    let start = |task: usize| {
        let own: Vec<Step> = steps.iter().skip(task).step_by(tasks).cloned().collect();
        let (sent, errors) = (sent.clone(), errors.clone());
        let (device, handle) = (device.clone(), world.handle());
        world.sim.start(format!("task {task}"), async move {
            for step in own {
                match step {
                    Step::Close => device.closed().await,
                    Step::Rest { ms } => handle.sleep(Duration::from_millis(ms)).await,
                    Step::GiveUp(bio, turns) => {
                        let patience = async {
                            for _ in 0..turns {
                                handle.turn().await;
                            }
                        };
                        let bio = sent.clone().send(device.clone(), bio);
                        drop(select(Box::pin(bio), Box::pin(patience)).await);
                    }
                    Step::Bio(bio) => {
                        let sent = sent.clone().send(device.clone(), bio.clone());
                        if let Err(error) = sent.await {
                            errors
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push((bio, error));
                        }
                    }
                }
            }
        })
    };
    (0..tasks).map(start).collect()
}
