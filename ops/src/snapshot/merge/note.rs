//! The note beside the stores on a merge that is under way, so that the same command finishes it
//! whenever it was interrupted. It goes when all is put away that the merge leaves.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use daemon::folders::make_private_dir;
use daemon::{About, Fault, Instance};
use serde::{Deserialize, Serialize};
use sim_core::DevNumber;

use super::mark;
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, find};

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::snapshot) struct Note {
    pub(in crate::snapshot) snapshot: String,
    pub(in crate::snapshot) origin: String,
    /// The words of the line of `snapshot-merge`, with a name for the store's device that lasts.
    pub(in crate::snapshot) params: String,
    /// The file of the store. Earlier versions did not note this, nor what follows.
    #[serde(default)]
    pub(in crate::snapshot) store: PathBuf,
    /// When it began.
    #[serde(default)]
    pub(in crate::snapshot) since: String,
    /// The images that it changes.
    #[serde(default)]
    pub(in crate::snapshot) images: Vec<PathBuf>,
    /// The table below the origin in words that make it anew; empty where there are none.
    #[serde(default)]
    pub(in crate::snapshot) table: String,
}

impl Note {
    /// Returns the device whose content changes.
    pub(in crate::snapshot) fn below(&self) -> Option<DevNumber> {
        self.params.split(' ').next()?.parse().ok()
    }

    /// Tells whether a device is the snapshot, which goes when the merge begins.
    pub(in crate::snapshot) fn is_of(&self, device: &Device) -> bool {
        let line = device.snapshot();
        device.name() == self.snapshot && line.is_some_and(|line| Some(line.origin) == self.below())
    }
}

/// Finds the note on a merge into the device of this name, or of the snapshot that has it or had it.
pub(in crate::snapshot) fn note_on(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    name: &str,
) -> Result<Option<Note>, Fault> {
    let there = find(dm, name)?;
    let of_it = |note: &Note| match &there {
        Some(device) => note.origin == name || note.is_of(device),
        None => note.origin == name || note.snapshot == name,
    };
    Ok(notes(instance).into_iter().find(of_it))
}

/// Returns the device that a merge was under way into when it was noted last, by its name or that of
/// the snapshot: what is to be brought back before [`merge`](super::merge()) can finish it.
pub fn noted(instance: &Instance, name: &str) -> Option<String> {
    let mut notes = notes(instance).into_iter();
    notes.find(|note| note.origin == name || note.snapshot == name).map(|note| note.origin)
}

/// Refuses to drop a record that a merge is to be finished by.
///
/// # Errors
/// Where a merge is noted whose device is not there.
pub fn refuse_forgetting(dm: &mut dyn DeviceMapper, instance: &Instance) -> Result<(), Fault> {
    for note in notes(instance) {
        let origin = &note.origin;
        if find(dm, origin)?.is_none() {
            let why = format!(
                "a merge into `{origin}` is not finished, and the record is what it is finished by: \
                 `dmsim merge {origin}` first, or remove {} to give it up",
                instance.merging(&note.snapshot).display()
            );
            return Err(Fault::new("restore", why));
        }
    }
    Ok(())
}

pub(in crate::snapshot) fn notes(instance: &Instance) -> Vec<Note> {
    let folders = instance.cow_folders().into_iter();
    let entries = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let notes = paths.filter(|path| path.extension().is_some_and(|end| end == "merging"));
    // One that makes no sense is as good as none.
    notes.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).collect()
}

/// Writes a note, and makes it durable.
///
/// # Errors
/// Also where another merge has the same name.
pub(in crate::snapshot) fn write_note(instance: &Instance, note: &Note) -> Result<(), Fault> {
    let other = |other: &Note| other.snapshot == note.snapshot && other.origin != note.origin;
    if let Some(other) = notes(instance).into_iter().find(other) {
        let why = format!(
            "the merge of another snapshot of this name is not finished: `dmsim merge {}` first",
            other.origin
        );
        return Err(Fault::new(&note.snapshot, why));
    }
    make_private_dir(&instance.cows())?;
    let path = instance.merging(&note.snapshot);
    let text = serde_json::to_vec(note).about(path.display())?;
    let new = path.with_extension("merging.new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        File::open(instance.cows())?.sync_all()
    };
    write().about(path.display())
}

/// Drops the notes on merges into a device, and their marks.
pub(in crate::snapshot) fn forget(instance: &Instance, origin: &str) -> Result<(), Fault> {
    for note in notes(instance).iter().filter(|note| note.origin == origin) {
        mark::take_off(note)?;
        let name = instance.merging(&note.snapshot);
        let name = name.file_name().unwrap_or_default();
        for folder in instance.cow_folders() {
            let path = folder.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Fault::new(path.display(), error));
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}
