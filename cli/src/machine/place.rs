//! Where an image that was named lies, and whether it can be used.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sim_core::DevNumber;
use sim_core::control::{Answer, Command, Id, Slot};

use super::{Machine, above, find};
use crate::fault::{About, Fault};
use crate::open::image::escaped;
use crate::open::{MAPPER, mapped_path, mapped_word};

/// Returns where the bytes of an image can be read, and what a table line calls it.
pub(crate) fn place(machine: &mut dyn Machine, typed: &Path) -> Result<(PathBuf, String), Fault> {
    let text = typed.to_str();
    let images = machine.images()?;
    if let Some(image) =
        images.iter().find(|image| image.name.is_some() && image.name.as_deref() == text)
    {
        return Ok((image.path.clone(), image.name.clone().unwrap_or_default()));
    }
    if let Some(word) = mapped_word(machine.mount(), typed) {
        return Ok((mapped_path(machine.mount(), &word), word));
    }
    let path = std::path::absolute(typed).about(typed.display())?;
    match path.to_str() {
        Some(text) => Ok((path.clone(), escaped(text))),
        None => Err(Fault::new(path.display(), "expected a path in UTF-8")),
    }
}

/// Refuses an image that a table uses already, or that could not be written while the origin is
/// suspended.
pub(crate) fn refuse_used(
    machine: &mut dyn Machine,
    origin: &str,
    path: &Path,
    word: &str,
) -> Result<(), String> {
    let text = |fault: Fault| fault.to_string();
    let number = match word.strip_prefix(MAPPER) {
        Some(name) => {
            let device = find(machine, name).map_err(text)?;
            device.ok_or("no such device")?.status.dev
        }
        None => {
            refuse_on(machine, origin, path)?;
            let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let images = machine.images().map_err(text)?;
            match images.iter().find(|image| image.path == real) {
                Some(image) if image.access.is_read_only() => {
                    return Err("is attached read-only".to_owned());
                }
                Some(image) => image.number,
                None => return Ok(()),
            }
        }
    };
    if maps_onto(machine, number, origin).map_err(text)? {
        return Err(format!("lies on `{origin}` itself"));
    }
    match &above(machine, number).map_err(text)?[..] {
        [] => Ok(()),
        users => Err(format!("is in use by the table of `{}`", users.join("`, `"))),
    }
}

/// Tells whether a device is this one, or maps onto it.
fn maps_onto(machine: &mut dyn Machine, top: DevNumber, below: &str) -> Result<bool, Fault> {
    let Some(below) = find(machine, below)? else { return Ok(false) };
    let mut next = vec![top];
    while let Some(dev) = next.pop() {
        if dev == below.status.dev {
            return Ok(true);
        }
        let deps = Command::TableDeps { id: Id::Dev(dev), slot: Slot::Live };
        if let Ok(Answer::Deps(deps)) = machine.control(deps)? {
            next.extend(deps);
        }
    }
    Ok(false)
}

/// Refuses a file in a file system that is mounted, by a loop device, from the origin: it would be
/// written to while the origin is suspended, and both would wait for ever.
fn refuse_on(machine: &mut dyn Machine, origin: &str, path: &Path) -> Result<(), String> {
    let there = [Some(path), path.parent()].into_iter().flatten();
    let Some(meta) = there.filter_map(|path| path.metadata().ok()).next() else { return Ok(()) };
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let sysfs = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition has its disk above it.
    let file = ["loop/backing_file", "../loop/backing_file"]
        .iter()
        .find_map(|name| std::fs::read_to_string(sysfs.join(name)).ok());
    let Some(file) = file else { return Ok(()) };
    let Some(word) = mapped_word(machine.mount(), Path::new(file.trim_end())) else {
        return Ok(());
    };
    let name = word.strip_prefix(MAPPER).unwrap_or(&word);
    let device = find(machine, name).map_err(|fault| fault.to_string())?;
    let Some(device) = device else { return Ok(()) };
    match maps_onto(machine, device.status.dev, origin) {
        Ok(true) => {
            Err(format!("lies in a file system on `{origin}` itself, which would wait for it"))
        }
        Ok(false) => Ok(()),
        Err(fault) => Err(fault.to_string()),
    }
}
