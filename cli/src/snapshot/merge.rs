//! `dmsim merge`: brings a snapshot back into its origin, which is in use all the time.
//!
//! While the origin is suspended the snapshot's device goes, and the origin's table becomes
//! `snapshot-merge`. A note in the instance's folder says what is under way, so that the same
//! command finishes it whenever it was interrupted.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use backing::Attached;
use serde::{Deserialize, Serialize};
use sim_core::control::{Command, Report, Slot};
use sim_core::{Access, DevNumber, KeyText};

use super::Machine;
use super::options::Merge;
use super::store::{Start, StoreFile};
use super::wait::until_merged;
use super::{
    Device, Line, MERGE, SNAPSHOT, State, act, by_id, clear, devices, find, finish, in_use, load,
    named, one, remove, report, resume, state, suspend,
};
use crate::client::{Client, unexpected};
use crate::fault::{About, Fault};
use crate::instance::{Instance, make_private_dir};
use crate::machine::{on_signals, path_of};
use crate::open::MAPPER;
use crate::open::image::escaped;
use crate::protocol::{Outcome, Request};

/// How long a close of the snapshot's device may be on its way.
const CLOSING: Duration = Duration::from_millis(300);

const NOT_MERGED: &str = "nothing is merged, and all is as it was";

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) snapshot: String,
    pub(super) origin: String,
    /// The words of the line of `snapshot-merge`, with a name for the store's device that lasts.
    params: String,
}

/// `dmsim merge`.
pub(crate) fn merge(instance: &Instance, options: &Merge) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let interrupted = on_signals()?;
    let name = &options.name;
    let origin = match find(&mut client, name)? {
        Some(device) if device.snapshot().is_some() => begin(&mut client, instance, &device)?,
        Some(_) | None => merging(&mut client, instance, name)?,
    };
    if options.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    if !is_merged_after_all(&mut client, &origin)? {
        until_merged(&mut client, &origin, &interrupted)?;
    }
    let store = finish::finish(&mut client, &origin)?;
    if let Some(store) = store {
        drop_own(&mut client, instance, &store)?;
    }
    forget(instance, &origin)?;
    Ok(ExitCode::SUCCESS)
}

/// Removes the image of a store that is of no use any more, if it is one of the instance's own.
pub(super) fn drop_own(
    client: &mut Client,
    instance: &Instance,
    store: &Attached,
) -> Result<(), Fault> {
    let own = instance.cows();
    let own = own.canonicalize().unwrap_or(own);
    if store.path.parent() != Some(own.as_path()) {
        return Ok(());
    }
    if !store.on_the_spot {
        // As a restore attaches it.
        let (word, base) = (store.number.to_string(), PathBuf::from("/"));
        match client.ask(&Request::Detach { word, base })? {
            Outcome::Done => {}
            other => return Err(unexpected(other)),
        }
    }
    std::fs::remove_file(&store.path).about(store.path.display())
}

/// Finds the note on a merge into the device of this name, or of the snapshot that had it.
pub(super) fn note_on(
    machine: &mut dyn Machine,
    instance: &Instance,
    name: &str,
) -> Result<Option<Note>, Fault> {
    let is_there = find(machine, name)?.is_some();
    let of_it = |note: &Note| if is_there { note.origin == name } else { note.snapshot == name };
    Ok(notes(instance).into_iter().find(of_it))
}

/// Finds the device that a snapshot is being merged into: by its own name, or the snapshot's,
/// which is gone. Brings a merge on its way that was interrupted when it began.
pub(super) fn merging(
    machine: &mut dyn Machine,
    instance: &Instance,
    name: &str,
) -> Result<String, Fault> {
    let note = note_on(machine, instance, name)?;
    let origin = note.as_ref().map_or(name, |note| note.origin.as_str());
    let Some(device) = find(machine, origin)? else {
        return Err(Fault::new(origin, "no such device"));
    };
    if device.merge().is_some() && !device.status.suspended {
        return Ok(origin.to_owned());
    }
    if device.status.suspended {
        let inactive =
            report(machine, named(origin), Report::Table, Slot::Inactive, KeyText::Zeros)?;
        let inactive = inactive.map(|(status, live)| Device { status, live });
        if device.merge().is_some() || inactive.is_some_and(|table| table.merge().is_some()) {
            resume(machine, origin)?;
            return Ok(origin.to_owned());
        }
    }
    match (&note, device.origin_of()) {
        // The snapshot is gone, and nothing was written since.
        (Some(note), Some(_))
            if device.status.suspended && find(machine, &note.snapshot)?.is_none() =>
        {
            load(machine, origin, Access::ReadWrite, one(device.size(), MERGE, &note.params))?;
            resume(machine, origin)?;
            Ok(origin.to_owned())
        }
        (_, Some(dev)) => Err(not_merging(machine, origin, dev)?),
        (_, None) => Err(Fault::new(origin, "is no snapshot, and none is being merged into it")),
    }
}

