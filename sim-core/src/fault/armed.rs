//! A plan in force: what it says of each bio, and what it has said so far.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::select;

use super::plan::{FaultPlan, RuleError};
use super::report::{Fate, FaultReport, MAX_STRIKES, RuleCount, Strike, Struck};
use super::rule::{FaultPlace, FaultRule};
use super::units::Seconds;
use crate::{Bio, DevNumber, Fails, Rng, Runtime, Signal};

/// Where a plan is armed; empty most of the time, which costs whoever asks one look.
#[derive(Default)]
pub(crate) struct FaultSlot {
    is_armed: AtomicBool,
    faults: Mutex<Option<Arc<Faults>>>,
}

/// A plan in force.
pub(crate) struct Faults {
    plan: FaultPlan,
    seed: u64,
    runtime: Arc<dyn Runtime>,
    armed_at: Duration,
    counts: Mutex<Counts>,
    /// Bios are held that are to be late.
    holds: AtomicBool,
    let_go: Signal,
}

#[derive(Default)]
struct Counts {
    bios: u64,
    rules: Vec<RuleCount>,
    strikes: VecDeque<Strike>,
}

impl FaultSlot {
    /// Tells whether a plan is armed.
    pub(crate) fn is_armed(&self) -> bool {
        self.is_armed.load(Relaxed)
    }

    /// Returns the plan that is armed.
    pub(crate) fn armed(&self) -> Option<Arc<Faults>> {
        if self.is_armed() { lock(&self.faults).clone() } else { None }
    }

    /// Arms a plan, or none; returns the one before, which holds no bio any more.
    pub(crate) fn set(&self, faults: Option<Arc<Faults>>) -> Option<Arc<Faults>> {
        let mut slot = lock(&self.faults);
        self.is_armed.store(faults.is_some(), Relaxed);
        let old = std::mem::replace(&mut *slot, faults);
        drop(slot);
        old.iter().for_each(|old| old.hold(false));
        old
    }

    /// Says whether bios are held that are to be late; those that are held go where not.
    pub(crate) fn hold(&self, holds: bool) {
        self.armed().iter().for_each(|faults| faults.hold(holds));
    }
}

impl Faults {
    /// Arms a plan for a device of this size and block.
    pub(crate) fn new(
        plan: FaultPlan,
        place: FaultPlace,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Arc<Faults>, RuleError> {
        plan.check()?;
        plan.check_for(place)?;
        // Short enough for whoever reads JSON into a floating-point number, and for a person.
        let seed = plan.seed.unwrap_or_else(|| runtime.random() >> 32);
        let rules = vec![RuleCount::default(); plan.rules.len()];
        let counts = Mutex::new(Counts { rules, ..Counts::default() });
        let (armed_at, holds) = (runtime.now(), AtomicBool::new(true));
        let plan = FaultPlan { seed: Some(seed), ..plan };
        Ok(Arc::new(Faults {
            plan,
            seed,
            runtime,
            armed_at,
            counts,
            holds,
            let_go: Signal::default(),
        }))
    }

    /// Tells which failure the plan is.
    pub(crate) fn fails(&self) -> Fails {
        self.plan.fails()
    }

    /// Counts its rules.
    pub(crate) fn rule_count(&self) -> usize {
        self.plan.rules.len()
    }

    /// Says what the plan has done.
    pub(crate) fn report(&self, below: Option<DevNumber>) -> FaultReport {
        let counts = lock(&self.counts);
        FaultReport {
            below,
            plan: self.plan.clone(),
            armed_s: self.since_armed(),
            bio_count: counts.bios,
            rules: counts.rules.clone(),
            strikes: counts.strikes.iter().copied().collect(),
        }
    }

    fn since_armed(&self) -> Seconds {
        self.runtime.now().saturating_sub(self.armed_at).into()
    }

    /// Counts a bio; says what becomes of it where a rule strikes, and how long it is held before.
    pub(super) fn strike(
        &self,
        bio: &Bio<'_>,
        place: FaultPlace,
    ) -> Option<(Option<Duration>, Fate)> {
        let at_s = self.since_armed();
        let mut counts = lock(&self.counts);
        counts.bios += 1;
        let mut struck = None;
        for (index, rule) in self.plan.rules.iter().enumerate() {
            if !rule.fits(bio) || !rule.is_on(at_s) {
                continue;
            }
            let count = &mut counts.rules[index];
            count.fit_count += 1;
            if struck.is_some() || !is_due(rule, count) {
                continue;
            }
            let mut rng = self.rng(index, count.fit_count);
            if rule.rate.is_none_or(|rate| rate.strikes(rng.number())) {
                count.struck_count += 1;
                struck = Some((index, rule, rule.fate(bio, place, &mut rng)));
            }
        }
        let (index, rule, fate) = struck?;
        if counts.strikes.len() == MAX_STRIKES {
            counts.strikes.pop_front();
        }
        let op = Struck::of(bio.op(), bio.flags.fua);
        let (start, len) = (bio.sector, bio.len());
        counts.strikes.push_back(Strike { rule: index + 1, at_s, op, start, len, fate });
        Some((rule.delay_ms.map(Duration::from_millis), fate))
    }

    /// Returns what decides for the bio that fits a rule as the `count`th: the same whatever other rules do.
    fn rng(&self, rule: usize, count: u64) -> Rng {
        let of_rule = Rng::mix(self.seed.wrapping_add(Rng::mix(rule as u64 + 1)));
        Rng::new(Rng::mix(of_rule.wrapping_add(count)))
    }

    /// Holds a bio for a time, or until all are let go.
    pub(super) async fn delay(&self, time: Duration) {
        let let_go = || (!self.holds.load(Relaxed)).then_some(());
        if let_go().is_none() {
            let let_go = Box::pin(self.let_go.until(let_go));
            select(self.runtime.sleep(time), let_go).await;
        }
    }

    fn hold(&self, holds: bool) {
        self.holds.store(holds, Relaxed);
        if !holds {
            self.let_go.notify();
        }
    }
}

fn is_due(rule: &FaultRule, count: &RuleCount) -> bool {
    rule.nth.is_none_or(|nth| count.fit_count >= nth)
        && rule.times.is_none_or(|times| count.struck_count < times)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
