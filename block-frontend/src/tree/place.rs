//! Files, links and nodes that are replaced as a whole, and only where they differ.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, major, minor};
use sim_core::DevNumber;

use super::opens::Opens;
use crate::within::{self, Ids, Within};

/// A device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Special {
    pub(super) kind: FileType,
    pub(super) dev: DevNumber,
    /// The permissions.
    pub(super) mode: u32,
}

/// User and group.
pub(super) type Owner = Ids;

/// The folder in which all is that is made and replaced. Paths are those in it.
#[derive(Debug)]
pub(super) struct Place(Within);

impl Place {
    pub(super) fn open(dir: &Path) -> io::Result<Place> {
        Within::open(dir).map(Place)
    }

    pub(super) fn of(dir: OwnedFd) -> io::Result<Place> {
        Ok(Place(Within::of(dir)?))
    }

    /// Makes a file with this text, readable for all.
    pub(super) fn file(&self, path: &Path, text: &str) -> io::Result<()> {
        match self.0.has_text(path, text.as_bytes()) {
            true => Ok(()),
            false => self.0.put_file(path, text.as_bytes(), 0o444),
        }
    }

    /// Makes a symbolic link.
    pub(super) fn link(&self, path: &Path, target: &Path) -> io::Result<()> {
        match self.is_link_to(path, target) {
            true => Ok(()),
            false => self.0.put_link(path, target),
        }
    }

    /// Makes a device node.
    pub(super) fn node(&self, path: &Path, node: Special, owner: Owner) -> io::Result<()> {
        let what = (node.kind, node.dev);
        match self.special(path) == Some(what) {
            true => Ok(()),
            false => self.0.put_node(path, what, node.mode, owner),
        }
    }

    /// Makes a folder that all may look into, and those that lead to it.
    pub(super) fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        self.0.make_folder(path, 0o755)
    }

    /// Makes a folder with this owner and mode.
    pub(super) fn folder_of(&self, path: &Path, owner: Owner, mode: u32) -> io::Result<()> {
        self.0.give(path, owner, mode)
    }

    /// Makes a folder have these links and nothing else.
    pub(super) fn links(&self, folder: &Path, links: &BTreeMap<String, PathBuf>) -> io::Result<()> {
        self.folder(folder)?;
        for name in self.0.names(folder)? {
            if !name.to_str().is_some_and(|name| links.contains_key(name)) {
                self.0.remove(&folder.join(name))?;
            }
        }
        for (name, target) in links {
            self.link(&folder.join(name), target)?;
        }
        Ok(())
    }

    /// Removes what is there, with all that is in it.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    /// Removes a node, unless something else has come into its place.
    pub(super) fn remove_node(&self, path: &Path, node: Special) -> io::Result<()> {
        match self.special(path) == Some((node.kind, node.dev)) {
            true => self.0.remove(path),
            false => Ok(()),
        }
    }

    /// Tells whether there is anything of this name.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.0.stat(path).is_ok()
    }

    pub(super) fn has_folder(&self, path: &Path) -> bool {
        let is = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        self.0.stat(path).is_ok_and(is)
    }

    pub(super) fn is_link_to(&self, path: &Path, target: &Path) -> bool {
        self.0.target(path).is_ok_and(|there| there == target)
    }

    /// Watches what has this name.
    pub(super) fn watch(&self, path: &Path, opens: &Opens) {
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && let Ok(parent) = self.0.folder(parent)
        {
            opens.watch(&within::held(&parent).join(name));
        }
    }

    pub(super) fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.0.names(folder)
    }

    /// What device a path itself is the node of.
    fn special(&self, path: &Path) -> Option<(FileType, DevNumber)> {
        special(&self.0.stat(path).ok()?)
    }
}

/// The kind and the number of a device node.
fn special(stat: &Stat) -> Option<(FileType, DevNumber)> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_special = matches!(kind, FileType::BlockDevice | FileType::CharacterDevice);
    let dev = DevNumber { major: major(stat.st_rdev), minor: minor(stat.st_rdev) };
    is_special.then_some((kind, dev))
}
