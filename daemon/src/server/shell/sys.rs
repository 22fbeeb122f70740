//! What an ordinary user's programs find of mapped devices in `/sys`: plain files, without block nodes.
//!
//! libdevmapper looks there for a device's kernel name and its read-ahead, and lsblk for all. The machine's
//! own devices are links to where they are, but for those whose names or numbers are those of ours.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use backing::block_on;
use block_frontend::Within;
use sim_core::control::{Answer, Command, DevStatus, Id, Slot};
use sim_core::{BlockDevice, Control, DM_MAJOR, DevNumber, SECTOR_SIZE};

/// Where the kernel has all block devices by their numbers, and all disks by their names.
const OF_MACHINE: [(&str, &str); 2] =
    [("sys-dev-block", "/sys/dev/block"), ("sys-block", "/sys/block")];

/// The folder of mapped devices.
const HIDDEN: &str = "sys-devices";

/// The files, and what they say.
pub(super) struct Sys {
    dir: PathBuf,
    within: Within,
    written: Mutex<BTreeMap<u32, Facts>>,
}

/// What is said of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    texts: Vec<(&'static str, String)>,
    below: Vec<u32>,
}

impl Sys {
    /// Makes the folders that are bound over those of the machine, in `dir`, which may have some of before.
    pub(super) fn make(dir: &Path) -> io::Result<Sys> {
        let within = Within::open(dir)?;
        for name in OF_MACHINE.map(|(ours, _)| ours).into_iter().chain([HIDDEN]) {
            within.remove(Path::new(name))?;
        }
        let sys = Sys { dir: dir.to_owned(), within, written: Mutex::default() };
        sys.furnish()?;
        Ok(sys)
    }

    fn furnish(&self) -> io::Result<()> {
        for (ours, theirs) in OF_MACHINE {
            self.within.make_folder(Path::new(ours), 0o755)?;
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
                    self.link(&Path::new(ours).join(name), &real)?;
                }
            }
        }
        self.within.make_folder(Path::new(HIDDEN), 0o755).map(drop)
    }

    /// Makes all of it again that programs have taken away or changed.
    pub(super) fn mend(&self) -> io::Result<()> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        self.furnish()?;
        for (minor, facts) in &*written {
            self.write(*minor, facts)?;
        }
        for (above, below) in pairs(&written) {
            self.tie(&written, above, below)?;
        }
        Ok(())
    }

    /// Makes the files true.
    pub(super) fn refresh(&self, control: &Control) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let now = facts(control);
        for minor in written.keys().filter(|minor| !now.contains_key(minor)) {
            for link in links(*minor) {
                self.within.remove(&link)?;
            }
            self.within.remove(&folder(*minor))?;
        }
        for (minor, facts) in &now {
            if written.get(minor) != Some(facts) {
                self.write(*minor, facts)?;
            }
        }
        let (before, after) = (pairs(&written), pairs(&now));
        for (above, below) in before.iter().filter(|pair| !after.contains(pair)) {
            for (_, link, _) in tied(*above, *below) {
                self.within.remove(&link)?;
            }
        }
        for (above, below) in after {
            self.tie(&now, above, below)?;
        }
        *written = now;
        Ok(())
    }

    fn write(&self, minor: u32, facts: &Facts) -> io::Result<()> {
        let folder = folder(minor);
        for part in ["dm", "bdi", "queue", "holders", "slaves"] {
            self.within.make_folder(&folder.join(part), 0o755)?;
        }
        for (name, text) in &facts.texts {
            let (path, text) = (folder.join(name), format!("{text}\n"));
            if !self.within.has_text(&path, text.as_bytes()) {
                // A reader sees one state or the other.
                self.within.put_file(&path, text.as_bytes(), 0o644)?;
            }
        }
        let target = self.dir.join(folder);
        links(minor).iter().try_for_each(|link| self.link(link, &target))
    }

    /// Makes the links between two devices, where there are folders for them.
    fn tie(&self, there: &BTreeMap<u32, Facts>, above: u32, below: u32) -> io::Result<()> {
        for (of, link, target) in tied(above, below) {
            if there.contains_key(&of) {
                self.link(&link, &target)?;
            }
        }
        Ok(())
    }

    fn link(&self, path: &Path, target: &Path) -> io::Result<()> {
        match self.within.target(path) {
            Ok(there) if there == target => Ok(()),
            Ok(_) | Err(_) => self.within.put_link(path, target),
        }
    }
}

fn folder(minor: u32) -> PathBuf {
    Path::new(HIDDEN).join(name(minor))
}

/// The links that lead to a device's folder.
fn links(minor: u32) -> [PathBuf; 2] {
    let number = DevNumber::mapped(minor).to_string();
    [Path::new("sys-dev-block").join(number), Path::new("sys-block").join(name(minor))]
}

/// The links between a device and one below it: in whose folder, what they are called, and where they lead.
fn tied(above: u32, below: u32) -> [(u32, PathBuf, PathBuf); 2] {
    let link = |of: u32, what: &str, to: u32| {
        (of, folder(of).join(what).join(name(to)), Path::new("../..").join(name(to)))
    };
    [link(above, "slaves", below), link(below, "holders", above)]
}

/// What is above what, and below it.
fn pairs(all: &BTreeMap<u32, Facts>) -> Vec<(u32, u32)> {
    let below = all.iter().map(|(above, facts)| (above, &facts.below));
    below.flat_map(|(above, below)| below.iter().map(|one| (*above, *one))).collect()
}

fn name(minor: u32) -> String {
    format!("dm-{minor}")
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
