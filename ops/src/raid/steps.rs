//! What a workflow has made on its way, which goes again where a later step fails.

use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use daemon::{About, Fault};
use sim_core::{Access, DevNumber, Sectors, TargetSpec};
use targets::lines::DeviceWord;

use super::leg::label::{self, Label};
use super::leg::ring::Stretch;
use super::leg::{HEADS, META, Names, heads};
use crate::commands::{create, load, one, resume, resume_beside, unlike_any_other};
use crate::device_mapper::DeviceMapper;
use crate::devices::find;
use crate::files::fresh;
use crate::mirror::swap::remove_below;
use crate::parts::New;

/// What the uuids of devices begin with that are made here.
pub(crate) use daemon::family::MADE_FOR_RAID as MADE_BY_US;

enum Step {
    /// A file was made.
    File(PathBuf),
    /// A file was so long, in bytes, and perhaps attached by this number.
    Length(PathBuf, u64, Option<DevNumber>),
    /// A file had this at some byte.
    Bytes(PathBuf, u64, Vec<u8>),
    /// A device was made, or was about to be: where an answer is lost, nobody knows.
    Device { name: String, uuid: String },
}

/// Steps that were done, or begun.
#[derive(Default)]
pub(super) struct Done(Vec<Step>);

impl Done {
    /// Makes the file of an image.
    pub(super) fn file(&mut self, path: &Path, size: u64) -> Result<(), Fault> {
        let mut new = std::fs::File::options();
        let new = new.write(true).create_new(true).mode(0o600).open(path).about(path.display())?;
        self.0.push(Step::File(path.to_owned()));
        new.set_len(size).about(path.display())
    }

    /// Takes the metadata of an older set away from an image.
    pub(super) fn clear_heads(&mut self, path: &Path) -> Result<(), Fault> {
        let Some((_, bytes)) = heads(path)? else { return Ok(()) };
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.0.push(Step::Bytes(path.to_owned(), 0, bytes));
        write(path, 0, &[0; HEADS])
    }

    /// Writes bytes to an image.
    pub(super) fn bytes(&mut self, path: &Path, at: u64, new: &[u8]) -> Result<(), Fault> {
        let mut old = vec![0; new.len()];
        let file = fresh(path, Access::ReadOnly)?;
        file.read_exact_at(&mut old, at).about(path.display())?;
        self.0.push(Step::Bytes(path.to_owned(), at, old));
        write(path, at, new)
    }

    /// Gives an image the label of its set, or takes that of another set away.
    pub(super) fn label(&mut self, path: &Path, label: Option<Label>) -> Result<(), Fault> {
        let mut old = vec![0; label::LEN];
        let file = fresh(path, Access::ReadOnly)?;
        file.read_exact_at(&mut old, label::AT).about(path.display())?;
        let new = label.map_or([0; label::LEN], Label::to_bytes);
        if old == new {
            return Ok(());
        }
        self.0.push(Step::Bytes(path.to_owned(), label::AT, old));
        write(path, label::AT, &new)
    }

    /// Makes the file of an image as long as this, if it is shorter.
    pub(super) fn longer(
        &mut self,
        dm: &mut dyn DeviceMapper,
        image: &New,
        needed: Sectors,
    ) -> Result<(), Fault> {
        let len = image.path.metadata().about(image.path.display())?.len();
        if len >= needed.bytes() {
            return Ok(());
        }
        self.0.push(Step::Length(image.path.clone(), len, image.dev));
        set_len(dm, &image.path, needed.bytes(), image.dev)
    }

    /// Makes a device with a table, and lets it run.
    pub(super) fn device(
        &mut self,
        dm: &mut dyn DeviceMapper,
        name: &str,
        table: Vec<TargetSpec>,
    ) -> Result<(), Fault> {
        self.device_as(dm, name, table, Access::ReadWrite)
    }

