//! What of this instance, and of others, a path leads to.
//!
//! A daemon that has a file of its own mount open waits for itself when it is killed: closing the
//! file asks the one who is about to die. The same goes for what lies on such a file, by a loop
//! device, and for two instances that have each other's files open.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::fs::{major, minor};

use super::mounts::{Leads, Mounts, loop_files};

/// How long whoever serves a file may take to say what it is.
const DEADLINE: Duration = Duration::from_secs(10);

/// The mount of the instance.
#[derive(Default)]
pub(super) struct Own {
    /// The number of its file system.
    device: OnceLock<String>,
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
        match Mounts::read().map(|mounts| mounts.follow(dir)) {
            Ok(Leads::Dmsim { device, .. }) => drop(self.device.set(device)),
            other => tracing::error!(dir = %dir.display(), ?other, "the mount is in no table"),
        }
    }

    /// Tells what a path is. Nothing of dmsim's is asked for it; what may hang is asked by a thread
    /// of its own, with a deadline.
    pub(super) fn way(&self, path: &Path) -> Way {
        let mounts = match Mounts::read() {
            Ok(mounts) => mounts,
            Err(error) => {
                tracing::warn!(%error, "no table of mounts");
                return Way::Free;
            }
        };
        let found = match mounts.follow(path) {
            Leads::Dmsim { device, inside } => return self.inside(&device, &inside),
            Leads::Elsewhere => std::fs::metadata(path),
            Leads::Remote => match within_deadline(path) {
                Some(found) => found,
                None => {
                    let why = format!(
                        "whoever serves the file does not answer: waited {} s",
                        DEADLINE.as_secs()
                    );
                    return Way::Barred(why);
                }
            },
        };
        // What is not there yet is made in its folder.
        let found = found.or_else(|_| std::fs::metadata(path.parent().unwrap_or(path)));
        found.map_or(Way::Free, |found| self.on_loops(&mounts, &found))
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

    /// Looks for dmsim below the block device that a file is, or that its file system lies on.
    fn on_loops(&self, mounts: &Mounts, found: &Metadata) -> Way {
        let is_node = found.file_type().is_block_device();
        let below = if is_node { found.rdev() } else { found.dev() };
        let below: Vec<PathBuf> = loop_files(major(below), minor(below));
        for file in below {
            let Leads::Dmsim { device, inside } = mounts.follow(&file) else { continue };
            let what = if is_node { "is" } else { "lies in a file system on" };
            return Way::Barred(match self.inside(&device, &inside) {
                Way::Mapped(name) => format!(
                    "{what} a loop device over the mapped device `{name}`, for which the daemon \
                     would wait for itself: tables name `{name}` by its name"
                ),
                Way::Free | Way::Barred(_) => {
                    format!("{what} a loop device over {}, of another dmsim", file.display())
                }
            });
        }
        Way::Free
    }
}

/// Asks what a file is; nothing where that takes too long.
fn within_deadline(path: &Path) -> Option<std::io::Result<Metadata>> {
    let (answer, answers) = channel();
    let path = path.to_owned();
    let ask = move || {
        let found = std::fs::metadata(&path).and_then(|found| {
            if found.is_file() {
                std::fs::File::open(&path)?;
            }
            Ok(found)
        });
        // Nobody waits for it where it came late.
        let _ = answer.send(found);
    };
    match std::thread::Builder::new().name("ask".to_owned()).spawn(ask) {
        Ok(_) => answers.recv_timeout(DEADLINE).ok(),
        Err(error) => Some(Err(error)),
    }
}
