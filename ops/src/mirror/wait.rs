//! `dmsim wait --sync`: waits until all legs of a mirror have everything.

use std::time::Duration;

use daemon::Fault;
use sim_core::control::Slot;
use targets::lines::DeviceWord;
use targets::lines::mirror::{LegHealth, Status};

use super::state::{Line, mirror, status};
use crate::commands::message;
use crate::device_mapper::DeviceMapper;
use crate::devices::find;
use crate::watch::{INTERRUPTED, Look, Stillness, Watch, until_done};

/// Where the resync was over for so long and regions were left, they stay so.
const PATIENCE: Duration = Duration::from_millis(200);

/// Waits until all legs of a mirror are in sync.
///
/// # Errors
/// Where it is no mirror, the resync ends before, or `watch` interrupts the waiting.
pub fn wait(dm: &mut dyn DeviceMapper, name: &str, watch: &dyn Watch) -> Result<(), Fault> {
    let (device, line) = mirror(dm, name)?;
    until_synced(dm, device.name(), &line, watch)
}

/// Waits until a mirror is in sync.
pub(super) fn until_synced(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    // As it was at the last look, and since when the resync is over.
    let (mut last, mut over) = (None, Stillness::default());
    let ended = until_done(&format!("resync of {name}"), watch, || {
        if find(dm, name)?.is_some_and(|device| device.status.suspended) {
            let why = format!("is suspended, and the resync with it: `dmsim resume {name}`");
            return Err(Fault::new(name, why));
        }
        let Some(status) = status(dm, name)? else {
            return Ok(Look::Failed("is no mirror any more".to_owned()));
        };
        if status.is_in_sync() {
            return Ok(Look::Done);
        }
        let stands = last.as_ref() == Some(&status);
        let left = status.regions - status.in_sync;
        // For a while, as it may have been resumed between the two answers, and begins then.
        let is_over = stands && message(dm, name, Slot::Live, "resync")?.as_deref() == Some("idle");
        if over.lasts(is_over) > PATIENCE {
            return Ok(Look::Failed(why_not(name, line, &status)));
        }
        last = Some(status);
        Ok(Look::Left(left * line.log.region.0))
    });
    ended.map_err(|fault| match fault.status {
        INTERRUPTED => Fault { why: format!("{}; the resync goes on", fault.why), ..fault },
        _ => fault,
    })
}

fn why_not(name: &str, line: &Line, status: &Status<DeviceWord>) -> String {
    let left = status.regions - status.in_sync;
    let bad: Vec<String> = line
        .legs
        .iter()
        .zip(&status.legs)
        .filter(|(_, leg)| leg.health != LegHealth::Good)
        .map(|(leg, status)| format!("{} ({})", leg.device, status.health.letter()))
        .collect();
    let bad = match &bad[..] {
        [] => String::new(),
        bad => format!(", as legs have failed: {}", bad.join(", ")),
    };
    format!(
        "{left} regions are not in sync, and are not copied any more{bad}. `dmsim heal {name}` tries \
         again"
    )
}
