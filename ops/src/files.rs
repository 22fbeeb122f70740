//! Where an image that was named lies, and whether it can be used.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use backing::Attached;
use daemon::{About, Fault};
use rustix::fs::OFlags;
use sim_core::control::{Answer, Command, Id, Slot};
use sim_core::{Access, DevNumber};
use targets::lines::DeviceWord;

use crate::device_mapper::DeviceMapper;
use crate::devices::{above, by_id, find};
use crate::parts::Usage;
use crate::words::{MAPPER, device_name, mapped_path, mapped_word};

/// How much of a file's start and end has to be zeros for the file to count as empty: file systems
/// and partition tables have something there, though some leave the first bytes alone.
const EMPTY_START: u64 = 1 << 20;
const EMPTY_END: u64 = 64 << 10;

/// Opens what may be an image, to read it.
///
/// # Errors
/// Also for what no image can be: to open a pipe would wait for whoever writes to it.
pub(crate) fn open_image(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let kind = file.metadata()?.file_type();
    let found = match () {
        () if kind.is_file() || kind.is_block_device() => return Ok(file),
        () if kind.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        () if kind.is_fifo() => "a pipe",
        () if kind.is_char_device() => "a character device",
        () => "a socket",
    };
    let why = format!("expected a regular file or a block device, found {found}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Returns where the bytes of an image can be read, and what a table line calls it.
pub(crate) fn place(
    dm: &mut dyn DeviceMapper,
    typed: &Path,
) -> Result<(PathBuf, DeviceWord), Fault> {
    let text = typed.to_str();
    let images = dm.images()?;
    if let Some(image) =
        images.iter().find(|image| image.name.is_some() && image.name.as_deref() == text)
    {
        return Ok((image.path.clone(), DeviceWord(image.name.clone().unwrap_or_default())));
    }
    if let Some(word) = mapped_word(dm.mount(), typed) {
        return Ok((mapped_path(dm.mount(), &word), DeviceWord(word)));
    }
    let path = std::path::absolute(typed).about(typed.display())?;
    // A file counts before a device of its name.
    if let Some(bare) = text.filter(|text| !text.contains('/') && !path.exists()) {
        let name = device_name(dm.mount(), bare);
        if find(dm, &name)?.is_some() {
            return Ok((mapped_path(dm.mount(), &name), DeviceWord(format!("{MAPPER}{name}"))));
        }
    }
    match path.to_str() {
        Some(text) => Ok((path.clone(), text.into())),
        None => Err(Fault::new(path.display(), "expected a path in UTF-8")),
    }
}

/// Tells whether two paths lead to one file: by links, and by other mounts too.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    match (inode(one), inode(other)) {
        (Some(one), Some(other)) => one == other,
        _ => real(one) == real(other),
    }
}

/// Returns the attached image that a path leads to.
pub(crate) fn image_at(dm: &mut dyn DeviceMapper, path: &Path) -> Result<Option<Attached>, Fault> {
    Ok(dm.images()?.into_iter().find(|image| is_same_file(&image.path, path)))
}

/// Refuses an image that a table uses already, that could not be written while the origin is suspended, or
/// that is to be written and cannot be.
pub(crate) fn refuse_used(
    dm: &mut dyn DeviceMapper,
    origin: &str,
    path: &Path,
    word: &DeviceWord,
    usage: Usage<'_>,
) -> Result<(), String> {
    let text = |fault: Fault| fault.to_string();
    let number = match word.0.strip_prefix(MAPPER) {
        Some(name) => {
            let device = find(dm, name).map_err(text)?;
            device.ok_or("no such device")?.status.dev
        }
        None => {
            refuse_on(dm, origin, path)?;
            match image_at(dm, path).map_err(text)? {
                Some(image) if image.access.is_read_only() && !usage.access.is_read_only() => {
                    return Err("is attached read-only".to_owned());
                }
                Some(image) => image.number,
                None => return Ok(()),
            }
        }
    };
    if maps_onto(dm, number, origin).map_err(text)? {
        return Err(format!("lies on `{origin}` itself"));
    }
    let mut users = above(dm, number).map_err(text)?;
    users.retain(|user| !usage.beside.contains(user));
    match &users[..] {
        [] => Ok(()),
        users => Err(format!("is in use by the table of `{}`", users.join("`, `"))),
    }
}

