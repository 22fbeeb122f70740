//! `dmsim merge`: brings a snapshot back into its origin.
//!
//! The origin goes back in time when the merge begins, so nobody may have it open then, unless its
//! user says that this does no harm. From then on it can be used. While the origin is suspended the
//! snapshot's device goes, and the origin's table becomes `snapshot-merge`. A note beside the stores
//! says what is under way, and a mark on each image that is changed, so that the same command
//! finishes it whenever it was interrupted (`cut_off.rs`).

mod cut_off;
pub(super) mod mark;
pub(super) mod note;
pub(super) mod rebuild;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use backing::Attached;
use daemon::{About, Fault, Instance};
use sim_core::control::{Command, Report, Slot};
use sim_core::{Access, DevNumber, KeyText};
use targets::lines::snapshot::Status;
use targets::lines::{self, DeviceWord};

use self::cut_off::go_on_with;
use self::note::{Note, forget, note_on, write_note};
use self::rebuild::plain_table;
use super::finish;
use super::state::{Line, MERGE, SNAPSHOT, state};
use super::store::{Start, StoreFile};
use super::wait::until_merged;
use crate::commands::{act, clear, load, one, remove, resume, suspend};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, by_id, devices, find, in_use, named, report};
use crate::files::path_of;
use crate::watch::{PERIOD, Watch, go_on};
use crate::words::{MAPPER, device_name};

/// How long a close of the snapshot's device may be on its way.
const CLOSING: Duration = Duration::from_millis(300);

const NOT_MERGED: &str = "nothing is merged, and all is as it was";

/// What is to be merged, and how.
#[derive(Clone, Debug)]
pub struct Merge {
    /// The snapshot; or its origin, to finish a merge that is under way.
    pub name: String,
    /// What becomes of it while somebody has the origin open.
    pub open: WhenOpen,
    /// Returns when it is merged, not when that has begun.
    pub waits: bool,
}

/// What becomes of a merge while somebody has the origin open: what they have read, and what a
/// mounted file system is about to write, would be mixed with what the snapshot was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenOpen {
    /// It is refused.
    Refuse,
    /// It begins when the last of them has closed the origin.
    Wait,
    /// It begins all the same: they keep nothing of what they read.
    Merge,
}

/// Merges a snapshot into its origin, which can be used as soon as that has begun; or finishes a
/// merge that is under way, by the name of either.
///
/// # Errors
/// Where it cannot be merged, or `watch` interrupts the waiting: a merge that has begun goes on then.
pub fn merge(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    ask: &Merge,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let ask = &Merge { name: device_name(dm.mount(), &ask.name), ..ask.clone() };
    let origin = match (note_on(dm, instance, &ask.name)?, find(dm, &ask.name)?) {
        (Some(note), _) => match go_on_with(dm, instance, &note, ask.open, watch)? {
            Some(origin) => origin,
            None => return Ok(()),
        },
        (None, Some(device)) if device.snapshot().is_some() => {
            begin(dm, instance, &ask.name, ask.open, watch)?
        }
        (None, _) => merging(dm, instance, &ask.name)?,
    };
    if !ask.waits {
        return Ok(());
    }
    if !is_merged_after_all(dm, &origin)? {
        until_merged(dm, &origin, watch)?;
    }
    // From here on nothing is half old and half new: what follows is put away by the note alone.
    if let Some(note) = note_on(dm, instance, &origin)? {
        mark::take_off(&note)?;
    }
    let store = finish::finish(dm, &origin)?;
    if let Some(store) = store {
        drop_own(dm, instance, &store)?;
    }
    forget(instance, &origin)
}

/// Removes the image of a store that is of no use any more, if it is one of the instance's own.
pub(super) fn drop_own(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    store: &Attached,
) -> Result<(), Fault> {
    let own = instance.cow_folders().map(|own| own.canonicalize().unwrap_or(own));
    if !own.iter().any(|own| store.path.parent() == Some(own)) {
        return Ok(());
    }
    if !store.on_the_spot {
        // As a restore attaches it.
        dm.detach(&store.number.to_string())?;
    }
    std::fs::remove_file(&store.path).about(store.path.display())
}

/// Finds the device that a snapshot is being merged into: by its own name, or the snapshot's,
/// which is gone. Brings a merge on its way that was watch when it began.
pub(super) fn merging(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    name: &str,
) -> Result<String, Fault> {
    let note = note_on(dm, instance, name)?;
    let origin = note.as_ref().map_or(name, |note| note.origin.as_str());
    let Some(device) = find(dm, origin)? else {
        return Err(Fault::new(origin, "no such device"));
    };
    if device.merge().is_some() && !device.status.suspended {
        return Ok(origin.to_owned());
    }
    if device.status.suspended {
        let inactive = report(dm, named(origin), Report::Table, Slot::Inactive, KeyText::Zeros)?;
        let inactive = inactive.map(|(status, live)| Device { status, live });
        if device.merge().is_some() || inactive.is_some_and(|table| table.merge().is_some()) {
            resume(dm, origin)?;
            return Ok(origin.to_owned());
        }
    }
    match (&note, device.origin_of()) {
        // The snapshot is gone, and nothing was written since.
        (Some(note), Some(_)) if device.status.suspended && find(dm, &note.snapshot)?.is_none() => {
            load(dm, origin, Access::ReadWrite, one(device.size(), MERGE, &note.params))?;
            resume(dm, origin)?;
            Ok(origin.to_owned())
        }
        (_, Some(dev)) => Err(not_merging(dm, origin, dev)?),
        (_, None) => Err(Fault::new(origin, "is no snapshot, and none is being merged into it")),
    }
}

