//! Power cuts, and what comes after them: a recovery that is cut off or meets errors, and another
//! life of the device, which ends in a power cut too.

use std::sync::Arc;

use super::power::damage;
use super::rig::Rig;
use super::suite::Suite;
use crate::traffic::BioStep;
use crate::{
    Crash, Entry, Event, Explorer, Fault, FaultSpan, Legal, Plan, Rng, Schedule, Shape, SimDisk,
    Speed, World, story,
};

/// What is tried at each step of the first life, of a later one, and of a recovery.
const PLAN: Plan = Plan { listed: 6, random: 1, seed: 0 };
const LATER: Plan = Plan { listed: 3, random: 1, seed: 0 };

/// How many lives there are at most.
const LIVES: u32 = 3;

/// Stands for a life in which an I/O failed: nothing follows on it.
const LAST: u32 = LIVES + 1;

/// About how many states of a life are looked at: of the first, and of a later one.
const FIRST_STATES: u64 = 700;
const LATER_STATES: u64 = 50;
const STATES_AFTER_FAULT: u64 = 12;

/// The bios of a later life.
const BIOS: usize = 8;

/// What follows on the look at a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    /// The device is used again.
    IsUsed,
    /// The power fails during the recovery, at each step of it.
    IsCutOff,
    /// An I/O of the recovery fails, and then there is another.
    Fails,
    /// The device is used again until the power fails, at each step of that.
    LivesOn,
}

impl After {
    /// Deals what may follow out among the states of a life, the dear things seldom.
    fn of(count: u64, life: u32) -> After {
        match life {
            1 if count % 97 == 7 => After::LivesOn,
            1 if count % 5 == 1 => After::IsCutOff,
            1 if count.is_multiple_of(4) => After::IsUsed,
            2 if count % 23 == 7 => After::LivesOn,
            1..=LIVES if count % 9 == 2 => After::Fails,
            _ => After::Nothing,
        }
    }
}

/// Power cuts at every step of a run; returns how many states there were.
pub(super) fn crash(suite: &Suite, seed: u64) -> Result<u64, String> {
    let rig = suite.start(seed)?;
    let mut rng = Rng::new(seed);
    // Now and then a longer life, of which each step has fewer states.
    let steps = rig.steps(&mut rng, if seed % 4 == 3 { 30 } else { 12 });
    let mut legal = rig.sent.legal().unwrap_or_else(|| Legal::new(&[]));
    let begin: Vec<usize> = rig.disks.iter().map(|disk| disk.checkpoint()).collect();
    rig.disks.iter().for_each(|disk| disk.record(rig.sent.journal().clone()));
    rig.run_well(&steps, 1 + seed as usize % 3)?;
    let (disks, record) = (rig.disks.clone(), rig.sent.journal().take());
    let shape = rig.shape;
    drop(rig);
    rewind(&disks, &begin);
    let lives = Lives { suite, disks: &disks, shape, steps: &steps };
    lives.explore(&record, 0, Plan { seed, ..PLAN }, &mut legal, 1)
}

/// How many steps of a run are looked at after the first bio that failed.
const AFTER_FAULT: usize = 60;

/// Power cuts at some steps of a run in which an I/O failed: close after the first bio that did,
/// as what a target took for not done is soon written over.
pub(super) fn crash_after_fault(
    suite: &Suite,
    disks: &[Arc<SimDisk>],
    record: &[Entry],
    legal: &mut Legal,
    seed: u64,
) -> Result<(), String> {
    let lives = Lives { suite, disks, shape: Shape::default(), steps: &[] };
    let failed =
        |entry: &Entry| matches!(entry, Entry::Event { event: Event::End { ok: false, .. }, .. });
    let from = record.iter().position(failed).unwrap_or(0);
    let to = record.len().min(from + AFTER_FAULT);
    let plan = Plan { seed, ..LATER };
    lives.explore(&record[..to], from, plan, legal, LAST).map(drop)
}

pub(super) fn rewind(disks: &[Arc<SimDisk>], to: &[usize]) {
    disks.iter().zip(to).for_each(|(disk, at)| disk.rewind(*at));
}

/// The lives of one device.
struct Lives<'a> {
    suite: &'a Suite,
    disks: &'a [Arc<SimDisk>],
    shape: Shape,
    /// What its first life was.
    steps: &'a [BioStep],
}

