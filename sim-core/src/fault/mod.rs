//! Faults on demand: which bios of a device in use go wrong, and how.
//!
//! A [`FaultPlan`] is a list of rules. It is armed at a mapped device, for whoever uses that, or between a
//! mapped device and one below, for what its tables send there. Nothing here is asked as long as
//! no plan is armed: the flattened map leads past, and a plan takes it away.

mod armed;
mod carry;
mod plan;
mod report;
mod rule;
mod units;

pub(crate) use armed::{FaultSlot, Faults};
pub(crate) use carry::Onward;
pub use plan::{FaultPlan, MAX_FAULT_RULES, RuleError};
pub use report::{Fate, FaultReport, MAX_STRIKES, RuleCount, Strike, Struck};
pub(crate) use rule::FaultPlace;
pub use rule::{FaultKind, FaultOp, FaultRule, MAX_BITS, MAX_DELAY_MS};
pub use units::{FaultRate, Seconds};
