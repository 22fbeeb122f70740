//! Images and mapped devices that are to be part of another device.

use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use daemon::{About, Fault};
use sim_core::control::Id;
use sim_core::{Access, DevNumber, SECTOR_SIZE, Sectors};
use targets::lines::DeviceWord;

use crate::device_mapper::DeviceMapper;
use crate::devices::{by_id, find, in_use};
use crate::files::{is_same_file, open_image, path_of, place, refuse_used};
use crate::words::{MAPPER, device_name};

/// Returns the number of the device that a word means: by its number, an image's name or path, or a
/// mapped device's name or path.
pub(crate) fn number_of(dm: &mut dyn DeviceMapper, word: &str) -> Result<Option<DevNumber>, Fault> {
    if let Ok(dev) = word.parse() {
        return Ok(Some(dev));
    }
    let path = std::path::absolute(word).about(word)?;
    let image = dm.images()?.into_iter().find(|image| {
        image.name.as_deref() == Some(word)
            || image.kernel_name == word
            || is_same_file(&image.path, &path)
    });
    if let Some(image) = image {
        return Ok(Some(image.number));
    }
    let name = &device_name(dm.mount(), word);
    Ok(find(dm, name)?.map(|device| device.status.dev))
}

/// An image or a mapped device that is to be part of another device.
#[derive(Clone)]
pub(crate) struct New {
    /// What a table line calls it.
    pub(crate) word: DeviceWord,
    pub(crate) path: PathBuf,
    /// Its number, where it has one yet.
    pub(crate) dev: Option<DevNumber>,
}

/// How an image is to be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage<'a> {
    /// Whether it is written.
    pub(crate) access: Access,
    /// Devices that may have it as well.
    pub(crate) beside: &'a [String],
}

impl Usage<'static> {
    /// By one device alone, which writes it.
    pub(crate) const ALONE: Usage<'static> = Usage { access: Access::ReadWrite, beside: &[] };
}

/// Finds an image for a device, and refuses one that is in use, or that is to be written and cannot be.
pub(crate) fn unused(
    dm: &mut dyn DeviceMapper,
    device: &str,
    typed: &Path,
    usage: Usage<'_>,
) -> Result<New, Fault> {
    let about = typed.display().to_string();
    let dev = number_of(dm, &about)?;
    let mapped = match dev {
        Some(dev) => by_id(dm, Id::Dev(dev))?,
        None => None,
    };
    let (path, word) = match (&mapped, dev) {
        (Some(mapped), _) => {
            (dm.mount().join(mapped.name()), DeviceWord(format!("{MAPPER}{}", mapped.name())))
        }
        (None, Some(dev)) => (path_of(dm, dev)?, dev.into()),
        (None, None) => place(dm, typed)?,
    };
    refuse_used(dm, device, &path, &word, usage).map_err(|why| Fault::new(&about, why))?;
    if let Some(mapped) = mapped {
        if mapped.name() == device {
            return Err(Fault::new(about, "is the device itself"));
        }
        mapped.refuse_suspended()?;
        if mapped.status.open_count > 0 && usage.beside.is_empty() {
            return Err(in_use(dm, mapped.name())?);
        }
    }
    Ok(New { word, path, dev })
}

/// Returns the size of an image or a mapped device, and that of its sectors in bytes.
pub(crate) fn size_of(
    dm: &mut dyn DeviceMapper,
    new: &New,
) -> Result<Option<(Sectors, u32)>, Fault> {
    if let Some(dev) = new.dev {
        if let Some(image) = dm.images()?.into_iter().find(|image| image.number == dev) {
            return Ok(Some((image.size, image.sector_size)));
        }
        let mut devices = dm.describe()?.into_iter();
        let device = devices.find(|device| (device.major, device.minor) == (dev.major, dev.minor));
        return Ok(device.map(|it| (Sectors(it.size), it.limits.logical_block_size)));
    }
    // A table attaches it on the spot, with sectors of 512 bytes.
    let mut file = match open_image(&new.path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::new(new.path.display(), error)),
    };
    let len = file.seek(SeekFrom::End(0)).about(new.path.display())?;
    Ok(Some((Sectors(len / SECTOR_SIZE), 512)))
}
