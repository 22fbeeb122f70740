//! What programs see of the nodes: a `/dev`, `/sys/dev/block`, `/sys/block` and `/proc/devices`
//! where mapped devices are as the kernel's would be, and all else is the host's.
//!
//! A mapped device is called `dm-N`. Its folder lies in `sys-devices`, which is bound nowhere, as lvm
//! takes all that there is in `/sys/dev/block` for a device; `259:k` is a link to it, as programs take
//! the device's name from there, and so is `sys-block/dm-N`. What it does not say itself it says by
//! links to the disk below.
//!
//! A device of the host that is below a mapped device has holders which its own folder cannot
//! have, so it gets a shadow: a folder of links to all that is in the real one, but with its own
//! `holders`. That is so as long as something is above it.

mod device;
mod graph;
mod host;
mod opens;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use sim_core::DevNumber;

use crate::node::Whole;

use host::Host;
use opens::Opens;
use place::{Place, Special};

/// The folder of mapped devices and shadows.
const HIDDEN: &str = "sys-devices";

/// The folder of the control node and of devices' own names.
const MAPPER: &str = "dev/mapper";

/// How long the node of a name lasts that a device has no more.
///
/// Where no udev runs, libdevmapper renames nodes itself after the ioctl, in `_rename_dev_node`: it
/// removes a node of the new name, and renames that of the old one. Without an old one the device
/// would have none.
pub const OLD_NAME_LASTS: Duration = Duration::from_secs(2);

/// What programs are to see of one mapped device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `N` of `dm-N`: the minor number of its node, as lvm takes one for the other.
    pub minor: u32,
    /// The number of its block node.
    pub dev: DevNumber,
    /// The disk below the node.
    pub disk: Whole,
    /// Its name as the kernel would have it, so mangled where libdevmapper mangled it: that is what
    /// `dm/name` says, and how the node in `/dev/mapper` is called.
    pub name: String,
    /// Its uuid, likewise.
    pub uuid: Option<String>,
    /// Its size, in bytes; 0 without a table.
    pub bytes: u64,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Whether it may be read only.
    pub read_only: bool,
    /// Its logical block size, in bytes.
    pub block: u32,
    /// How far it reads ahead, in sectors of 512 bytes. The disk below is asked where there is one:
    /// programs may set it there.
    pub read_ahead: u32,
    /// The block devices that its table has open, by the numbers that programs see. What has none
    /// (an image that is a plain file) is left out.
    pub below: Vec<DevNumber>,
}

impl Facts {
    fn kernel_name(&self) -> String {
        format!("dm-{}", self.minor)
    }

    fn node(&self) -> Special {
        Special { kind: FileType::BlockDevice, dev: self.dev, mode: 0o660 }
    }

    /// Where its nodes lie: by the kernel's name, and by its own.
    fn nodes(&self) -> [PathBuf; 2] {
        [Path::new("dev").join(self.kernel_name()), Path::new(MAPPER).join(&self.name)]
    }

    /// The links that lead to its folder.
    fn links(&self) -> [PathBuf; 2] {
        let by_number = Path::new("sys-dev-block").join(self.dev.to_string());
        [by_number, Path::new("sys-block").join(self.kernel_name())]
    }
}

/// The folders and files that are to be bound over those of the host: `dev`, `sys-dev-block` over
/// `/sys/dev/block`, `sys-block` over `/sys/block`, `proc-devices` over `/proc/devices`.
///
/// They are plain, on a file system that must allow device nodes. Each file is replaced as a whole,
/// so that a reader sees one state or the other. What programs make in `dev` themselves is left
/// alone.
#[derive(Debug)]
pub struct Tree {
    dir: PathBuf,
    /// What `dev/mapper/control` links to.
    control: PathBuf,
    state: Mutex<State>,
    opens: Opens,
}

#[derive(Debug)]
struct State {
    place: Place,
    host: Host,
    /// By their minor numbers.
    devices: BTreeMap<u32, Facts>,
    /// Those of which not all could be written.
    unfinished: BTreeSet<u32>,
    /// Nodes of names that devices had.
    old_names: Vec<OldName>,
}

#[derive(Clone, Debug)]
struct OldName {
    path: PathBuf,
    node: Special,
    since: Instant,
}

