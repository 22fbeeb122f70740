//! `restore`: what is on record from before comes back, or is forgotten.

use std::process::ExitCode;

use daemon::client::unexpected;
use daemon::protocol::{Outcome, Request, Restored};
use daemon::{Client, Fault, Instance, mangle};
use ops::snapshot;

use super::{ended, stop};
use crate::client;
use crate::keys::RestoreKeys;
use crate::output::print;

pub(super) fn restore(instance: &Instance, keys: &RestoreKeys) -> Result<ExitCode, Fault> {
    let mut client = match client::find(instance)? {
        Some(client) => client,
        // Nothing is started for the sake of nothing.
        None if !instance.has_record() => return Err(no_record(instance)),
        None => client::connect_or_start(instance)?,
    };
    let instance = client.served(instance);
    let restored = bring_back(&mut client, keys)?;
    if !instance.has_record() {
        return Err(no_record(&instance));
    }
    if restored.done.is_empty() && restored.failed.is_empty() {
        eprintln!("dmsim: restore: nothing is left to bring back: all on record is there");
    }
    print(&restored.done.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    tell_failed(&restored.failed);
    // Somebody meant it so, or a command that would have resumed it was cut off.
    for name in restored.suspended.iter().map(|name| mangle::decode(name)) {
        eprintln!(
            "dmsim: warning: {name} is suspended, as it was left: who uses it waits until `dmsim resume {name}`"
        );
    }
    if let Some((name, _)) = restored.failed.first() {
        eprintln!(
            "dmsim: restore: what is not back stays on record for the next try; `dmsim restore --forget {name}` drops \
             one of it alone"
        );
    }
    for unfinished in snapshot::all_unfinished(&mut client, &instance)? {
        eprintln!("dmsim: warning: {unfinished}");
    }
    Ok(if restored.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Drops the record, or what it has of these.
pub(super) fn forget(instance: &Instance, names: Vec<String>) -> Result<ExitCode, Fault> {
    let (mut client, stays) = match client::find(instance)? {
        Some(client) => (client, true),
        None if !instance.has_record() => return Err(no_record(instance)),
        // One for this alone.
        None => (client::connect_or_start(instance)?, false),
    };
    let served = client.served(instance);
    let forgotten = snapshot::refuse_forgetting(&mut client, &served)
        .and_then(|()| client.done(&Request::Forget(names)));
    drop(client);
    if !stays {
        stop(instance, false)?;
    }
    ended(forgotten)
}

pub(super) fn bring_back(client: &mut Client, keys: &RestoreKeys) -> Result<Restored, Fault> {
    let keyless = match client.ask(&Request::Keyless)? {
        Outcome::Keyless(keyless) => keyless,
        other => return Err(unexpected(other)),
    };
    match client.ask(&Request::Restore(keys.fill(&keyless)))? {
        Outcome::Restored(restored) => Ok(restored),
        other => Err(unexpected(other)),
    }
}

pub(super) fn tell_failed(failed: &[(String, String)]) {
    for (name, why) in failed {
        eprintln!("dmsim: restore: {name}: {why}");
    }
}

fn no_record(instance: &Instance) -> Fault {
    let why = format!(
        "there is no record, so nothing to bring back: {} is not there",
        instance.record().display()
    );
    Fault::new("restore", why)
}
