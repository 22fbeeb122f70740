//! `restore`: what is on record from before comes back, or is forgotten.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;

use daemon::client::unexpected;
use daemon::family::set_of;
use daemon::protocol::{Forgotten, KeylessStack, Outcome, Request, Restored};
use daemon::{Client, Fault, Instance, mangle};
use ops::{DeviceMapper, raid, snapshot};
use sim_core::DevNumber;

use super::{ended, stop};
use crate::client;
use crate::keys::RestoreKeys;
use crate::output::{complain, print};

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
        complain!("dmsim: restore: nothing is left to bring back: all on record is there");
    }
    print(&restored.done.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    tell_failed(&told(&restored.failed));
    // Somebody meant it so, or a command that would have resumed it was cut off.
    for name in restored.suspended.iter().map(|name| mangle::decode(name)) {
        complain!(
            "dmsim: warning: {name} is suspended, as it was left: who uses it waits until `dmsim resume {name}`"
        );
    }
    let sets = lacking(&restored);
    for set in &sets {
        let told = put_together(&mut client, set, &restored.failed)?;
        complain!("dmsim: restore: {told}");
    }
    if let Some((name, _)) = restored.failed.first().filter(|_| sets.is_empty()) {
        complain!(
            "dmsim: restore: what is not back stays on record for the next try; `dmsim restore --forget {name}` drops \
             one of it alone"
        );
    }
    for unfinished in snapshot::all_unfinished(&mut client, &instance)? {
        complain!("dmsim: warning: {unfinished}");
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
    let asked = names.iter().map(|word| Forgotten { word: word.clone(), path: absolute(word) });
    let asked = Request::Forget(asked.collect());
    let forgotten = snapshot::refuse_forgetting(&mut client, &served)
        .and_then(|()| client.done(&asked))
        .and_then(|()| names.iter().try_for_each(|name| tell_rest(&mut client, name)));
    drop(client);
    if !stays {
        stop(instance, false)?;
    }
    ended(forgotten)
}

/// Returns where a word leads to that is a path: the record has paths without links, and the file may be gone.
fn absolute(word: &str) -> Option<PathBuf> {
    let path = std::path::absolute(word).ok()?;
    let folder = path.parent()?.canonicalize().ok()?;
    Some(folder.join(path.file_name()?))
}

/// Says of a set that was forgotten what is back of it all the same.
fn tell_rest(client: &mut Client, name: &str) -> Result<(), Fault> {
    let rest = raid::rest(client, name)?;
    if rest.devices > 0 {
        let again = again(name, &rest);
        complain!(
            "dmsim: {name}: devices of its legs that are back stay: `dmsim raid remove {name}` takes them away{again}"
        );
    }
    Ok(())
}

/// Lists the sets that are not back though some of their legs are, or were to be.
fn lacking(restored: &Restored) -> Vec<String> {
    let failed = restored.failed.iter().map(|(name, _)| name);
    let parts: HashSet<String> =
        failed.clone().chain(&restored.done).filter_map(|name| set_of(name)).collect();
    failed.map(|name| mangle::decode(name)).filter(|name| parts.contains(name)).collect()
}

/// Leaves out what failed because something below did, of a set that is told of as a whole.
fn told(failed: &[(String, String)]) -> Vec<(String, String)> {
    let sets: HashSet<String> = failed.iter().map(|(name, _)| mangle::decode(name)).collect();
    let lacks = |name: &str| set_of(name).is_some_and(|set| sets.contains(&set));
    let lacking: HashSet<String> = failed.iter().filter_map(|(name, _)| set_of(name)).collect();
    let is_told = |name: &str| !lacks(name) && !lacking.contains(&mangle::decode(name));
    failed.iter().filter(|(name, _)| is_told(name)).cloned().collect()
}

/// Says how a set is put together that is not back.
fn put_together(
    client: &mut Client,
    set: &str,
    failed: &[(String, String)],
) -> Result<String, Fault> {
    if raid::is_set(client, set)? {
        return Ok(format!(
            "{set}: is there already, put together by another command than this: `dmsim restore --forget {set}` drops \
             what is on record of it"
        ));
    }
    let again = again(set, &raid::rest(client, set)?);
    let parts = failed.iter().filter(|(name, _)| set_of(name).as_deref() == Some(set));
    let parts: Vec<(String, &String)> =
        parts.map(|(name, why)| (mangle::decode(name), why)).collect();
    let lacks = match &parts[..] {
        [] => String::new(),
        [(_, why), ..] => {
            let names: Vec<&str> = parts.iter().map(|(name, _)| &**name).collect();
            format!(", as these of its devices are not: {} ({why})", names.join(", "))
        }
    };
    Ok(format!(
        "{set}: is a RAID set, and not back{lacks}. It stays on record for the next try, when what it lacks is there again; \
         to go on without, `dmsim restore --forget {set}` and `dmsim raid remove {set}` take away what is on record \
         and what is back of it{again}"
    ))
}

/// Says the command that puts a set together again from what is there.
fn again(set: &str, rest: &raid::Rest) -> String {
    if rest.legs.is_empty() {
        return String::new();
    }
    let legs = rest.legs.iter().map(|(_, image)| image.display().to_string());
    let legs = legs.collect::<Vec<_>>().join(" ");
    let journal = rest.journal.as_ref();
    let journal = journal.map(|image| format!(" --journal {}", image.display()));
    let journal = journal.unwrap_or_default();
    format!(", and `dmsim raid assemble {legs} --name {set}{journal}` puts it together")
}

pub(super) fn bring_back(client: &mut Client, keys: &RestoreKeys) -> Result<Restored, Fault> {
    let (mut all, mut tried) = (Restored::default(), BTreeSet::new());
    loop {
        // A header may lie on a device that is to come back first, as that of a partition.
        let mut keyless = keyless(client)?;
        let mapper = client.welcome.mount.clone();
        keyless.images.extend(client.describe()?.into_iter().map(|device| {
            let number = DevNumber { major: device.major, minor: device.minor };
            (number, mapper.join(&device.name))
        }));
        keyless.devices.retain(|device| {
            !tried.contains(&device.name) && ops::open::can_look(device, &keyless.images)
        });
        if keyless.devices.is_empty() && !tried.is_empty() {
            return Ok(all);
        }
        // Also where there is none: what needs no key comes back.
        tried.insert(String::new());
        tried.extend(keyless.devices.iter().map(|device| device.name.clone()));
        let restored = match client.ask(&Request::Restore(keys.fill(&keyless)))? {
            Outcome::Restored(restored) => restored,
            other => return Err(unexpected(other)),
        };
        all.done.extend(restored.done);
        all.suspended.extend(restored.suspended);
        for (name, log) in &restored.recorded {
            super::crash::tell_ended(name, log.as_deref());
        }
        // What failed is tried again each time.
        all.failed = restored.failed;
    }
}

pub(super) fn tell_failed(failed: &[(String, String)]) {
    for (name, why) in failed {
        complain!("dmsim: restore: {name}: {why}");
    }
}

fn keyless(client: &mut Client) -> Result<KeylessStack, Fault> {
    match client.ask(&Request::Keyless)? {
        Outcome::Keyless(keyless) => Ok(keyless),
        other => Err(unexpected(other)),
    }
}

/// Says of a set that was put together what is on record of it from before, which a restore cannot bring back
/// beside it.
pub(super) fn warn_of_record(
    client: &mut Client,
    name: &str,
    images: &[PathBuf],
) -> Result<(), Fault> {
    if client.welcome.pending == 0 {
        return Ok(());
    }
    let KeylessStack { names, paths, .. } = keyless(client)?;
    let sets: BTreeSet<String> = names.iter().filter_map(|name| set_of(name)).collect();
    if sets.contains(name) || names.iter().any(|own| mangle::decode(own) == name) {
        complain!(
            "dmsim: warning: {name}: is on record from before as well, and `dmsim restore` cannot bring that back \
             beside this one: `dmsim restore --forget {name}` drops it from the record"
        );
        return Ok(());
    }
    let is_on_record = |image: &PathBuf| {
        image.to_str().and_then(absolute).is_some_and(|image| paths.contains(&image))
    };
    if !images.iter().any(is_on_record) || sets.is_empty() {
        return Ok(());
    }
    let sets = sets.into_iter().collect::<Vec<_>>().join(" ");
    complain!(
        "dmsim: warning: {name}: images of it are on record from before, where these RAID sets are: {sets}. \
         `dmsim restore --forget SET` drops the one that it is from the record"
    );
    Ok(())
}

fn no_record(instance: &Instance) -> Fault {
    let why = format!(
        "there is no record, so nothing to bring back: {} is not there",
        instance.record().display()
    );
    Fault::new("restore", why)
}