fn not_merging(machine: &mut dyn Machine, origin: &str, dev: DevNumber) -> Result<Fault, Fault> {
    let all = devices(machine)?;
    let of_it = |device: &&Device| device.snapshot().is_some_and(|line| line.origin == dev);
    let names: Vec<String> =
        all.iter().filter(of_it).map(|device| format!("`{}`", device.name())).collect();
    Ok(Fault::new(
        origin,
        match names.is_empty() {
            true => "nothing is being merged into it, and it has no snapshots".to_owned(),
            false => {
                format!("nothing is being merged into it; its snapshots: {}", names.join(", "))
            }
        },
    ))
}

/// Puts the merge in the place of the snapshot; returns the name of its origin.
pub(super) fn begin(
    machine: &mut dyn Machine,
    instance: &Instance,
    device: &Device,
) -> Result<String, Fault> {
    let name = device.name();
    let line = device.snapshot().expect("the caller has seen to that");
    device.refuse_suspended()?;
    if line.is_transient() {
        let why = "is transient: there is no list of its changes to merge it by";
        return Err(Fault::new(name, why));
    }
    if state(machine, name, SNAPSHOT)? == Some(State::Invalid) {
        let why = "is invalid, as its store was full or failed: nothing is left to merge, `dmsim \
                   remove` drops it";
        return Err(Fault::new(name, why));
    }
    let origin = origin_of(machine, name, &line)?;
    refuse_open(machine, device)?;
    let note = Note {
        snapshot: name.to_owned(),
        origin: origin.name().to_owned(),
        params: line.params(&lasting(machine, line.cow)?),
    };
    write_note(instance, &note)?;
    let begun = put_in(machine, device, &origin, &note);
    if begun.is_err() {
        // It is of use where the snapshot could not be brought back.
        if find(machine, name)?.is_some() {
            forget(instance, origin.name())?;
        }
    }
    begun.map(|()| note.origin)
}

/// Finds the one device that the snapshot's origin is used through.
fn origin_of(machine: &mut dyn Machine, name: &str, line: &Line) -> Result<Device, Fault> {
    let all = devices(machine)?;
    if let Some(busy) =
        all.iter().find(|device| device.merge().is_some_and(|other| other.origin == line.origin))
    {
        let busy = busy.name();
        let why = format!("another snapshot is being merged: `dmsim merge {busy}` finishes that");
        return Err(Fault::new(name, why));
    }
    let mut origins: Vec<Device> =
        all.into_iter().filter(|device| device.origin_of() == Some(line.origin)).collect();
    let dev = line.origin;
    let origin = match (origins.pop(), &origins[..]) {
        (Some(origin), []) => origin,
        (Some(origin), [other, ..]) => {
            let (one, other) = (origin.name(), other.name());
            let why = format!("both `{one}` and `{other}` are origins on {dev}: remove one first");
            return Err(Fault::new(name, why));
        }
        (None, _) => {
            let why = format!(
                "no device has a table `snapshot-origin {dev}` that it could be merged through: \
                 `dmsim create NAME --table '0 SIZE snapshot-origin {dev}'` makes one"
            );
            return Err(Fault::new(name, why));
        }
    };
    origin.refuse_suspended()?;
    if origin.status.inactive_present {
        let origin = origin.name();
        let why = format!("has another table loaded: `dmsim clear {origin}` drops it");
        return Err(Fault::new(origin, why));
    }
    if origin.status.read_only {
        return Err(Fault::new(origin.name(), "is read-only: nothing can be merged into it"));
    }
    Ok(origin)
}

