//! What belongs to a stack: kept in a file, so that it is closed as one, by another command, after a restart.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use daemon::family::MADE_FOR_RAID;
use daemon::{About, Fault, Instance};
use serde::{Deserialize, Serialize};
use sim_core::control::Id;

use super::super::Made;
use super::sets::parts_of;
use crate::device_mapper::DeviceMapper;
use crate::devices::{by_id, find};
use crate::files::{image_at, is_same_file};
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
    /// It is being opened, or what opened it has ended before its time: not all of it need be there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) begun: bool,
}

fn is_false(it: &bool) -> bool {
    !it
}

/// A device of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Its name, as the kernel has it.
    pub(super) name: String,
    /// Its uuid: one of the name alone may be another's. Of a RAID set that is being put together, which has a
    /// uuid of its own choice, what they all begin with.
    pub(super) uuid: String,
}

impl Part {
    pub(super) fn of(made: &Made) -> Part {
        Part { name: made.name.clone(), uuid: made.uuid.clone() }
    }

    fn is(&self, uuid: &str) -> bool {
        self.uuid == uuid || (self.uuid == MADE_FOR_RAID && uuid.starts_with(MADE_FOR_RAID))
    }
}

/// What keeps other commands from a stack while it is opened: gone with the process that opens it.
#[derive(Debug)]
pub(super) struct UnderWay(File);

impl UnderWay {
    /// Marks a stack as being opened. Only who has the turn does so.
    pub(super) fn begin(folder: &Path, name: &str) -> Result<UnderWay, Fault> {
        make(folder)?;
        let path = mark(folder, name)?;
        loop {
            let file = File::options().write(true).create(true).truncate(false).open(&path);
            let file = file.about(path.display())?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(being_opened("open", name)),
                Err(TryLockError::Error(error)) => return Err(Fault::new(path.display(), error)),
            }
            let inode = |meta: Metadata| (meta.dev(), meta.ino());
            // Whoever was done with it may have removed it meanwhile.
            let is_there = path.metadata().is_ok_and(|there| {
                file.metadata().is_ok_and(|locked| inode(locked) == inode(there))
            });
            if is_there {
                return Ok(UnderWay(file));
            }
        }
    }

    /// Takes the mark away: no other is set while it is there.
    pub(super) fn end(self, folder: &Path, name: &str) {
        if let Ok(path) = mark(folder, name) {
            // One that stays, and nobody has locked, says nothing.
            let _gone = fs::remove_file(path);
        }
        drop(self.0);
    }

    /// Tells whether a stack is being opened.
    fn is(folder: &Path, name: &str) -> bool {
        let file = mark(folder, name).ok().and_then(|path| File::open(path).ok());
        file.is_some_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// Refuses a stack that is being opened.
pub(super) fn refuse_stack_under_way(folder: &Path, about: &str, name: &str) -> Result<(), Fault> {
    match UnderWay::is(folder, name) {
        true => Err(being_opened(about, name)),
        false => Ok(()),
    }
}

/// Refuses an image that is part of a stack which is being opened.
pub(super) fn refuse_image_under_way(folder: &Path, image: &Path) -> Result<(), Fault> {
    for (name, record) in Record::all(folder)? {
        if record.has(image) && UnderWay::is(folder, &name) {
            return Err(being_opened(image.display(), &name));
        }
    }
    Ok(())
}

fn being_opened(about: impl fmt::Display, name: &str) -> Fault {
    Fault::new(about, format!("the stack `{name}` is being opened by another command"))
}

/// Returns the folder in which stacks are recorded.
pub(super) fn folder(instance: &Instance) -> PathBuf {
    instance.state().join("stacks")
}

fn file(folder: &Path, name: &str) -> Result<PathBuf, Fault> {
    Ok(folder.join(format!("{}.json", new_name("open", name)?)))
}

/// The file that is locked while a stack is opened.
fn mark(folder: &Path, name: &str) -> Result<PathBuf, Fault> {
    Ok(folder.join(format!("{}.opening", new_name("open", name)?)))
}

fn make(folder: &Path) -> Result<(), Fault> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).about(folder.display())
}

/// Refuses a stack that is open. The record of one whose devices are all gone counts for nothing.
pub(super) fn refuse_there(
    dm: &mut dyn DeviceMapper,
    folder: &Path,
    name: &str,
) -> Result<(), Fault> {
    refuse_stack_under_way(folder, "open", name)?;
    let Some(record) = Record::read(folder, name)? else { return Ok(()) };
    match record.there(dm)?.is_empty() {
        true => record.forget_images(dm),
        false if record.begun => {
            let why = format!(
                "the stack `{name}` was begun by an `open` that was ended before it was done: `dmsim close {name}` \
                 takes away what there is of it"
            );
            Err(Fault::new("open", why))
        }
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
        if !record.has(image) {
            continue;
        }
        refuse_stack_under_way(folder, &image.display().to_string(), &name)?;
        if !record.there(dm)?.is_empty() {
            let why = match record.begun {
                false => format!(
                    "is open as part of the stack `{name}`: `dmsim close {name}` closes it, --shared opens it once more"
                ),
                true => format!(
                    "is part of the stack `{name}`, of which an `open` that was ended before it was done left \
                     devices: `dmsim close {name}` takes them away"
                ),
            };
            return Err(Fault::new(image.display(), why));
        }
    }
    Ok(())
}

impl Record {
    /// Tells whether an image is part of it.
    pub(super) fn has(&self, image: &Path) -> bool {
        self.images.iter().any(|of_it| is_same_file(of_it, image))
    }

    /// Detaches the images of an opening that was ended before it made any device.
    fn forget_images(&self, dm: &mut dyn DeviceMapper) -> Result<(), Fault> {
        for image in self.attached.iter().filter(|_| self.begun) {
            if let Some(image) = image_at(dm, image)? {
                // One that is in use by now is somebody's.
                let _in_use = dm.detach(&image.kernel_name);
            }
        }
        Ok(())
    }

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
        make(folder)?;
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

    /// Lists its devices that are there, as they are called now.
    pub(super) fn there(&self, dm: &mut dyn DeviceMapper) -> Result<Vec<Part>, Fault> {
        let mut there = Vec::new();
        for part in &self.devices {
            let is_set = part.uuid == MADE_FOR_RAID;
            let of_name = find(dm, &part.name)?.and_then(|device| device.status.uuid);
            let name = match of_name {
                Some(uuid) if part.is(&uuid) => Some(part.name.clone()),
                // Its legs are made first.
                None if is_set && !parts_of(dm, &part.name)?.is_empty() => Some(part.name.clone()),
                // It may have got another name since.
                Some(_) | None if !is_set && !part.uuid.is_empty() => {
                    let renamed = by_id(dm, Id::Uuid(part.uuid.clone()))?;
                    renamed.map(|device| device.name().to_owned())
                }
                Some(_) | None => None,
            };
            there.extend(name.map(|name| Part { name, uuid: part.uuid.clone() }));
        }
        Ok(there)
    }
}