fn not_merging(dm: &mut dyn DeviceMapper, origin: &str, dev: DevNumber) -> Result<Fault, Fault> {
    let all = devices(dm)?;
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

/// Puts the merge in the place of the snapshot, when nobody has the origin open; returns the name
/// of the origin.
pub(super) fn begin(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    name: &str,
    open: WhenOpen,
    watch: &dyn Watch,
) -> Result<String, Fault> {
    let mut waiting = None;
    loop {
        // All of it is looked at again after a wait: others may have changed it.
        let (device, origin, note) = plan(dm, name)?;
        let above = origin.name();
        if is_free(dm, above, open)? {
            let noted = write_note(instance, &note);
            noted.map_err(|fault| fault.undone(Ok(()), NOT_MERGED))?;
            // Before the first copy, and before anybody is held up.
            let marked = mark::put(instance, &note);
            let begun = match &marked {
                Ok(_) => put_in(dm, &device, &origin, &note, open),
                Err(fault) => Err(fault.clone().undone(Ok(()), NOT_MERGED)),
            };
            if !matches!(begun, Ok(Begun::Yes)) && is_as_before(dm, name, above)? {
                forget(instance, above)?;
            }
            if begun? == Begun::Yes {
                say_unmarked(instance, &marked.unwrap_or_default(), watch);
                return Ok(note.origin);
            }
        }
        if open == WhenOpen::Refuse {
            return Err(refused(dm, name, above)?);
        }
        waiting.get_or_insert_with(|| watch.begin(&format!("close of {above}")));
        go_on(name, watch)?;
        std::thread::sleep(PERIOD);
    }
}

/// Tells whether a merge that did not begin has left nothing to be finished.
fn is_as_before(dm: &mut dyn DeviceMapper, name: &str, origin: &str) -> Result<bool, Fault> {
    let runs = find(dm, origin)?.is_some_and(|origin| !origin.status.suspended);
    Ok(runs && find(dm, name)?.is_some())
}

/// Says which images nobody can be warned about.
fn say_unmarked(instance: &Instance, unmarked: &[(PathBuf, String)], watch: &dyn Watch) {
    let Some((_, why)) = unmarked.first() else { return };
    let images: Vec<String> = unmarked.iter().map(|(path, _)| path.display().to_string()).collect();
    let (images, record) = (images.join(", "), instance.state().display());
    watch.warn(&format!(
        "{images}: cannot be marked as being merged ({why}): only the record in {record} tells that \
         the merge is not finished"
    ));
}

/// Looks at a snapshot that is to be merged, and refuses one that cannot be.
fn plan(dm: &mut dyn DeviceMapper, name: &str) -> Result<(Device, Device, Note), Fault> {
    let device = find(dm, name)?.ok_or_else(|| Fault::new(name, "no such device"))?;
    let line = device.snapshot().ok_or_else(|| Fault::new(name, "is no snapshot any more"))?;
    device.refuse_suspended()?;
    if line.is_transient() {
        let why = "is transient: there is no list of its changes to merge it by";
        return Err(Fault::new(name, why));
    }
    if state(dm, name, SNAPSHOT)? == Some(Status::Invalid) {
        let why = "is invalid, as its store was full or failed: nothing is left to merge, and \
                   `dmsim drop` drops it with its store";
        return Err(Fault::new(name, why));
    }
    let origin = origin_of(dm, name, &line)?;
    refuse_open(dm, &device)?;
    let note = Note {
        snapshot: name.to_owned(),
        origin: origin.name().to_owned(),
        params: lasting_line(dm, &line)?.to_string(),
        store: path_of(dm, line.cow)?,
        since: mark::now(),
        table: plain_table(dm, line.origin)?,
        images: mark::images_below(dm, line.origin)?.into_iter().map(|image| image.path).collect(),
    };
    Ok((device, origin, note))
}

/// Tells whether a merge into this device may begin.
fn is_free(dm: &mut dyn DeviceMapper, origin: &str, open: WhenOpen) -> Result<bool, Fault> {
    let patience = match open {
        WhenOpen::Merge => return Ok(true),
        WhenOpen::Refuse => CLOSING,
        WhenOpen::Wait => Duration::ZERO,
    };
    is_closed(dm, origin, patience)
}

/// Says who has the origin open, and what to do about it.
fn refused(dm: &mut dyn DeviceMapper, name: &str, origin: &str) -> Result<Fault, Fault> {
    let Fault { why, .. } = in_use(dm, origin)?;
    let why = format!(
        "`{origin}` {why}, and would go back in time under its user: {NOT_MERGED}. Unmount or close \
         it first; `dmsim merge {name} --when-closed` waits for that, and --in-use merges all the \
         same, where the user keeps nothing of what it reads"
    );
    Ok(Fault::new(name, why))
}

/// Finds the one device that the snapshot's origin is used through.
fn origin_of(dm: &mut dyn DeviceMapper, name: &str, line: &Line) -> Result<Device, Fault> {
    let all = devices(dm)?;
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
pub(super) fn refuse_open(dm: &mut dyn DeviceMapper, device: &Device) -> Result<(), Fault> {
    match is_closed(dm, device.name(), CLOSING)? {
        true => Ok(()),
        false => Err(in_use(dm, device.name())?),
    }
}

/// Tells whether nobody has a device open. A close that is on its way is waited for.
fn is_closed(dm: &mut dyn DeviceMapper, name: &str, patience: Duration) -> Result<bool, Fault> {
    let deadline = Instant::now() + patience;
    while find(dm, name)?.is_some_and(|device| device.status.open_count > 0) {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

/// Returns the line with a name of the store's device that lasts when its last user is gone.
fn lasting_line(
    dm: &mut dyn DeviceMapper,
    line: &Line,
) -> Result<lines::snapshot::Line<DeviceWord>, Fault> {
    let (cow, origin) = (lasting(dm, line.cow)?, line.origin.into());
    let Line { store, chunk, features, .. } = *line;
    Ok(lines::snapshot::Line { origin, cow, store, chunk, features })
}

fn lasting(dm: &mut dyn DeviceMapper, dev: DevNumber) -> Result<DeviceWord, Fault> {
    if let Some(image) = dm.images()?.iter().find(|image| image.number == dev) {
        let path = image.path.to_str().filter(|_| image.on_the_spot);
        return Ok(path.map_or_else(|| dev.into(), DeviceWord::from));
    }
    let device = by_id(dm, sim_core::control::Id::Dev(dev))?;
    let word = |device: Device| DeviceWord(format!("{MAPPER}{}", device.name()));
    Ok(device.map_or_else(|| dev.into(), word))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Yes,
    /// Somebody has opened the origin meanwhile; all is as it was.
    No,
}

fn put_in(
    dm: &mut dyn DeviceMapper,
    snapshot: &Device,
    origin: &Device,
    note: &Note,
    open: WhenOpen,
) -> Result<Begun, Fault> {
    let (name, above) = (snapshot.name(), origin.name());
    suspend(dm, above)?;
    // Whoever opens it from here on reads nothing before the merge has begun.
    match is_free(dm, above, open) {
        Ok(true) => {}
        Ok(false) => return resume(dm, above).map(|()| Begun::No),
        Err(fault) => {
            resume(dm, above)?;
            return Err(fault);
        }
    }
    if let Err(fault) = remove(dm, name) {
        resume(dm, above)?;
        return Err(fault.undone(Ok(()), NOT_MERGED));
    }
    let loaded = load(dm, above, Access::ReadWrite, one(origin.size(), MERGE, &note.params));
    if let Err(fault) = loaded {
        let back = bring_back(dm, snapshot, note).and_then(|()| resume(dm, above));
        return Err(fault.undone(back, NOT_MERGED));
    }
    resume(dm, above).map(|()| Begun::Yes)
}

/// Makes the snapshot's device again.
fn bring_back(dm: &mut dyn DeviceMapper, snapshot: &Device, note: &Note) -> Result<(), Fault> {
    let (name, status) = (snapshot.name(), &snapshot.status);
    clear(dm, &note.origin)?;
    let (uuid, minor) = (status.uuid.clone(), Some(status.dev.minor));
    act(dm, name, Command::DevCreate { name: name.to_owned(), uuid, minor })?;
    let access = if status.read_only { Access::ReadOnly } else { Access::ReadWrite };
    load(dm, name, access, one(snapshot.size(), SNAPSHOT, &note.params))?;
    resume(dm, name)
}

/// Tells whether nothing is left of a merge whose status says that it failed: after a resume it
/// may have gone on to its end, and its status stays as it was.
fn is_merged_after_all(dm: &mut dyn DeviceMapper, origin: &str) -> Result<bool, Fault> {
    if state(dm, origin, MERGE)? != Some(Status::MergeFailed) {
        return Ok(false);
    }
    let Some(line) = find(dm, origin)?.and_then(|device| device.merge()) else {
        return Ok(false);
    };
    let path = path_of(dm, line.cow)?;
    let store = StoreFile::open(&path).about(path.display())?;
    Ok(match store.start() {
        Ok(Start::Store(header, layout)) if header.valid => {
            store.changed(layout).is_ok_and(|runs| runs.is_empty())
        }
        Ok(_) | Err(_) => false,
    })
}