/// Refuses a snapshot that somebody has open, before anything is held up for it.
pub(super) fn refuse_open(machine: &mut dyn Machine, device: &Device) -> Result<(), Fault> {
    let deadline = Instant::now() + CLOSING;
    // A close that is on its way is waited for.
    while find(machine, device.name())?.is_some_and(|device| device.status.open_count > 0) {
        if Instant::now() > deadline {
            return Err(in_use(machine, device.name())?);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Names a device so that the name lasts when its last user is gone.
fn lasting(machine: &mut dyn Machine, dev: DevNumber) -> Result<String, Fault> {
    if let Some(image) = machine.images()?.iter().find(|image| image.number == dev) {
        let path = image.path.to_str().filter(|_| image.on_the_spot);
        return Ok(path.map_or_else(|| dev.to_string(), escaped));
    }
    let device = by_id(machine, sim_core::control::Id::Dev(dev))?;
    Ok(device.map_or_else(|| dev.to_string(), |device| format!("{MAPPER}{}", device.name())))
}

fn put_in(
    machine: &mut dyn Machine,
    snapshot: &Device,
    origin: &Device,
    note: &Note,
) -> Result<(), Fault> {
    let (name, above) = (snapshot.name(), origin.name());
    suspend(machine, above)?;
    if let Err(fault) = remove(machine, name) {
        resume(machine, above)?;
        return Err(fault.undone(Ok(()), NOT_MERGED));
    }
    let loaded = load(machine, above, Access::ReadWrite, one(origin.size(), MERGE, &note.params));
    if let Err(fault) = loaded {
        let back = bring_back(machine, snapshot, note).and_then(|()| resume(machine, above));
        return Err(fault.undone(back, NOT_MERGED));
    }
    resume(machine, above)
}

/// Makes the snapshot's device again.
fn bring_back(machine: &mut dyn Machine, snapshot: &Device, note: &Note) -> Result<(), Fault> {
    let (name, status) = (snapshot.name(), &snapshot.status);
    clear(machine, &note.origin)?;
    let (uuid, minor) = (status.uuid.clone(), Some(status.dev.minor));
    act(machine, name, Command::DevCreate { name: name.to_owned(), uuid, minor })?;
    let access = if status.read_only { Access::ReadOnly } else { Access::ReadWrite };
    load(machine, name, access, one(snapshot.size(), SNAPSHOT, &note.params))?;
    resume(machine, name)
}

/// Tells whether nothing is left of a merge whose status says that it failed: after a resume it
/// may have gone on to its end, and its status stays as it was.
fn is_merged_after_all(machine: &mut dyn Machine, origin: &str) -> Result<bool, Fault> {
    if state(machine, origin, MERGE)? != Some(State::MergeFailed) {
        return Ok(false);
    }
    let Some(line) = find(machine, origin)?.and_then(|device| device.merge()) else {
        return Ok(false);
    };
    let path = path_of(machine, line.cow)?;
    let store = StoreFile::open(&path).about(path.display())?;
    Ok(match store.start() {
        Ok(Start::Store(header, layout)) if header.valid => {
            store.changed(layout).is_ok_and(|runs| runs.is_empty())
        }
        Ok(_) | Err(_) => false,
    })
}

fn notes(instance: &Instance) -> Vec<Note> {
    let Ok(entries) = std::fs::read_dir(instance.cows()) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let notes = paths.filter(|path| path.extension().is_some_and(|end| end == "merging"));
    // One that makes no sense is as good as none.
    notes.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).collect()
}

fn write_note(instance: &Instance, note: &Note) -> Result<(), Fault> {
    make_private_dir(&instance.cows())?;
    let path = instance.merging(&note.snapshot);
    let text = serde_json::to_vec(note).about(path.display())?;
    let new = path.with_extension("merging.new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)).about(path.display())
}

/// Drops the notes on merges into a device.
fn forget(instance: &Instance, origin: &str) -> Result<(), Fault> {
    for note in notes(instance).iter().filter(|note| note.origin == origin) {
        let path = instance.merging(&note.snapshot);
        std::fs::remove_file(&path).about(path.display())?;
    }
    Ok(())
}