    /// As [`Done::device`], where it may be read-only.
    pub(super) fn device_as(
        &mut self,
        dm: &mut dyn DeviceMapper,
        name: &str,
        table: Vec<TargetSpec>,
        access: Access,
    ) -> Result<(), Fault> {
        self.loaded(dm, name, table, access)?;
        resume(dm, name)
    }

    /// As [`Done::device`], of one over sectors that another device has, and has no more soon.
    pub(super) fn device_beside(
        &mut self,
        dm: &mut dyn DeviceMapper,
        name: &str,
        table: Vec<TargetSpec>,
    ) -> Result<(), Fault> {
        self.loaded(dm, name, table, Access::ReadWrite)?;
        resume_beside(dm, name)
    }

    fn loaded(
        &mut self,
        dm: &mut dyn DeviceMapper,
        name: &str,
        table: Vec<TargetSpec>,
        access: Access,
    ) -> Result<(), Fault> {
        // A number that makes the uuid unlike that of the device before it.
        let number = DevNumber::mapped(self.0.len() as u32 + 1);
        let uuid = format!("{MADE_BY_US}{}", unlike_any_other(number));
        self.0.push(Step::Device { name: name.to_owned(), uuid: uuid.clone() });
        create(dm, name, Some(uuid))?;
        load(dm, name, access, table)
    }

    /// Makes the devices of a leg over an image.
    pub(super) fn leg(
        &mut self,
        dm: &mut dyn DeviceMapper,
        names: &Names,
        image: &DeviceWord,
        data: &Stretch,
        access: Access,
    ) -> Result<(), Fault> {
        let meta = one(META, "linear", &format!("{image} 0"));
        self.device_as(dm, &names.meta, meta, access)?;
        self.device_as(dm, &names.data, data.table(image), access)
    }

    /// Goes `forward`, and undoes what was done where that fails: then `end` says how things are.
    pub(super) fn or_undo(
        dm: &mut dyn DeviceMapper,
        end: impl FnOnce(&mut dyn DeviceMapper) -> String,
        forward: impl FnOnce(&mut dyn DeviceMapper, &mut Done) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut done = Done::default();
        let Err(fault) = forward(dm, &mut done) else { return Ok(()) };
        let undone = done.undo(dm);
        let end = end(dm);
        Err(fault.undone(undone, end))
    }

    /// Undoes all of it, the last first. Each is tried, whatever became of the others; returns the
    /// first fault.
    pub(super) fn undo(self, dm: &mut dyn DeviceMapper) -> Result<(), Fault> {
        let mut result = Ok(());
        for step in self.0.into_iter().rev() {
            result = result.and(match step {
                Step::File(path) => std::fs::remove_file(&path).about(path.display()),
                Step::Length(path, len, dev) => set_len(dm, &path, len, dev),
                Step::Bytes(path, at, bytes) => write(&path, at, &bytes),
                // Somebody else may have been faster to make one of that name.
                Step::Device { name, uuid } => match find(dm, &name) {
                    Ok(Some(device)) if device.status.uuid.as_ref() == Some(&uuid) => {
                        remove_below(dm, &name)
                    }
                    Ok(_) => Ok(()),
                    Err(fault) => Err(fault),
                },
            });
        }
        result
    }
}

/// Gives a file a length, durably, and has the image that it perhaps is go by that.
fn set_len(
    dm: &mut dyn DeviceMapper,
    path: &Path,
    bytes: u64,
    dev: Option<DevNumber>,
) -> Result<(), Fault> {
    let file = fresh(path, Access::ReadWrite)?;
    file.set_len(bytes).and_then(|()| file.sync_all()).about(path.display())?;
    dev.map_or(Ok(()), |dev| dm.resize(&dev.to_string()))
}

fn write(path: &Path, at: u64, bytes: &[u8]) -> Result<(), Fault> {
    let file = fresh(path, Access::ReadWrite)?;
    file.write_all_at(bytes, at).and_then(|()| file.sync_data()).about(path.display())
}
