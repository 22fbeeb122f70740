//! The note in the instance's folder on a merge that is under way, so that the same command finishes
//! it whenever it was interrupted.

use daemon::folders::make_private_dir;
use daemon::{About, Fault, Instance};
use serde::{Deserialize, Serialize};

use crate::device_mapper::DeviceMapper;
use crate::devices::find;

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) snapshot: String,
    pub(super) origin: String,
    /// The words of the line of `snapshot-merge`, with a name for the store's device that lasts.
    pub(super) params: String,
}

/// Finds the note on a merge into the device of this name, or of the snapshot that had it.
pub(super) fn note_on(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    name: &str,
) -> Result<Option<Note>, Fault> {
    let is_there = find(dm, name)?.is_some();
    let of_it = |note: &Note| if is_there { note.origin == name } else { note.snapshot == name };
    Ok(notes(instance).into_iter().find(of_it))
}

fn notes(instance: &Instance) -> Vec<Note> {
    let Ok(entries) = std::fs::read_dir(instance.cows()) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let notes = paths.filter(|path| path.extension().is_some_and(|end| end == "merging"));
    // One that makes no sense is as good as none.
    notes.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).collect()
}

pub(super) fn write_note(instance: &Instance, note: &Note) -> Result<(), Fault> {
    make_private_dir(&instance.cows())?;
    let path = instance.merging(&note.snapshot);
    let text = serde_json::to_vec(note).about(path.display())?;
    let new = path.with_extension("merging.new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)).about(path.display())
}

/// Drops the notes on merges into a device.
pub(super) fn forget(instance: &Instance, origin: &str) -> Result<(), Fault> {
    for note in notes(instance).iter().filter(|note| note.origin == origin) {
        let path = instance.merging(&note.snapshot);
        std::fs::remove_file(&path).about(path.display())?;
    }
    Ok(())
}