impl Tree {
    /// Makes a tree in an empty folder, which is made where it is missing.
    ///
    /// `dev` is a copy of the host's `/dev`: its nodes with their modes and owners, its links, and
    /// of what is mounted in it, as `pts` and `shm`, an empty folder to mount on. Mapped devices of
    /// the host itself are left out, as their names are those of ours. `dev/mapper/control` is a
    /// link to `control`.
    ///
    /// # Errors
    /// InvalidInput where the folder is part of `/dev` itself, and not of something mounted there.
    /// Otherwise what the system says. What was made so far stays.
    pub fn make(dir: &Path, control: &Path) -> io::Result<Tree> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
        // Links lead to folders by their paths.
        let dir = &dir.canonicalize()?;
        host::refuse_place_in_dev(dir)?;
        let place = Place::open(dir)?;
        furnish(&place, control)?;
        let mut host = Host::new();
        host.refresh(&place)?;
        let state = State {
            place,
            host,
            devices: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            old_names: Vec::new(),
        };
        Ok(Tree {
            dir: dir.to_owned(),
            control: control.to_owned(),
            state: Mutex::new(state),
            opens: Opens::new(),
        })
    }

    /// Shows a mapped device, or what has changed of it: name, size, state, what is below.
    ///
    /// Nodes that are missing are made again. The node of a name that a device had lasts for
    /// [`OLD_NAME_LASTS`], until the next call after it.
    ///
    /// # Errors
    /// InvalidInput for a name that is no file name, or that of the control node; otherwise what the
    /// system says. The next call completes what this one could not.
    pub fn put(&self, facts: &Facts) -> io::Result<()> {
        let reserved = ["", ".", "..", "control"].contains(&facts.name.as_str());
        if reserved || facts.name.contains(['/', '\0']) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no name of a device: {:?}", facts.name),
            ));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.devices.get(&facts.minor).cloned();
        self.drop_old_names(&mut state)?;
        if before.as_ref() == Some(facts) && !state.unfinished.contains(&facts.minor) {
            return self.write_nodes(&state, Some(facts), facts);
        }
        if before.as_ref().is_some_and(|before| before.dev != facts.dev) {
            self.drop_device(&mut state, facts.minor)?;
        }
        let before = state.devices.get(&facts.minor).cloned();
        if let Err(error) = self.write(&mut state, before.as_ref(), facts) {
            // The next call has to know what this one could not take away.
            before.map(|before| state.devices.insert(before.minor, before));
            return Err(error);
        }
        state.unfinished.remove(&facts.minor);
        Ok(())
    }

    fn write(&self, state: &mut State, before: Option<&Facts>, facts: &Facts) -> io::Result<()> {
        let was_below = before.map(|before| before.below.clone());
        let is_tied =
            was_below.as_ref() == Some(&facts.below) && !state.unfinished.contains(&facts.minor);
        state.unfinished.insert(facts.minor);
        state.devices.insert(facts.minor, facts.clone());
        // What the host has costs a look at all of it.
        let is_known = |dev: &DevNumber| {
            state.host.device(*dev).is_some()
                || state.devices.values().any(|device| device.dev == *dev)
        };
        if !facts.below.iter().all(is_known) {
            state.host.refresh(&state.place)?;
        }
        let name = facts.kernel_name();
        let folder = Path::new(HIDDEN).join(&name);
        device::write(&state.place, &folder, facts)?;
        let folder = self.dir.join(folder);
        for link in facts.links() {
            state.place.link(&link, &folder)?;
        }

        self.write_nodes(state, before, facts)?;
        let mapper = Path::new(MAPPER);
        let own = mapper.join(&facts.name);
        state.old_names.retain(|old| old.path != own);
        if let Some(before) = before.filter(|before| before.name != facts.name) {
            let path = mapper.join(&before.name);
            state.old_names.push(OldName { path, node: before.node(), since: Instant::now() });
        }
        if !is_tied {
            self.tie(state, facts, &was_below.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Makes the nodes of a device. Under a name that it has had for longer, what a program has put
    /// in the place of a node stays; what is missing is made again.
    fn write_nodes(&self, state: &State, before: Option<&Facts>, facts: &Facts) -> io::Result<()> {
        let is_new = [before.is_none(), before.is_none_or(|before| before.name != facts.name)];
        for (path, is_new) in facts.nodes().iter().zip(is_new) {
            if is_new || !state.place.has(path) {
                state.place.node(path, facts.node(), state.host.disk_group())?;
                state.place.watch(path, &self.opens);
            }
        }
        Ok(())
    }

    /// Removes nodes of names that devices have had for long enough.
    fn drop_old_names(&self, state: &mut State) -> io::Result<()> {
        let done = |old: &mut OldName| old.since.elapsed() >= OLD_NAME_LASTS;
        for old in state.old_names.extract_if(.., done) {
            state.place.remove_node(&old.path, old.node)?;
        }
        Ok(())
    }

    /// Removes the nodes of names that a device had before, at once: for one that was renamed by somebody
    /// who renames no node.
    ///
    /// # Errors
    /// What the system says.
    pub fn forget_old_names(&self, minor: u32) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { place, devices, old_names, .. } = &mut *state;
        devices.get(&minor).map_or(Ok(()), |facts| forget_names(old_names, place, facts))
    }

    /// Takes a device away. One that is not there is no error.
    ///
    /// # Errors
    /// What the system says.
    pub fn take(&self, minor: u32) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_old_names(&mut state)?;
        self.drop_device(&mut state, minor)
    }

    fn drop_device(&self, state: &mut State, minor: u32) -> io::Result<()> {
        let Some(facts) = state.devices.remove(&minor) else { return Ok(()) };
        state.unfinished.remove(&minor);
        for node in facts.nodes() {
            state.place.remove_node(&node, facts.node())?;
        }
        forget_names(&mut state.old_names, &state.place, &facts)?;
        for link in facts.links() {
            state.place.remove(&link)?;
        }
        state.place.remove(&Path::new(HIDDEN).join(facts.kernel_name()))?;
        self.tie(state, &facts, &[])
    }

    /// Returns a number that is another one each time a program has opened or closed a node of a mapped
    /// device: one that was made here, so none of a program's own.
    pub fn opens(&self) -> u64 {
        self.opens.changes()
    }

    /// Looks whether the host has other block devices than before, and shows them; to be called from time
    /// to time. A [`put`](Self::put) of a device above one that is not known does so too.
    ///
    /// # Errors
    /// What the system says.
    pub fn refresh(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_old_names(&mut state)?;
        let State { place, host, .. } = &mut *state;
        // Without it, libdevmapper makes a node there that is the host's device-mapper.
        place.link(&Path::new(MAPPER).join("control"), &self.control)?;
        host.refresh(place)
    }

    /// Makes all of it again that programs have taken away or changed: for one that is about to use it. What they
    /// have made besides stays, and so does a link to a device's own node in the place of its name.
    ///
    /// # Errors
    /// What the system says. Nothing is followed that programs have made.
    pub fn mend(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_old_names(&mut state)?;
        furnish(&state.place, &self.control)?;
        let State { place, host, devices, .. } = &mut *state;
        let below: BTreeSet<_> = devices.values().flat_map(|device| &device.below).collect();
        host.mend(place, |dev| below.contains(&dev))?;
        let devices: Vec<Facts> = devices.values().cloned().collect();
        for facts in &devices {
            self.mend_nodes(&state, facts)?;
            state.unfinished.insert(facts.minor);
            self.write(&mut state, Some(facts), facts)?;
            state.unfinished.remove(&facts.minor);
        }
        let below: BTreeSet<_> = devices.iter().flat_map(|device| &device.below).collect();
        for dev in below {
            // Whole, a shadow of the host's too.
            self.write_holders(&state, *dev, None)?;
        }
        Ok(())
    }

    fn mend_nodes(&self, state: &State, facts: &Facts) -> io::Result<()> {
        let own = Path::new("..").join(facts.kernel_name());
        for path in facts.nodes() {
            if !(path.starts_with(MAPPER) && state.place.is_link_to(&path, &own)) {
                state.place.node(&path, facts.node(), state.host.disk_group())?;
                state.place.watch(&path, &self.opens);
            }
        }
        Ok(())
    }

    /// Takes the nodes of mapped devices out of a tree, as far as that can be, which nobody keeps true from
    /// now on: their numbers may soon be others'. Whoever has it bound sees them go.
    pub fn leave(dir: OwnedFd) {
        let Ok(place) = Place::of(dir) else { return };
        let is_mapped = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("dm-"));
        for (folder, is_whole) in [("dev", false), ("sys-block", false), (MAPPER, true)] {
            let names = place.names(Path::new(folder)).unwrap_or_default();
            for name in names.iter().filter(|name| is_whole || is_mapped(name)) {
                let _stays = place.remove(&Path::new(folder).join(name));
            }
        }
    }

    /// Removes all that was made, and what programs have made in it. It may be bound somewhere: it
    /// is empty there then.
    ///
    /// # Errors
    /// What the system says. The folder itself stays.
    pub fn remove(self) -> io::Result<()> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        for name in ["dev", "sys-dev-block", "sys-block", HIDDEN, "proc-devices"] {
            state.place.remove(Path::new(name))?;
        }
        Ok(())
    }
}

fn forget_names(names: &mut Vec<OldName>, place: &Place, of: &Facts) -> io::Result<()> {
    let mut old = names.extract_if(.., |old| old.node == of.node());
    old.try_for_each(|old| place.remove_node(&old.path, old.node))
}

/// Makes what there is without a mapped device.
fn furnish(place: &Place, control: &Path) -> io::Result<()> {
    host::copy_dev(place, Path::new("/dev"), Path::new("dev"))?;
    place.folder(Path::new(MAPPER))?;
    place.link(&Path::new(MAPPER).join("control"), control)?;
    for name in ["sys-dev-block", "sys-block", HIDDEN] {
        place.folder(Path::new(name))?;
    }
    let devices = host::devices(&fs::read_to_string("/proc/devices")?);
    place.file(Path::new("proc-devices"), &devices)
}
