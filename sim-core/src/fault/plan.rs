//! A list of rules, and what is wrong with it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rule::{FaultKind, FaultOp, FaultPlace, FaultRule, MAX_BITS, MAX_DELAY_MS};
use crate::{Fails, Sector, Sectors};

/// The most rules in a plan: each bio is held against all of them.
pub const MAX_FAULT_RULES: usize = 1024;

/// Which bios go wrong on purpose.
///
/// Every rule that fits a bio counts it; the first that strikes decides, and those after it do not
/// strike that one. The same seed and the same bios in the same order give the same faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPlan {
    /// What all that is left to chance follows from; chosen when the plan is armed where this is left out.
    pub seed: Option<u64>,
    /// The rules.
    pub rules: Vec<FaultRule>,
}

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The rule, counted from 1; none where it is about the plan.
    pub rule: Option<usize>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            Some(rule) => write!(f, "rule {rule}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

impl FaultPlan {
    /// Returns the plan that a failure is: one rule, which is about all that it says.
    pub(crate) fn of_fails(fails: Fails) -> Option<FaultPlan> {
        let on = match fails {
            Fails::Nothing => return None,
            Fails::All | Fails::ByPlan => Vec::new(),
            Fails::Reads => vec![FaultOp::Reads],
            Fails::Writes => vec![FaultOp::Writes, FaultOp::Flushes, FaultOp::Discards],
        };
        let rule = FaultRule { on, ..FaultRule::new(FaultKind::Error) };
        Some(FaultPlan { seed: Some(0), rules: vec![rule] })
    }

    /// Tells which failure the plan is, if it is one.
    pub(crate) fn fails(&self) -> Fails {
        [Fails::All, Fails::Reads, Fails::Writes]
            .into_iter()
            .find(|fails| FaultPlan::of_fails(*fails).is_some_and(|plan| plan.rules == self.rules))
            .unwrap_or(Fails::ByPlan)
    }

    /// Looks for what no device could do.
    ///
    /// # Errors
    /// Says which rule is wrong, and what of it.
    pub fn check(&self) -> Result<(), RuleError> {
        let whole = |why: String| Err(RuleError { rule: None, why });
        match self.rules.len() {
            0 => return whole("expected a rule, found none".to_owned()),
            many if many > MAX_FAULT_RULES => {
                return whole(format!("expected {MAX_FAULT_RULES} rules at most, found {many}"));
            }
            _ => {}
        }
        self.each(FaultRule::check)
    }

    /// Looks for what this device cannot do.
    pub(super) fn check_for(&self, place: FaultPlace) -> Result<(), RuleError> {
        self.each(|rule| rule.check_for(place))
    }

    fn each(&self, check: impl Fn(&FaultRule) -> Result<(), String>) -> Result<(), RuleError> {
        for (rule, at) in self.rules.iter().zip(1..) {
            check(rule).map_err(|why| RuleError { rule: Some(at), why })?;
        }
        Ok(())
    }
}

impl FaultRule {
    fn check(&self) -> Result<(), String> {
        let kind = self.kind.word();
        if let Some(op) = self.on.iter().find(|op| !self.kind.possible().contains(op)) {
            let words = |ops: &[FaultOp]| ops.iter().map(|op| op.word()).collect::<Vec<_>>();
            let possible = words(self.kind.possible()).join(", ");
            return Err(format!(
                "on: expected some of {possible} for `{kind}`, found `{}`",
                op.word()
            ));
        }
        let is_flushes = self.ops().iter().all(|op| *op == FaultOp::Flushes);
        if self.start.is_some() && is_flushes {
            return Err("start: flushes have no sectors".to_owned());
        }
        if self.len.is_some() && self.start.is_none() {
            return Err("len: expected a start, too".to_owned());
        }
        let counts = [
            ("len", self.len.map(|len| len.0)),
            ("nth", self.nth),
            ("times", self.times),
            ("bits", self.bits.map(u64::from)),
            ("delay_ms", self.delay_ms),
        ];
        if let Some((field, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
            return Err(format!("{field}: expected 1 or more, found 0"));
        }
        if self.for_s.is_some_and(|lasts| lasts.duration().is_zero()) {
            return Err("for_s: expected some time, found 0".to_owned());
        }
        if let Some(delay) = self.delay_ms.filter(|delay| *delay > MAX_DELAY_MS) {
            return Err(format!("delay_ms: expected {MAX_DELAY_MS} at most, found {delay}"));
        }
        if let Some(bits) = self.bits.filter(|bits| *bits > MAX_BITS) {
            return Err(format!("bits: expected {MAX_BITS} at most, found {bits}"));
        }
        if self.kind == FaultKind::Slow && self.delay_ms.is_none() {
            return Err("delay_ms: expected for `slow`".to_owned());
        }
        let of = |field, is_there: bool, kinds: &[FaultKind]| match is_there
            && !kinds.contains(&self.kind)
        {
            true => Err(format!("{field}: not for `{kind}`")),
            false => Ok(()),
        };
        of("done", self.done.is_some(), &[FaultKind::Short, FaultKind::Torn])?;
        of("to", self.to.is_some(), &[FaultKind::Misdirected])?;
        of("bits", self.bits.is_some(), &[FaultKind::Flip])
    }

    fn check_for(&self, place: FaultPlace) -> Result<(), String> {
        let FaultPlace { size, block } = place;
        if let Some((start, len)) = self.range()
            && start.checked_add(len).is_none_or(|end| end.0 > size.0)
        {
            return Err(format!(
                "start, len: {start}+{len} is not within the device's {size} sectors"
            ));
        }
        if let Some(to) = self.to.filter(|to| to.0 >= size.0) {
            return Err(format!("to: {to} is not on the device, which has {size} sectors"));
        }
        let whole = [("to", self.to.map(|Sector(to)| to)), ("done", self.done.map(|Sectors(n)| n))];
        for (field, sectors) in whole {
            if let Some(found) = sectors.filter(|sectors| sectors % block != 0) {
                return Err(format!(
                    "{field}: expected a multiple of the device's block of {block} sectors, found {found}"
                ));
            }
        }
        Ok(())
    }
}
