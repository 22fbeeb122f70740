//! Files, links and nodes that are replaced as a whole, and only where they differ.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, major, makedev, minor, mknodat};
use sim_core::DevNumber;

/// A device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Special {
    pub(super) kind: FileType,
    pub(super) dev: DevNumber,
    /// The permissions.
    pub(super) mode: u32,
}

/// User and group.
pub(super) type Owner = (u32, u32);

/// Where something new is made before it takes its place.
#[derive(Debug)]
pub(super) struct Place {
    new: PathBuf,
}

impl Place {
    /// Makes new things in `dir`, in which all is that is replaced.
    pub(super) fn new(dir: &Path) -> Place {
        Place { new: dir.join(".new") }
    }

    /// Makes a file with this text, readable for all.
    pub(super) fn file(&self, path: &Path, text: &str) -> io::Result<()> {
        let plain = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
        if plain && fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        self.replace(path, |new| {
            fs::write(new, text)?;
            fs::set_permissions(new, fs::Permissions::from_mode(0o444))
        })
    }

    /// Makes a symbolic link.
    pub(super) fn link(&self, path: &Path, target: &Path) -> io::Result<()> {
        match fs::read_link(path) {
            Ok(there) if there == target => Ok(()),
            Ok(_) | Err(_) => self.replace(path, |new| symlink(target, new)),
        }
    }

    /// Makes a device node.
    pub(super) fn node(&self, path: &Path, node: Special, owner: Owner) -> io::Result<()> {
        if special(path) == Some((node.kind, node.dev)) {
            return Ok(());
        }
        self.replace(path, |new| {
            let number = makedev(node.dev.major, node.dev.minor);
            mknodat(CWD, new, node.kind, Mode::empty(), number)?;
            chown(new, Some(owner.0), Some(owner.1))?;
            fs::set_permissions(new, fs::Permissions::from_mode(node.mode))
        })
    }

    /// Makes a folder have these links and nothing else.
    pub(super) fn links(&self, folder: &Path, links: &BTreeMap<String, PathBuf>) -> io::Result<()> {
        self::folder(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| links.contains_key(name)) {
                absent(fs::remove_file(entry.path()))?;
            }
        }
        for (name, target) in links {
            self.link(&folder.join(name), target)?;
        }
        Ok(())
    }

    fn replace(&self, path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        absent(fs::remove_file(&self.new))?;
        make(&self.new)?;
        fs::rename(&self.new, path)
    }
}

/// Makes a folder that all may look into, whatever the process's umask is, and those that lead to it.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        folder(parent)?;
    }
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Removes a node, unless something else has come into its place.
pub(super) fn remove_node(path: &Path, node: Special) -> io::Result<()> {
    match special(path) == Some((node.kind, node.dev)) {
        true => absent(fs::remove_file(path)),
        false => Ok(()),
    }
}

/// Takes what was absent already for removed.
pub(super) fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What device a path itself is the node of.
fn special(path: &Path) -> Option<(FileType, DevNumber)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((kind(&metadata)?, number(&metadata)))
}

/// The kind of a device node.
pub(super) fn kind(metadata: &fs::Metadata) -> Option<FileType> {
    let file_type = metadata.file_type();
    match (file_type.is_block_device(), file_type.is_char_device()) {
        (true, _) => Some(FileType::BlockDevice),
        (false, true) => Some(FileType::CharacterDevice),
        (false, false) => None,
    }
}

/// The number that a device node has.
pub(super) fn number(metadata: &fs::Metadata) -> DevNumber {
    DevNumber { major: major(metadata.rdev()), minor: minor(metadata.rdev()) }
}
