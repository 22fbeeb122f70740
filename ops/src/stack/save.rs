//! Takes a stack down as it is.

use std::path::Path;

use daemon::Fault;
use sim_core::control::{DevStatus, Id, Report, Slot};
use sim_core::{Access, KeyText, TargetSpec};

use super::names::Names;
use super::words::{lacks_key, with_key_of};
use super::{Device, Image, Stack, Table};
use crate::device_mapper::DeviceMapper;
use crate::devices::report;

/// What becomes of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// They are left out: `?` and their length stand in their places.
    LeftOut,
    /// They are written.
    Plain,
}

/// What becomes of minor numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minors {
    /// A load gives the lowest free ones.
    Any,
    /// They are written.
    Kept,
}

/// How a file calls images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagesBy {
    /// By the name that they are attached as, where they have one; the file lists those.
    Name,
    /// By their paths, so that a table attaches them by itself; the file lists none.
    Path,
}

/// How a stack is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// What becomes of keys.
    pub keys: Keys,
    /// What becomes of minor numbers.
    pub minors: Minors,
    /// How images are called.
    pub images: ImagesBy,
}

/// Takes down all that is attached and mapped, with paths below `folder` as they start from there.
///
/// # Errors
/// Where the instance cannot be asked; where the path of an image leads to it no more.
pub fn save(dm: &mut dyn DeviceMapper, folder: &Path, how: How) -> Result<Stack, Fault> {
    let How { keys, minors, images: images_by } = how;
    let names = Names::of(dm)?;
    let mut images = Vec::new();
    for image in &names.images {
        let path = image.path.display();
        if let Some(lost) = image.lost {
            return Err(Fault::new(path, lost.text()));
        }
        if image.path.to_str().is_none() {
            return Err(Fault::new(
                path,
                "its path is no UTF-8, which a file of this kind has to be",
            ));
        }
        // What a table names by its path, it attaches itself.
        if !image.on_the_spot && images_by == ImagesBy::Name {
            images.push(Image {
                line: 0,
                file: image.path.clone(),
                name: image.name.clone(),
                create: None,
                access: image.access,
                sector_size: image.sector_size,
                host_device: image.host_device,
            });
        }
    }
    let mut saved = Saving { dm, names: &names, folder, keys, images_by };
    let mut devices = Vec::new();
    let mut last = Vec::new();
    for listed in &names.devices {
        let Some((status, live)) = saved.table(&listed.name, Slot::Live)? else { continue };
        let Some((_, inactive)) = saved.table(&listed.name, Slot::Inactive)? else { continue };
        let changes_below = |table: &Table| {
            table.lines.iter().any(|(_, line)| line.target_type == "snapshot-merge")
        };
        let is_last = live.as_ref().is_some_and(changes_below);
        let device = Device {
            line: 0,
            name: status.name,
            uuid: status.uuid,
            minor: (minors == Minors::Kept).then_some(status.dev.minor),
            suspended: status.suspended && live.is_some(),
            live,
            inactive,
        };
        if is_last { &mut last } else { &mut devices }.push(device);
    }
    devices.extend(last);
    Stack::new(folder, Vec::new(), images, devices).map_err(|why| Fault::new("save", why))
}

struct Saving<'a> {
    dm: &'a mut dyn DeviceMapper,
    names: &'a Names,
    folder: &'a Path,
    keys: Keys,
    images_by: ImagesBy,
}

impl Saving<'_> {
    /// Returns one of a device's tables; nothing where the device is gone.
    fn table(
        &mut self,
        name: &str,
        slot: Slot,
    ) -> Result<Option<(DevStatus, Option<Table>)>, Fault> {
        let Some((status, lines)) = table_of(self.dm, name, slot, KeyText::LeftOut)? else {
            return Ok(None);
        };
        let is_there = match slot {
            Slot::Live => status.live_present,
            Slot::Inactive => status.inactive_present,
        };
        if !is_there {
            return Ok(Some((status, None)));
        }
        let lines = match self.keys {
            Keys::Plain if lines.iter().any(lacks_key) => {
                let plain = table_of(self.dm, name, slot, KeyText::Plain)?;
                let Some((_, plain)) = plain.filter(|(_, plain)| plain.len() == lines.len()) else {
                    return Err(Fault::new(name, "its table has changed meanwhile: save again"));
                };
                lines.iter().zip(&plain).map(|(line, plain)| with_key_of(line, plain)).collect()
            }
            Keys::LeftOut | Keys::Plain => lines,
        };
        let access = if status.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let lines = lines
            .iter()
            .map(|line| (0, self.names.in_words(line, self.folder, self.images_by)))
            .collect();
        Ok(Some((status, Some(Table { access, lines }))))
    }
}

/// Asks for one of a device's tables.
pub(super) fn table_of(
    dm: &mut dyn DeviceMapper,
    name: &str,
    slot: Slot,
    keys: KeyText,
) -> Result<Option<(DevStatus, Vec<TargetSpec>)>, Fault> {
    report(dm, Id::Name(name.to_owned()), Report::Table, slot, keys)
}
