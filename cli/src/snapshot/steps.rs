//! The steps of a snapshot, and the way back from each.
//!
//! The origin's table moves to a device below it while the origin is suspended: two tables on the
//! same devices are never in use at once, whatever their targets keep in memory.

use std::sync::atomic::AtomicBool;

use sim_core::control::{Report, Slot};
use sim_core::{Access, DevNumber, KeyText, Sectors, TargetSpec};

use super::Machine;
use super::cow::Cow;
use super::{
    MADE_BY_US, ORIGIN, SNAPSHOT, State, clear, find, load, named, one, remove, report, resume,
    state, suspend,
};
use crate::fault::Fault;
use crate::machine::{create, go_on, unlike_any_other};
use crate::open::MAPPER;

/// What is to be done.
pub(super) struct Plan {
    /// The device that is to have a snapshot.
    pub(super) origin: String,
    pub(super) size: Sectors,
    pub(super) below: Below,
    /// The snapshot.
    pub(super) name: String,
    pub(super) access: Access,
    /// `PO` or `N`.
    pub(super) mode: &'static str,
    pub(super) cow: Cow,
}

/// The device whose old content snapshots keep.
pub(super) enum Below {
    /// The origin's table names it.
    There(DevNumber),
    /// It is to be made of the origin's table.
    Make(String),
}

/// What was done so far.
#[derive(Default)]
struct Done {
    /// The origin's table, keys and all, where it moves.
    table: Vec<TargetSpec>,
    below: bool,
    snapshot: bool,
    suspended: bool,
}

/// Takes the snapshot, or leaves everything as it was.
pub(super) fn carry_out(
    machine: &mut dyn Machine,
    plan: &Plan,
    interrupted: &AtomicBool,
) -> Result<(), Fault> {
    let mut done = Done::default();
    let Err(fault) = forward(machine, plan, &mut done, interrupted) else { return Ok(()) };
    let Plan { origin, .. } = plan;
    let undone = back(machine, plan, &done);
    Err(fault.undone(undone, format_args!("no snapshot was taken, and `{origin}` is as it was")))
}

fn forward(
    machine: &mut dyn Machine,
    plan: &Plan,
    done: &mut Done,
    interrupted: &AtomicBool,
) -> Result<(), Fault> {
    let Plan { origin, name, .. } = plan;
    if let Below::Make(below) = &plan.below {
        make_below(machine, plan, below, done)?;
    }
    create(machine, name, None)?;
    done.snapshot = true;
    let before = matches!(plan.below, Below::There(_));
    if before {
        // The device below is there: the store can be made while the origin runs.
        load_snapshot(machine, plan)?;
    }
    go_on(name, interrupted)?;
    suspend(machine, origin)?;
    done.suspended = true;
    if let Below::Make(below) = &plan.below {
        resume(machine, below)?;
        load_snapshot(machine, plan)?;
        let table = one(plan.size, ORIGIN, &format!("{MAPPER}{below}"));
        load(machine, origin, Access::ReadWrite, table)?;
    }
    resume(machine, name)?;
    if state(machine, name, SNAPSHOT)? == Some(State::Invalid) {
        return Err(Fault::new(name, "the snapshot became invalid at once"));
    }
    go_on(name, interrupted)?;
    resume(machine, origin)
}

/// Makes the device below with the origin's table, ready to be resumed.
fn make_below(
    machine: &mut dyn Machine,
    plan: &Plan,
    below: &str,
    done: &mut Done,
) -> Result<(), Fault> {
    let origin = &plan.origin;
    let table = report(machine, named(origin), Report::Table, Slot::Live, KeyText::Plain)?;
    let (status, table) = table.ok_or_else(|| Fault::new(origin, "no such device"))?;
    done.table = table;
    create(machine, below, Some(format!("{MADE_BY_US}{}", unlike_any_other(status.dev))))?;
    done.below = true;
    load(machine, below, Access::ReadWrite, done.table.clone())
}

fn load_snapshot(machine: &mut dyn Machine, plan: &Plan) -> Result<(), Fault> {
    let below = match &plan.below {
        Below::There(dev) => dev.to_string(),
        Below::Make(below) => format!("{MAPPER}{below}"),
    };
    let Cow { word, chunk, .. } = &plan.cow;
    let params = format!("{below} {word} {} {}", plan.mode, chunk.sectors());
    load(machine, &plan.name, plan.access, one(plan.size, SNAPSHOT, &params))
}

/// Undoes what was done. Each step is tried, whatever became of those before it; returns the first
/// fault.
fn back(machine: &mut dyn Machine, plan: &Plan, done: &Done) -> Result<(), Fault> {
    let Plan { origin, name, .. } = plan;
    let mut result = Ok(());
    let mut suspended = done.suspended;
    if let (true, Below::Make(below)) = (done.suspended, &plan.below) {
        // The origin's new table keeps the device below open.
        result = result.and(clear(machine, origin));
        let live = find(machine, origin);
        if live.is_ok_and(|live| live.is_some_and(|live| live.origin_of().is_some())) {
            // It is in use already: the two tables change places the other way round.
            result = result.and(load(machine, origin, Access::ReadWrite, done.table.clone()));
            result = result.and(suspend(machine, below));
            result = result.and(resume(machine, origin));
            suspended = false;
        }
    }
    if done.snapshot {
        result = result.and(remove(machine, name));
    }
    if let (true, Below::Make(below)) = (done.below, &plan.below) {
        result = result.and(remove(machine, below));
    }
    if suspended {
        result = result.and(resume(machine, origin));
    }
    result = result.and(plan.cow.undo());
    result
}
