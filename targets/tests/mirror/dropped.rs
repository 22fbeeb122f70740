//! Whoever waits for a mirror may give up: closes, suspends and resumes that are dropped at any
//! point leave nothing half done.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};

use sim_core::control::{Command, Control, Slot};
use sim_core::{Bio, Errno, Held, Op, Runtime, Sector, Sectors, parse_table};
use testkit::{Handle, Rng, World, each_seed, id, send};

use crate::rig::{Case, Rig, Step, steps};

/// Carries out a part of a future: all of it, or as much as these turns allow.
async fn give_up<T>(handle: &Handle, turns: u32, future: impl Future<Output = T>) -> Option<T> {
    let patience = async {
        for _ in 0..turns {
            handle.turn().await;
        }
    };
    match select(Box::pin(future), Box::pin(patience)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

async fn change(control: &Arc<Control>, handle: &Handle, rng: &mut Rng, command: Command) {
    let turns = [rng.below(4), rng.below(60), 100_000][rng.below(3)] as u32;
    if let Some(result) = give_up(handle, turns, control.execute(command)).await {
        result.expect("a suspend or a resume ends well");
    }
}

fn run(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let case = Case {
        legs: 2 + rng.below(2),
        len: 32,
        region: 4,
        disk_log: rng.below(3) > 0,
        features: "",
        in_sync: rng.below(2) == 0,
    };
    let rig = Rig::new(&case, seed);
    // Writes that are given up are what a close has to mend.
    let (mut steps, gives_up) = (steps(&mut rng, case.len, 24, 6), rng.below(2) == 0);
    for step in &mut steps {
        match step {
            Step::Bio(bio) if gives_up && bio.op == Op::Write && rng.below(2) == 0 => {
                *step = Step::GiveUp(bio.clone(), rng.below(12) as u32);
            }
            Step::GiveUp(bio, _) if !gives_up => *step = Step::Bio(bio.clone()),
            Step::Close => *step = Step::Rest { ms: 1 },
            _ => {}
        }
    }
    let started = rig.start(&steps, 3);
    let (device, handle, control) =
        (rig.device.clone(), rig.world.handle(), rig.world.control.clone());
    let changes = rig.world.sim.start("changes", async move {
        let held = Held::Flush;
        for _ in 0..12 {
            for _ in 0..rng.below(12) {
                handle.turn().await;
            }
            match rng.below(6) {
                0..=2 => {
                    handle.sleep(Duration::from_millis(1)).await;
                    give_up(&handle, rng.below(30) as u32, device.closed()).await;
                }
                3 | 4 => {
                    let suspend = Command::DevSuspend { id: id(0), held };
                    change(&control, &handle, &mut rng, suspend).await;
                }
                _ => {
                    let resume = Command::DevResume { id: id(0), held };
                    change(&control, &handle, &mut rng, resume).await;
                }
            }
        }
        let resume = Command::DevResume { id: id(0), held };
        control.execute(resume).await.expect("a resume ends well");
    });
    rig.idle()?;
    if !changes.is_done() || !started.iter().all(|task| task.is_done()) {
        return Err(format!("{} wait for ever", rig.world.sim.waiting().join(", ")));
    }
    // A write that is given up as its region is being marked leaves the mark to the next.
    if gives_up {
        rig.sent.verdict()?;
        rig.read_back()?;
        return rig.legs_are_equal();
    }
    at_rest(&rig)
}

#[test]
fn closes_suspends_and_resumes_that_are_dropped_leave_nothing_half_done() {
    each_seed("-p dmsim-targets --test mirror dropped", 400, run);
}

/// As [`run`], with nobody in the way: suspends that are dropped one after the other, while regions
/// are copied and made clean.
fn suspends(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let (disk_log, in_sync) = (rng.below(3) > 0, rng.below(2) == 0);
    let case = Case { legs: 2, len: 32, region: 4, disk_log, features: "", in_sync };
    let rig = Rig::new(&case, seed);
    for _ in 0..6 {
        let steps = steps(&mut rng, case.len, 3, 6);
        let (handle, control) = (rig.world.handle(), rig.world.control.clone());
        let (turns, after) = (rng.below(24) as u32, rng.below(24));
        let (sent, device) = (rig.sent.clone(), rig.device.clone());
        rig.world.sim.block_on(async move {
            for step in steps {
                if let Step::Bio(bio) = step {
                    let _judged_later = sent.clone().send(device.clone(), bio).await;
                }
            }
            for _ in 0..after {
                handle.turn().await;
            }
            let suspend = Command::DevSuspend { id: id(0), held: Held::Flush };
            give_up(&handle, turns, control.execute(suspend)).await;
        });
        if rig.device.is_suspended() {
            rig.world.resume(0).map_err(|failure| failure.to_string())?;
        }
        if rng.below(2) == 0 {
            at_rest(&rig)?;
        }
    }
    at_rest(&rig)
}

/// Waits until nothing goes on any more; then all legs are equal, and the log knows.
fn at_rest(rig: &Rig) -> Result<(), String> {
    rig.idle()?;
    rig.sent.verdict()?;
    rig.read_back()?;
    let count = rig.case.len.div_ceil(rig.case.region);
    if !rig.status().contains(&format!(" {count}/{count} 1 AA")) {
        return Err(format!("out of sync and idle: {}", rig.status()));
    }
    rig.legs_are_equal()?;
    if rig.case.disk_log {
        let clean = rig.disks[rig.case.log_disk()].look(Sector(2), Sectors(1), |bits| bits[0]);
        if clean != 0xff {
            return Err(format!("regions are dirty, and nobody makes them clean: {clean:08b}"));
        }
    }
    Ok(())
}

#[test]
fn suspends_that_are_dropped_leave_the_background_at_work() {
    each_seed("-p dmsim-targets --test mirror dropped", 400, suspends);
}

/// One target of a table has ended its part of the suspend when another's is given up.
#[test]
fn a_suspend_that_is_given_up_leaves_no_target_suspended() {
    const CRYPT: &str = "0 32 crypt aes-xts-plain64 \
        00112233445566778899aabbccddeeff00112233445566778899aabbccddeefe 0 a 64";
    const SNAPSHOT: &str = "32 32 snapshot b c P 8";
    const MIRROR: &str = "64 32 mirror disk 3 d 4 nosync 2 a 0 b 64";
    let mut given_up = 0;
    for seed in 0..60 {
        let turns = seed as u32 % 6;
        let world = World::new(seed, targets::registry());
        (0..4).for_each(|_| drop(world.add_disk(Sectors(128))));
        let device = world.set_up(0, &format!("{CRYPT}\n{SNAPSHOT}\n{MIRROR}"));
        let write = Bio::write(Sector(70), &[7; 512]);
        assert_eq!(world.sim.block_on(send(device.clone(), write)), Ok(()));
        let (handle, control) = (world.handle(), world.control.clone());
        world.sim.block_on(async move {
            let suspend = Command::DevSuspend { id: id(0), held: Held::Flush };
            give_up(&handle, turns, control.execute(suspend)).await;
        });
        if device.is_suspended() {
            continue;
        }
        given_up += 1;
        let (sector, slot) = (Sector(0), Slot::Live);
        let wipe = Command::TargetMsg { id: id(0), sector, message: "key wipe".into(), slot };
        assert_eq!(world.execute(wipe).map_err(|failure| failure.errno).err(), Some(Errno::INVAL));
        world.create(1).expect("another device");
        let lines = parse_table(&SNAPSHOT.replace("32 32", "0 32")).expect("a line");
        world.load(1, lines.into_iter().map(|(_, spec)| spec).collect()).expect("a second table");
        let taken_over = world.resume(1).map(drop).map_err(|failure| failure.errno);
        assert_eq!(taken_over, Err(Errno::INVAL), "the store is in use, after {turns} turns");
    }
    assert!(given_up > 5, "{given_up}");
}
