//! Waits until all legs of a set have everything.

use std::time::Duration;

use daemon::Fault;
use targets::lines::raid::{Action, Family, LegHealth, Status};

use super::advice;
use super::state::{Line, look, set};
use crate::device_mapper::DeviceMapper;
use crate::devices::find;
use crate::watch::{INTERRUPTED, Look, Stillness, Watch, until_done};

/// How it stands where a set was removed under a command. What was copied its superblocks know.
pub(super) const KEPT: &str = "the set was removed meanwhile: its images keep what was done so far, and `dmsim raid \
                               assemble` of all of them goes on with it";

/// Where nothing went on for so long and something was left, nothing will.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until all legs of a set are in sync.
///
/// # Errors
/// Where it is no set, a leg is missing or fails, or `watch` interrupts the waiting.
pub fn wait(dm: &mut dyn DeviceMapper, name: &str, watch: &dyn Watch) -> Result<(), Fault> {
    let (device, line) = set(dm, name)?;
    until_synced(dm, device.name(), &line, &[], watch)
}

/// Waits until a set is in sync, but for legs that failed or are missing by now and are no matter.
pub(super) fn until_synced(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    besides: &[usize],
    watch: &dyn Watch,
) -> Result<(), Fault> {
    if line.kind.family() == Family::Raid0 {
        return Ok(());
    }
    let mut stillness = Stillness::default();
    let action = look(dm, name)?.map(|look| look.status.action);
    let what = if action == Some(Action::Reshape) { "reshape" } else { "resync" };
    let ended = until_done(&format!("{what} of {name}"), watch, || {
        let Some(look) = look(dm, name)? else {
            let why = if find(dm, name)?.is_none() { KEPT } else { "is no RAID set any more" };
            return Ok(Look::Failed(why.to_owned()));
        };
        if look.suspended {
            let why = format!("is suspended, and the {what} with it: `dmsim resume {name}`");
            return Err(Fault::new(name, why));
        }
        let status = look.status;
        // What goes on is waited for: a leg that is lost keeps no other from being filled.
        let lost = match status.action {
            Action::Idle | Action::Frozen => &status.legs[..],
            _ => &[],
        };
        let is_lost = |health: &LegHealth| matches!(health, LegHealth::Failed | LegHealth::Missing);
        let legs = lost.iter().enumerate();
        let mut gone = legs.filter(|(leg, health)| is_lost(health) && !besides.contains(leg));
        if let Some((leg, _)) = gone.next() {
            return Ok(Look::Failed(advice::of_leg(dm, name, &status, leg)?));
        }
        if is_over(&status) {
            return Ok(Look::Done);
        }
        if stillness.lasts(status.action == Action::Idle) > PATIENCE {
            return Ok(Look::Failed(format!(
                "legs are not in sync, and nothing is copied any more, as something could not be \
                 read: `dmsim heal {name}` tries again"
            )));
        }
        Ok(Look::Left(status.total.saturating_sub(status.done)))
    });
    ended.map_err(|fault| match fault.status {
        INTERRUPTED => Fault { why: format!("{}; the {what} goes on", fault.why), ..fault },
        _ => fault,
    })
}

/// Tells whether nothing is left to be copied.
fn is_over(status: &Status) -> bool {
    let behind = status.legs.contains(&LegHealth::Behind);
    status.action == Action::Idle && !behind && status.done == status.total
}
