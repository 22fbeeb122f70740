//! What of this instance, and of others, a path leads to.
//!
//! A daemon that has a file of its own mount open waits for itself when it is killed: closing the
//! file asks the one who is about to die. The same goes for what lies on such a file, by a loop
//! device, and for two instances that have each other's files open.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{major, minor};

use super::ask::Questions;
use super::below::{below, served_files};
use super::mounts::{Base, Leads, Mounts, mount_number};

/// What an instance has in its folders, and writes by itself: an image of it would spoil it.
const KEPT: [&str; 7] =
    ["record.log", "state.json", "log", "kmsg", "kmsg.old", "lock", "control.sock"];

/// What else begins with a name of these and a dot.
const WITH_MORE: [&str; 2] = ["record.log.", "state.json."];

/// The mount of the instance, and its folders.
#[derive(Default)]
pub(super) struct Own {
    /// The number of the mount's file system.
    device: OnceLock<String>,
    /// Where the instance's own files are.
    folders: OnceLock<Vec<PathBuf>>,
    questions: Questions,
}

/// What a path is to an instance.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It may be opened.
    Free,
    /// It shows the mapped device of this name.
    Mapped(String),
    /// It must not be opened, and why.
    Barred(String),
}

impl Own {
    /// Takes note of the mount, which lies in this folder by now.
    pub(super) fn mounted(&self, dir: &Path) {
        match mount_number(dir) {
            Some(device) => drop(self.device.set(device)),
            None => tracing::error!(dir = %dir.display(), "the mount is in no table"),
        }
    }

    /// Tells whether an open file is one of the instance's own mount: whatever it was opened by, the
    /// path may lead elsewhere by now.
    pub(super) fn shows(&self, file: &File) -> bool {
        let Some(own) = self.device.get() else { return false };
        let on = |found: Metadata| format!("{}:{}", major(found.dev()), minor(found.dev()));
        file.metadata().is_ok_and(|found| on(found) == *own)
    }

    /// Takes note of where the instance keeps its own files.
    pub(super) fn keeps(&self, folders: &[PathBuf]) {
        let _only_once = self.folders.set(folders.to_vec());
    }

    /// Tells what a path is. Nothing of dmsim's is asked for it; what may hang is asked by a process
    /// of its own, with a deadline.
    pub(super) fn way(&self, path: &Path) -> Way {
        let mounts = match Mounts::read() {
            Ok(mounts) => mounts,
            Err(error) => {
                tracing::warn!(%error, "no table of mounts");
                return Way::Free;
            }
        };
        let mut answered = HashSet::new();
        let real = loop {
            match mounts.follow(path, &answered) {
                (Leads::Dmsim { device, inside }, _) => return self.inside(&device, &inside),
                (Leads::Elsewhere, real) => break real,
                (Leads::Remote(of), _) => {
                    if let Err(why) = self.questions.ask(&of, path) {
                        return Way::Barred(why);
                    }
                    answered.insert(of);
                }
            }
        };
        if self.is_kept(&real) {
            return Way::Barred("is one of the instance's own files".to_owned());
        }
        self.below(&mounts, &answered, real)
    }

    /// Tells whether a path without symbolic links is one of the instance's own files.
    fn is_kept(&self, real: &Path) -> bool {
        let Some(name) = real.file_name().and_then(|name| name.to_str()) else { return false };
        let ours = KEPT.contains(&name) || WITH_MORE.iter().any(|prefix| name.starts_with(prefix));
        let same = |folder: &PathBuf| {
            folder.canonicalize().is_ok_and(|folder| real.parent() == Some(&folder))
        };
        ours && self.folders.get().is_some_and(|folders| folders.iter().any(same))
    }

    fn inside(&self, device: &str, inside: &Path) -> Way {
        if self.device.get().is_none_or(|own| own != device) {
            return Way::Barred(
                "lies in the mount of another instance of dmsim: if that used a device of this one, \
                 both would wait for each other for ever"
                    .to_owned(),
            );
        }
        let name = inside.strip_prefix("/").unwrap_or(inside).to_str();
        match name.filter(|name| !name.is_empty() && !name.contains('/')) {
            Some(name) => Way::Mapped(name.to_owned()),
            None => Way::Barred("shows no mapped device".to_owned()),
        }
    }

    /// Looks for dmsim below a path: what a node, or the file system that the path lies in, has below
    /// it, by loop devices, overlays, programs and whatever else stacks, as far down as it goes.
    fn below(&self, mounts: &Mounts, answered: &HashSet<String>, real: PathBuf) -> Way {
        let node = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            let is_node = found.file_type().is_block_device();
            is_node.then(|| Base::Device(major(found.rdev()), minor(found.rdev())))
        };
        let first = node(&real);
        let what = if first.is_some() { "is" } else { "lies in a file system on" };
        let mut next: Vec<Base> = match first {
            Some(device) => vec![device],
            None => mounts.bases(&real),
        };
        let mut seen = HashSet::new();
        while let Some(base) = next.pop() {
            if !seen.insert(base.clone()) {
                continue;
            }
            let path = match base {
                Base::Device(major, minor) => {
                    let found = below(major, minor);
                    if let Some(disk) = found.served_here {
                        return Way::Barred(format!(
                            "{what} {disk}, a block node of this instance, for which the daemon would \
                             wait for itself: tables name a mapped device by its name"
                        ));
                    }
                    next.extend(found.files.into_iter().map(Base::Path));
                    continue;
                }
                Base::Served(connection) => {
                    next.extend(served_files(&connection).into_iter().map(Base::Path));
                    continue;
                }
                Base::Path(path) => path,
            };
            match mounts.follow(&path, answered) {
                (Leads::Dmsim { device, inside }, _) => {
                    return self.on_dmsim(what, &path, &device, &inside);
                }
                // Not asked: it is not to be opened.
                (Leads::Remote(_), real) => next.extend(mounts.bases(&real)),
                (Leads::Elsewhere, real) => match node(&real) {
                    Some(device) => next.push(device),
                    None => next.extend(mounts.bases(&real)),
                },
            }
        }
        Way::Free
    }

    fn on_dmsim(&self, what: &str, file: &Path, device: &str, inside: &Path) -> Way {
        Way::Barred(match self.inside(device, inside) {
            Way::Mapped(name) => format!(
                "{what} something that has the mapped device `{name}` open, for which the daemon \
                 would wait for itself: tables name `{name}` by its name"
            ),
            Way::Free | Way::Barred(_) => {
                format!("{what} a loop device over {}, of another dmsim", file.display())
            }
        })
    }
}
