//! What an ordinary user's programs find of mapped devices in `/sys`: plain files, without block nodes.
//!
//! libdevmapper looks there for a device's kernel name and its read-ahead, and lsblk for all. The machine's
//! own devices are links to where they are, but for those whose names or numbers are those of ours.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use backing::block_on;
use sim_core::control::{Answer, Command, DevStatus, Id, Slot};
use sim_core::{BlockDevice, Control, DM_MAJOR, DevNumber, SECTOR_SIZE};

/// Where the kernel has all block devices by their numbers, and all disks by their names.
const OF_MACHINE: [(&str, &str); 2] =
    [("sys-dev-block", "/sys/dev/block"), ("sys-block", "/sys/block")];

/// The files, and what they say.
pub(super) struct Sys {
    dir: PathBuf,
    written: Mutex<BTreeMap<u32, Facts>>,
}

/// What is said of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    texts: Vec<(&'static str, String)>,
    below: Vec<u32>,
}

impl Sys {
    /// Makes the folders that are bound over those of the machine, in `dir`, which has none of before.
    pub(super) fn make(dir: &Path) -> io::Result<Sys> {
        for (ours, theirs) in OF_MACHINE {
            anew(&dir.join(ours))?;
            for entry in fs::read_dir(theirs).into_iter().flatten() {
                let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
                let is_ours = |name: &str| {
                    let number = name.parse::<DevNumber>().ok();
                    name.starts_with("dm-") || number.is_some_and(|dev| dev.major == DM_MAJOR)
                };
                let number = fs::read_to_string(path.join("dev")).unwrap_or_default();
                if let Ok(real) = path.canonicalize()
                    && !is_ours(&name.to_string_lossy())
                    && !is_ours(number.trim())
                {
                    symlink(real, dir.join(ours).join(name))?;
                }
            }
        }
        anew(&dir.join("sys-devices"))?;
        Ok(Sys { dir: dir.to_owned(), written: Mutex::default() })
    }

    /// Makes the files true.
    pub(super) fn refresh(&self, control: &Control) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let now = facts(control);
        for minor in written.keys().filter(|minor| !now.contains_key(minor)) {
            self.links(*minor).iter().for_each(|link| drop(fs::remove_file(link)));
            fs::remove_dir_all(self.folder(*minor))?;
        }
        for (minor, facts) in &now {
            if written.get(minor) != Some(facts) {
                self.write(*minor, facts)?;
            }
        }
        let pairs = |all: &BTreeMap<u32, Facts>| -> Vec<(u32, u32)> {
            let below = all.iter().map(|(above, facts)| (above, &facts.below));
            below.flat_map(|(above, below)| below.iter().map(|one| (*above, *one))).collect()
        };
        let (before, after) = (pairs(&written), pairs(&now));
        for (above, below) in before.iter().filter(|pair| !after.contains(pair)) {
            self.tied(*above, *below).iter().for_each(|(link, _)| drop(fs::remove_file(link)));
        }
        for (above, below) in after {
            for (link, target) in self.tied(above, below) {
                if link.parent().is_some_and(Path::exists) && !link.is_symlink() {
                    symlink(target, link)?;
                }
            }
        }
        *written = now;
        Ok(())
    }

    fn write(&self, minor: u32, facts: &Facts) -> io::Result<()> {
        let folder = self.folder(minor);
        for part in ["dm", "bdi", "queue", "holders", "slaves"] {
            fs::create_dir_all(folder.join(part))?;
        }
        for (name, text) in &facts.texts {
            // A reader sees one state or the other.
            let new = self.dir.join("sys-devices/.new");
            fs::write(&new, format!("{text}\n"))?;
            fs::rename(&new, folder.join(name))?;
        }
        for link in self.links(minor) {
            if !link.is_symlink() {
                symlink(&folder, link)?;
            }
        }
        Ok(())
    }

    fn folder(&self, minor: u32) -> PathBuf {
        self.dir.join("sys-devices").join(name(minor))
    }

    /// The links that lead to a device's folder.
    fn links(&self, minor: u32) -> [PathBuf; 2] {
        let number = DevNumber::mapped(minor).to_string();
        [self.dir.join("sys-dev-block").join(number), self.dir.join("sys-block").join(name(minor))]
    }

    /// The links between a device and one below it, and where they lead.
    fn tied(&self, above: u32, below: u32) -> [(PathBuf, PathBuf); 2] {
        let link = |of: u32, what: &str, to: u32| {
            (self.folder(of).join(what).join(name(to)), Path::new("../..").join(name(to)))
        };
        [link(above, "slaves", below), link(below, "holders", above)]
    }
}

fn name(minor: u32) -> String {
    format!("dm-{minor}")
}

/// Makes a folder that is empty.
fn anew(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => fs::create_dir(folder),
    }
}

/// What there is to say of all devices.
fn facts(control: &Control) -> BTreeMap<u32, Facts> {
    let listed = match block_on(control.perform(Command::ListDevices)) {
        Ok(Answer::Devices(devices)) => devices,
        Ok(_) | Err(_) => Vec::new(),
    };
    let facts = listed.into_iter().filter_map(|listed| {
        let (id, slot) = (Id::Dev(listed.dev), Slot::Live);
        let status = Command::DevStatus { id: id.clone(), slot };
        let Ok(Answer::Status(status)) = block_on(control.perform(status)) else { return None };
        let deps = block_on(control.perform(Command::TableDeps { id: id.clone(), slot }));
        let below = match deps {
            Ok(Answer::Deps(deps)) => deps,
            Ok(_) | Err(_) => Vec::new(),
        };
        let below = below.into_iter().filter(|dev| dev.major == DM_MAJOR).map(|dev| dev.minor);
        Some((
            listed.dev.minor,
            Facts { texts: texts(control, &id, status)?, below: below.collect() },
        ))
    });
    facts.collect()
}

fn texts(control: &Control, id: &Id, status: DevStatus) -> Option<Vec<(&'static str, String)>> {
    let device = control.device(id).ok()?;
    let limits = device.limits();
    let read_ahead =
        status.read_ahead.unwrap_or_else(|| limits.read_ahead()).0 * SECTOR_SIZE / 1024;
    let block = limits.logical_block_size.to_string();
    Some(vec![
        ("dm/name", status.name),
        ("dm/uuid", status.uuid.unwrap_or_default()),
        ("dm/suspended", u32::from(status.suspended).to_string()),
        ("dev", status.dev.to_string()),
        ("size", device.size().0.to_string()),
        ("ro", u32::from(status.read_only).to_string()),
        ("removable", "0".into()),
        ("alignment_offset", "0".into()),
        ("queue/logical_block_size", block.clone()),
        ("queue/physical_block_size", block),
        ("queue/read_ahead_kb", read_ahead.to_string()),
        ("bdi/read_ahead_kb", read_ahead.to_string()),
    ])
}