impl Lives<'_> {
    /// Holds a restart after each power cut of a life against what is legal; returns how many there
    /// were, those of recoveries and of later lives among them. The record has the recovery that the
    /// life began with before `from`.
    fn explore(
        &self,
        record: &[Entry],
        from: usize,
        plan: Plan,
        legal: &mut Legal,
        life: u32,
    ) -> Result<u64, String> {
        let (mut count, mut later) = (0, 0);
        let most = match life {
            1 => FIRST_STATES,
            2..=LIVES => LATER_STATES,
            _ => STATES_AFTER_FAULT,
        };
        let states = (record.len() - from + 1) * (plan.listed + 2 * plan.random);
        let (one_of, mut rng) = (1 + states / most as usize, Rng::new(plan.seed));
        let explorer = Explorer::new(self.disks, record).from(from);
        let found = explorer.run(plan, legal, |crash, legal| {
            if rng.below(one_of) > 0 {
                return Ok(());
            }
            count += 1;
            let before: Vec<usize> = self.disks.iter().map(|disk| disk.checkpoint()).collect();
            let (ended, told) = (self.ended(), story::point());
            let rig = self.come_back(crash, None)?;
            let ios: Vec<u64> = self.ended().iter().zip(ended).map(|(now, b)| now - b).collect();
            rig.check_power_cut(legal)?;
            // Where the dealing begins is another for each seed.
            match After::of(count + plan.seed, life) {
                After::Nothing => {}
                After::IsUsed => use_again(&rig, crash).map_err(|w| format!("used again: {w}"))?,
                After::IsCutOff => {
                    let recovery = rig.sent.journal().take();
                    drop(rig);
                    if !recovery.is_empty() {
                        rewind(self.disks, &before);
                        later += self.cut_off(&recovery, legal)?;
                    }
                }
                After::Fails if self.suite.excepted("faults").is_none() => {
                    drop(rig);
                    rewind(self.disks, &before);
                    story::back_to(told);
                    self.fails(&ios, crash, legal)?;
                }
                After::Fails => {}
                After::LivesOn => {
                    let begun = events(&record[from..crash.at.max(from)]);
                    later += self.live_on(rig, crash, &before, begun, life + 1)?;
                }
            }
            Ok(())
        });
        found.map(|_| count + later)
    }

    /// Restarts, with an I/O of a disk failing; the record has what the restart writes.
    fn come_back(&self, crash: Crash, fault: Option<(usize, Fault)>) -> Result<Rig, String> {
        let schedule = Schedule::Random(crash.at as u64);
        self.disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let world = World::with(&schedule, self.suite.registry.clone(), self.disks);
        let sent = self.suite.new_traffic();
        self.disks.iter().for_each(|disk| disk.record(sent.journal().clone()));
        if let Some((disk, fault)) = fault {
            self.disks[disk].inject(fault);
        }
        self.suite.over(world, self.disks, sent, self.shape)
    }

    /// Returns how many I/Os each disk has ended.
    fn ended(&self) -> Vec<u64> {
        self.disks.iter().map(|disk| disk.activity().0).collect()
    }

    /// Cuts the power at each step of a recovery.
    fn cut_off(&self, recovery: &[Entry], legal: &Legal) -> Result<u64, String> {
        let again = Explorer::new(self.disks, recovery);
        let again = again.run(LATER, &mut legal.clone(), |crash, legal| {
            self.come_back(crash, None)?.check_power_cut(legal)
        });
        again.map_err(|why| format!("during the recovery, {why}"))
    }

    /// Makes one of so many I/Os of the recovery fail; then the device comes up again, with the
    /// power off meanwhile or not.
    fn fails(&self, ios: &[u64], crash: Crash, legal: &Legal) -> Result<(), String> {
        let mut rng = Rng::new(crash.at as u64 ^ 0xfa11);
        let disk = rng.below(ios.len());
        if ios[disk] == 0 {
            return Ok(());
        }
        let after = rng.number() % ios[disk];
        let fault = Fault::At { after, lasts: FaultSpan::Once, damage: damage(&mut rng) };
        let mut check = || {
            if let Ok(rig) = self.come_back(crash, Some((disk, fault)))
                && let Ok(content) = rig.content()
                && rig.sent.is_storage()
            {
                legal.check_power_cut(&content)?;
            }
            if rng.below(2) == 0 {
                story::heading(format_args!("the power fails, and what is volatile is lost"));
                self.disks.iter().for_each(|disk| disk.lose_cache());
            }
            let again = self.come_back(crash, None).and_then(|rig| rig.check_power_cut(legal));
            again.map_err(|why| format!("started once more, {why}"))
        };
        let what = |why| format!("with {fault:?} of disk {disk} during the recovery, {why}");
        check().map_err(what)
    }

    /// Uses the device until the power fails again; returns how many states there were.
    fn live_on(
        &self,
        rig: Rig,
        crash: Crash,
        to: &[usize],
        begun: usize,
        life: u32,
    ) -> Result<u64, String> {
        rig.adopt()?;
        let mut legal = rig.sent.legal().unwrap_or_else(|| Legal::new(&[]));
        let recovery = rig.sent.journal().len();
        let mut rng = Rng::new(crash.at as u64);
        // What was under way is done once more, as programs do: what is left of it lies close to
        // where the new data goes. Or something else is done.
        let from = begun.saturating_sub(1 + rng.below(4)).min(self.steps.len());
        let mut steps: Vec<BioStep> = self.steps[from..].iter().take(BIOS).cloned().collect();
        if steps.is_empty() || rng.below(3) == 0 {
            steps = rig.steps(&mut rng, BIOS);
        }
        story::heading(format_args!("life {life}: it is used again"));
        let ran = rig.run_well(&steps, 1);
        ran.map_err(|why| format!("in life {life}: {why}"))?;
        let record = rig.sent.journal().take();
        drop(rig);
        rewind(self.disks, to);
        let plan = Plan { seed: rng.number() >> 48, ..LATER };
        let found = self.explore(&record, recovery, plan, &mut legal, life);
        found.map_err(|why| format!("in life {life}, {why}"))
    }
}

/// Counts the bios that were submitted.
fn events(record: &[Entry]) -> usize {
    let submitted = |entry: &&Entry| {
        matches!(entry, Entry::Event { event: Event::Write { .. } | Event::Flush { .. }, .. })
    };
    record.iter().filter(submitted).count()
}

/// Writes here and there, and looks whether that has changed anything else.
fn use_again(rig: &Rig, crash: Crash) -> Result<(), String> {
    story::heading(format_args!("it is used again"));
    rig.adopt()?;
    let mut rng = Rng::new(crash.at as u64);
    let steps = rig.steps(&mut rng, 6);
    rig.run_well(&steps, 1)?;
    rig.read_back()
}
