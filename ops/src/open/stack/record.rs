//! What belongs to a stack: kept in a file, so that it is closed as one, by another command, after a restart.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use daemon::{About, Fault, Instance};
use serde::{Deserialize, Serialize};

use crate::device_mapper::DeviceMapper;
use crate::devices::find;
use crate::files::is_same_file;
use crate::words::new_name;

/// What belongs to a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The images, as absolute paths.
    pub(super) images: Vec<PathBuf>,
    /// Those that were attached for it.
    pub(super) attached: Vec<PathBuf>,
    /// Its devices, each after those that it lies on.
    pub(super) devices: Vec<Part>,
}

/// A device of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Its name, as the kernel has it.
    pub(super) name: String,
    /// Its uuid: one of the name alone may be another's.
    pub(super) uuid: String,
}

/// Returns the folder in which stacks are recorded.
pub(super) fn folder(instance: &Instance) -> PathBuf {
    instance.state().join("stacks")
}

fn file(folder: &Path, name: &str) -> Result<PathBuf, Fault> {
    Ok(folder.join(format!("{}.json", new_name("open", name)?)))
}

/// Refuses a stack that is open. The record of one whose devices are all gone counts for nothing.
pub(super) fn refuse_there(
    dm: &mut dyn DeviceMapper,
    folder: &Path,
    name: &str,
) -> Result<(), Fault> {
    let Some(record) = Record::read(folder, name)? else { return Ok(()) };
    match record.there(dm)?.is_empty() {
        true => Ok(()),
        false => {
            let why = format!(
                "a stack `{name}` is open: `dmsim close {name}` closes it, --name gives this one another name"
            );
            Err(Fault::new("open", why))
        }
    }
}

/// Refuses an image that is part of a stack which is open.
pub(super) fn refuse_open(
    dm: &mut dyn DeviceMapper,
    folder: &Path,
    image: &Path,
) -> Result<(), Fault> {
    for (name, record) in Record::all(folder)? {
        let is_of_it = record.images.iter().any(|of_it| is_same_file(of_it, image));
        if is_of_it && !record.there(dm)?.is_empty() {
            let why = format!(
                "is open as part of the stack `{name}`: `dmsim close {name}` closes it, --shared opens it once more"
            );
            return Err(Fault::new(image.display(), why));
        }
    }
    Ok(())
}

impl Record {
    /// Reads the record of a stack; nothing where there is none.
    pub(super) fn read(folder: &Path, name: &str) -> Result<Option<Record>, Fault> {
        let Ok(path) = file(folder, name) else { return Ok(None) };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.about(path.display())?,
        };
        let record = serde_json::from_str(&text);
        record.map(Some).map_err(|error| Fault::new(path.display(), format!("is damaged: {error}")))
    }

    /// Lists all stacks by their names.
    pub(super) fn all(folder: &Path) -> Result<Vec<(String, Record)>, Fault> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.about(folder.display())?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.about(folder.display())?.file_name();
            let name = entry.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(name) = name.map(daemon::mangle::decode) else { continue };
            // One that is damaged is none of the others' business.
            if let Ok(Some(record)) = Record::read(folder, &name) {
                all.push((name, record));
            }
        }
        all.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(all)
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&self, folder: &Path, name: &str) -> Result<(), Fault> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).about(folder.display())?;
        let path = file(folder, name)?;
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Fault::new(path.display(), error))?;
        let new = path.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).about(path.display())
    }

    /// Drops the record of a stack.
    pub(super) fn forget(folder: &Path, name: &str) -> Result<(), Fault> {
        let path = file(folder, name)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.about(path.display()),
        }
    }

    /// Lists its devices that are there.
    pub(super) fn there(&self, dm: &mut dyn DeviceMapper) -> Result<Vec<&Part>, Fault> {
        let mut there = Vec::new();
        for part in &self.devices {
            let device = find(dm, &part.name)?;
            let uuid = device.and_then(|device| device.status.uuid).unwrap_or_default();
            if uuid == part.uuid {
                there.push(part);
            }
        }
        Ok(there)
    }
}