/// Refuses a place that the table of a device uses already.
pub(crate) fn refuse_shared(
    dm: &mut dyn DeviceMapper,
    path: &Path,
    word: &DeviceWord,
) -> Result<(), Fault> {
    let number = match word.0.strip_prefix(MAPPER) {
        Some(name) => find(dm, name)?.map(|device| device.status.dev),
        None => image_at(dm, path)?.map(|image| image.number),
    };
    let Some(number) = number else { return Ok(()) };
    match &above(dm, number)?[..] {
        [] => Ok(()),
        users => {
            let users = users.join("`, `");
            let why = format!(
                "is in use by the table of `{users}`: two devices over the same data spoil each \
                 other's; --shared opens it all the same"
            );
            Err(Fault::new(path.display(), why))
        }
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Tells whether a device is this one, or maps onto it.
fn maps_onto(dm: &mut dyn DeviceMapper, top: DevNumber, below: &str) -> Result<bool, Fault> {
    let Some(below) = find(dm, below)? else { return Ok(false) };
    let mut next = vec![top];
    while let Some(dev) = next.pop() {
        if dev == below.status.dev {
            return Ok(true);
        }
        let deps = Command::TableDeps { id: Id::Dev(dev), slot: Slot::Live };
        if let Ok(Answer::Deps(deps)) = dm.control(deps)? {
            next.extend(deps);
        }
    }
    Ok(false)
}

/// Refuses a file in a file system that is mounted, by a loop device, from the origin: it would be
/// written to while the origin is suspended, and both would wait for ever.
fn refuse_on(dm: &mut dyn DeviceMapper, origin: &str, path: &Path) -> Result<(), String> {
    let there = [Some(path), path.parent()].into_iter().flatten();
    let Some(meta) = there.filter_map(|path| path.metadata().ok()).next() else { return Ok(()) };
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let sysfs = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition has its disk above it.
    let file = ["loop/backing_file", "../loop/backing_file"]
        .iter()
        .find_map(|name| std::fs::read_to_string(sysfs.join(name)).ok());
    let Some(file) = file else { return Ok(()) };
    let Some(word) = mapped_word(dm.mount(), Path::new(file.trim_end())) else {
        return Ok(());
    };
    let name = word.strip_prefix(MAPPER).unwrap_or(&word);
    let device = find(dm, name).map_err(|fault| fault.to_string())?;
    let Some(device) = device else { return Ok(()) };
    match maps_onto(dm, device.status.dev, origin) {
        Ok(true) => {
            Err(format!("lies in a file system on `{origin}` itself, which would wait for it"))
        }
        Ok(false) => Ok(()),
        Err(fault) => Err(fault.to_string()),
    }
}

/// Returns the file in which a device's bytes can be read.
pub(crate) fn path_of(dm: &mut dyn DeviceMapper, dev: DevNumber) -> Result<PathBuf, Fault> {
    if let Some(image) = dm.images()?.into_iter().find(|image| image.number == dev) {
        return Ok(image.path);
    }
    match by_id(dm, Id::Dev(dev))? {
        Some(device) => {
            device.refuse_suspended()?;
            Ok(dm.mount().join(device.name()))
        }
        None => Err(Fault::new(dev, "no such device")),
    }
}

/// Opens a file whose bytes are not to come from the page cache: what a device holds can be
/// written through another that lies above it.
pub(crate) fn fresh(path: &Path, access: Access) -> Result<File, Fault> {
    let file = File::options().read(true).write(!access.is_read_only()).open(path);
    let file = file.about(path.display())?;
    // Where that is not possible, nothing was kept either.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(file)
}

/// Says why a file may not be written; nothing where it may.
pub(crate) fn unwritable(path: &Path) -> Option<io::Error> {
    let error = File::options().write(true).open(path).err()?;
    let barred = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
    barred.contains(&error.kind()).then_some(error)
}

/// Looks where a file has something that is no zero, by its start and its end.
pub(crate) fn first_byte(mut file: &File) -> io::Result<Option<u64>> {
    let len = file.seek(SeekFrom::End(0))?;
    let tail = len.saturating_sub(EMPTY_END);
    for (from, to) in [(0, len.min(EMPTY_START)), (tail, len)] {
        let mut bytes = vec![0; (to - from) as usize];
        file.read_exact_at(&mut bytes, from)?;
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            return Ok(Some(from + at as u64));
        }
    }
    Ok(None)
}
