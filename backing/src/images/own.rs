//! What of this instance, and of others, a path leads to.
//!
//! A daemon that has a file of its own mount open waits for itself when it is killed: closing the
//! file asks the one who is about to die. The same goes for what lies on such a file, by a loop
//! device, and for two instances that have each other's files open.

use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::fs::{major, minor};

use super::mounts::{Base, Leads, Mounts, loop_files};

/// How long whoever serves a file may take to say what it is.
const DEADLINE: Duration = Duration::from_secs(10);

/// What an instance has in its folders, and writes by itself: an image of it would spoil it.
const KEPT: [&str; 6] = ["record.log", "state.json", "log", "kmsg", "lock", "control.sock"];

/// What else begins with a name of these and a dot.
const WITH_MORE: [&str; 2] = ["record.log.", "state.json."];

/// The mount of the instance, and its folders.
#[derive(Default)]
pub(super) struct Own {
    /// The number of the mount's file system.
    device: OnceLock<String>,
    /// Where the instance's own files are.
    folders: OnceLock<Vec<PathBuf>>,
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

    /// Takes note of where the instance keeps its own files.
    pub(super) fn keeps(&self, folders: &[PathBuf]) {
        let _only_once = self.folders.set(folders.to_vec());
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
        let (leads, real) = mounts.followed(path);
        match leads {
            Leads::Dmsim { device, inside } => return self.inside(&device, &inside),
            Leads::Elsewhere => {}
            Leads::Remote if answers_in_time(path) => {}
            Leads::Remote => {
                let why = format!(
                    "whoever serves the file does not answer: waited {} s",
                    DEADLINE.as_secs()
                );
                return Way::Barred(why);
            }
        }
        if self.is_kept(&real) {
            return Way::Barred("is one of the instance's own files".to_owned());
        }
        self.below(&mounts, leads, real)
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
    /// it, by loop devices, overlays and whatever else stacks, as far down as it goes.
    fn below(&self, mounts: &Mounts, leads: Leads, real: PathBuf) -> Way {
        let node = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            let is_node = found.file_type().is_block_device();
            is_node.then(|| Base::Device(major(found.rdev()), minor(found.rdev())))
        };
        // Whoever serves a remote file is not asked again.
        let first = if leads == Leads::Remote { None } else { node(&real) };
        let what = if first.is_some() { "is" } else { "lies in a file system on" };
        let mut next: Vec<Base> = match first {
            Some(device) => vec![device],
            None => mounts.bases(&real),
        };
        let mut seen = HashSet::new();
        while let Some(base) = next.pop() {
            match base {
                Base::Device(major, minor) if seen.insert(format!("{major}:{minor}")) => {
                    next.extend(loop_files(major, minor).into_iter().map(Base::Path));
                }
                Base::Path(path) if seen.insert(path.display().to_string()) => {
                    let (leads, real) = mounts.followed(&path);
                    match leads {
                        Leads::Dmsim { device, inside } => {
                            return self.on_dmsim(what, &path, &device, &inside);
                        }
                        Leads::Remote => next.extend(mounts.bases(&real)),
                        Leads::Elsewhere => match node(&real) {
                            Some(device) => next.push(device),
                            None => next.extend(mounts.bases(&real)),
                        },
                    }
                }
                // Known already.
                Base::Device(..) | Base::Path(_) => {}
            }
        }
        Way::Free
    }

    fn on_dmsim(&self, what: &str, file: &Path, device: &str, inside: &Path) -> Way {
        Way::Barred(match self.inside(device, inside) {
            Way::Mapped(name) => format!(
                "{what} a loop device over the mapped device `{name}`, for which the daemon \
                 would wait for itself: tables name `{name}` by its name"
            ),
            Way::Free | Way::Barred(_) => {
                format!("{what} a loop device over {}, of another dmsim", file.display())
            }
        })
    }
}

/// Tells whether whoever serves a file says in time what it is.
fn answers_in_time(path: &Path) -> bool {
    let (answer, answers) = channel();
    let path = path.to_owned();
    let ask = move || {
        let is_file = std::fs::metadata(&path).is_ok_and(|found| found.is_file());
        if is_file {
            let _opened = std::fs::File::open(&path);
        }
        // Nobody waits for it where it came late.
        let _ = answer.send(());
    };
    match std::thread::Builder::new().name("ask".to_owned()).spawn(ask) {
        Ok(_) => answers.recv_timeout(DEADLINE).is_ok(),
        Err(_) => false,
    }
}
