//! `dmsim wait --sync`: waits until all legs of a mirror have everything.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use sim_core::control::Slot;

use super::line::{Line, Status};
use super::{mirror, status};
use crate::client::Client;
use crate::fault::Fault;
use crate::instance::Instance;
use crate::machine::{INTERRUPTED, Machine, Progress, find, message, on_signals, until_done};

/// `dmsim wait --sync`.
pub(crate) fn wait(instance: &Instance, name: &str) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let (device, line) = mirror(&mut client, name)?;
    let interrupted = on_signals()?;
    until_synced(&mut client, device.name(), &line, &interrupted)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until a mirror is in sync.
pub(super) fn until_synced(
    machine: &mut dyn Machine,
    name: &str,
    line: &Line,
    interrupted: &AtomicBool,
) -> Result<(), Fault> {
    // As it was at the last look, and whether the resync was over then.
    let (mut last, mut over) = (None, false);
    let ended = until_done(&format!("resync of {name}"), interrupted, || {
        if find(machine, name)?.is_some_and(|device| device.status.suspended) {
            let why = format!("is suspended, and the resync with it: `dmsim resume {name}`");
            return Err(Fault::new(name, why));
        }
        let Some(status) = status(machine, name)? else {
            return Ok(Progress::Failed("is no mirror any more".to_owned()));
        };
        if status.is_in_sync() {
            return Ok(Progress::Done);
        }
        let stands = last.as_ref() == Some(&status);
        let left = status.regions - status.in_sync;
        // Twice, as it may have been resumed between the two answers.
        let was_over = over;
        over = stands && message(machine, name, Slot::Live, "resync")?.as_deref() == Some("idle");
        if was_over && over {
            return Ok(Progress::Failed(why_not(name, line, &status)));
        }
        last = Some(status);
        Ok(Progress::Left(left * line.region.0))
    });
    ended.map_err(|fault| match fault.status {
        INTERRUPTED => Fault { why: format!("{}; the resync goes on", fault.why), ..fault },
        _ => fault,
    })
}

fn why_not(name: &str, line: &Line, status: &Status) -> String {
    let left = status.regions - status.in_sync;
    let bad: Vec<String> = line
        .legs
        .iter()
        .zip(status.legs.chars())
        .filter(|(_, letter)| *letter != 'A')
        .map(|(leg, letter)| format!("{} ({letter})", leg.word))
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
