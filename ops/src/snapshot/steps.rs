//! The steps of a snapshot, and the way back from each.
//!
//! The origin's table moves to a device below it while the origin is suspended: two tables on the
//! same devices are never in use at once, whatever their targets keep in memory.

use daemon::Fault;
use sim_core::control::{Report, Slot};
use sim_core::{Access, DevNumber, KeyText, Sectors, TargetSpec};
use targets::lines::snapshot::{Status, StoreKind};
use targets::lines::{self, DeviceWord};

use super::cow::Cow;
use super::state::MADE_BY_US;
use super::state::{ORIGIN, SNAPSHOT, state};
use crate::commands::{clear, create, load, one, remove, resume, suspend, unlike_any_other};
use crate::device_mapper::DeviceMapper;
use crate::devices::{find, named, report};
use crate::watch::{Watch, go_on};
use crate::words::MAPPER;

/// What is to be done.
pub(super) struct Plan {
    /// The device that is to have a snapshot.
    pub(super) origin: String,
    pub(super) size: Sectors,
    pub(super) below: Below,
    /// The snapshot.
    pub(super) name: String,
    pub(super) access: Access,
    pub(super) store: StoreKind,
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
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let mut done = Done::default();
    let Err(fault) = forward(dm, plan, &mut done, watch) else { return Ok(()) };
    let Plan { origin, .. } = plan;
    let undone = back(dm, plan, &done);
    Err(fault.undone(undone, format_args!("no snapshot was taken, and `{origin}` is as it was")))
}

fn forward(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    done: &mut Done,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let Plan { origin, name, .. } = plan;
    if let Below::Make(below) = &plan.below {
        make_below(dm, plan, below, done)?;
    }
    create(dm, name, None)?;
    done.snapshot = true;
    let before = matches!(plan.below, Below::There(_));
    if before {
        // The device below is there: the store can be made while the origin runs.
        load_snapshot(dm, plan)?;
    }
    go_on(name, watch)?;
    suspend(dm, origin)?;
    done.suspended = true;
    if let Below::Make(below) = &plan.below {
        resume(dm, below)?;
        load_snapshot(dm, plan)?;
        let table = one(plan.size, ORIGIN, &DeviceWord(format!("{MAPPER}{below}")).to_string());
        load(dm, origin, Access::ReadWrite, table)?;
    }
    resume(dm, name)?;
    if state(dm, name, SNAPSHOT)? == Some(Status::Invalid) {
        return Err(Fault::new(name, "the snapshot became invalid at once"));
    }
    go_on(name, watch)?;
    resume(dm, origin)
}

/// Makes the device below with the origin's table, ready to be resumed.
fn make_below(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    below: &str,
    done: &mut Done,
) -> Result<(), Fault> {
    let origin = &plan.origin;
    let table = report(dm, named(origin), Report::Table, Slot::Live, KeyText::Plain)?;
    let (status, table) = table.ok_or_else(|| Fault::new(origin, "no such device"))?;
    done.table = table;
    create(dm, below, Some(format!("{MADE_BY_US}{}", unlike_any_other(status.dev))))?;
    done.below = true;
    load(dm, below, Access::ReadWrite, done.table.clone())
}

fn load_snapshot(dm: &mut dyn DeviceMapper, plan: &Plan) -> Result<(), Fault> {
    let origin = match &plan.below {
        Below::There(dev) => (*dev).into(),
        Below::Make(below) => DeviceWord(format!("{MAPPER}{below}")),
    };
    let line = lines::snapshot::Line {
        origin,
        cow: plan.cow.word.clone(),
        store: plan.store,
        chunk: Some(plan.cow.chunk),
        features: lines::snapshot::Features::default(),
    };
    load(dm, &plan.name, plan.access, one(plan.size, SNAPSHOT, &line.to_string()))
}

/// Undoes what was done. Each step is tried, whatever became of those before it; returns the first
/// fault.
fn back(dm: &mut dyn DeviceMapper, plan: &Plan, done: &Done) -> Result<(), Fault> {
    let Plan { origin, name, .. } = plan;
    let mut result = Ok(());
    let mut suspended = done.suspended;
    if let (true, Below::Make(below)) = (done.suspended, &plan.below) {
        // The origin's new table keeps the device below open.
        result = result.and(clear(dm, origin));
        let live = find(dm, origin);
        if live.is_ok_and(|live| live.is_some_and(|live| live.origin_of().is_some())) {
            // It is in use already: the two tables change places the other way round.
            result = result.and(load(dm, origin, Access::ReadWrite, done.table.clone()));
            result = result.and(suspend(dm, below));
            result = result.and(resume(dm, origin));
            suspended = false;
        }
    }
    if done.snapshot {
        result = result.and(remove(dm, name));
    }
    if let (true, Below::Make(below)) = (done.below, &plan.below) {
        result = result.and(remove(dm, below));
    }
    if suspended {
        result = result.and(resume(dm, origin));
    }
    result = result.and(plan.cow.undo());
    result
}
