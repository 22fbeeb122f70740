//! The two numbers of a device: the control plane's, and that of its block node.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use backing::machine_has;
use block_frontend::{FIRST_DISK, Node};
use sim_core::control::{Answer, Command, Id};
use sim_core::{BlockDevice, DM_MAJOR, DevNumber, Errno, LOOP_MAJOR, TargetSpec};

use super::super::state::Daemon;
use super::view::View;
use super::words::{replaced, replaced_values};

/// The version of `crypt` that programs are told at most. From the next one on, cryptsetup hands keys over
/// by the kernel's key ring, of a type that no program can read; by this one it puts them into tables.
const CRYPT: [u32; 3] = [1, 18, 0];

/// What a device is called that has no node: never by the control plane's number, which may be a device's
/// of the machine.
pub(super) const NOBODYS: DevNumber = DevNumber { major: 0, minor: 0 };

/// Which number is which.
#[derive(Default)]
pub(super) struct Numbers(RwLock<Both>);

#[derive(Default)]
struct Both {
    minors: HashMap<DevNumber, u32>,
    nodes: HashMap<u32, Node>,
}

impl Numbers {
    /// Notes the node that a device has now, or that it has none.
    pub(super) fn set(&self, minor: u32, node: Option<Node>) {
        let mut both = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = match node {
            Some(node) => both.nodes.insert(minor, node),
            None => both.nodes.remove(&minor),
        };
        if let Some(before) = before.filter(|before| both.minors.get(&before.dev) == Some(&minor)) {
            both.minors.remove(&before.dev);
        }
        if let Some(node) = node {
            both.minors.insert(node.dev, minor);
        }
    }

    /// Returns the control plane's number of the device that has this node.
    pub(super) fn device(&self, node: DevNumber) -> Option<DevNumber> {
        let minor = *self.both().minors.get(&node)?;
        Some(DevNumber::mapped(minor))
    }

    /// Returns the number of a device's node, or [`NOBODYS`]; of anything else, its own.
    pub(super) fn node(&self, device: DevNumber) -> DevNumber {
        match device.major {
            DM_MAJOR => self.node_of(device.minor).map_or(NOBODYS, |node| node.dev),
            _ => device,
        }
    }

    /// Lists the devices that have nodes, by their minor numbers.
    pub(super) fn minors(&self) -> Vec<u32> {
        self.both().nodes.keys().copied().collect()
    }

    /// Returns the node of the device with this minor number.
    pub(super) fn node_of(&self, minor: u32) -> Option<Node> {
        self.both().nodes.get(&minor).copied()
    }

    fn both(&self) -> RwLockReadGuard<'_, Both> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Devices of the machine that a command's table is to open: they stay attached until it has.
pub(super) type Attached = Vec<Arc<dyn BlockDevice>>;

impl Daemon {
    /// Puts the control plane's numbers into a command of a program.
    ///
    /// # Errors
    /// Where a device of the machine that a table names cannot be attached.
    pub(super) fn inward(
        &self,
        numbers: &Numbers,
        view: View,
        mut command: Command,
    ) -> Result<(Command, Attached), Errno> {
        if let Some(id) = id_of(&mut command)
            && let Id::Dev(dev) = id
        {
            // One of the control plane's own is what a program has asked for when it made the device.
            let own = Some(*dev).filter(|dev| dev.major == DM_MAJOR);
            *id = Id::Dev(numbers.device(*dev).or(own).ok_or(Errno::NXIO)?);
        }
        let mut attached = Attached::new();
        match &mut command {
            Command::TableLoad { targets, .. } => {
                for target in targets {
                    self.inward_text(numbers, view, target, &mut attached)?;
                }
            }
            Command::TargetMsg { message, .. } => {
                let word = |word: &str| {
                    let number = found(view, word).ok()?;
                    Some(numbers.device(number)?.to_string())
                };
                if let Some(other) = replaced(message, word) {
                    *message = other.into();
                }
            }
            _ => {}
        }
        Ok((command, attached))
    }

    fn inward_text(
        &self,
        numbers: &Numbers,
        view: View,
        target: &mut TargetSpec,
        attached: &mut Attached,
    ) -> Result<(), Errno> {
        let mut failed = Ok(());
        let other = replaced(&target.params, |word| {
            let device = found(view, word).and_then(|number| {
                if let Some(device) = numbers.device(number) {
                    return Ok(device);
                }
                attached.extend(self.of_machine(number)?);
                Ok(number)
            });
            device.map_err(|errno| failed = Err(errno)).ok().map(|device| device.to_string())
        });
        if let Some(other) = other {
            target.params = other.into();
        }
        failed
    }

    /// Attaches a block device of the machine, if it is not attached yet; nothing where the number is
    /// an image's.
    fn of_machine(&self, number: DevNumber) -> Result<Option<Arc<dyn BlockDevice>>, Errno> {
        if let Some(image) = self.images.attached(number) {
            // Who says a path of the machine means the machine's disk, and who says a number may mean either.
            if machine_has(number) && !image.host_device {
                let image = image.path.display();
                tracing::warn!(%number, %image, "a disk of the machine has the number of an image");
                return Err(Errno::BUSY);
            }
            return Ok(None);
        }
        // Not the control plane's own, of a device that has no node; nor a loop device below a node, be it
        // another instance's.
        let is_loop = number.major == LOOP_MAJOR && number.minor >= FIRST_DISK;
        if number.major == DM_MAJOR || is_loop {
            return Err(Errno::NODEV);
        }
        // By the kernel's name, as nobody but the kernel makes that one.
        let link = std::fs::read_link(format!("/sys/dev/block/{number}"));
        let Some(name) = link.ok().and_then(|link| Some(link.file_name()?.to_owned())) else {
            return Ok(None);
        };
        let path = Path::new("/dev").join(name.to_string_lossy().replace('!', "/"));
        match self.images.attach_host_device(number, &path) {
            Ok(device) => Ok(Some(device)),
            Err(error) => {
                tracing::warn!(%error, %number, "a device of this machine");
                Err(error.errno())
            }
        }
    }
}

/// Returns the number that a word means: it is one, or a path of a block device as the caller sees it. What
/// else a path may lead to is none of a table's, as with the kernel.
fn found(view: View, word: &str) -> Result<DevNumber, Errno> {
    match word.starts_with('/') {
        true => view.number(word),
        false => word.parse().map_err(|_| Errno::INVAL),
    }
}

/// Puts the numbers of nodes into an answer.
pub(super) fn outward(numbers: &Numbers, mut answer: Answer) -> Answer {
    match &mut answer {
        Answer::Status(status) => status.dev = numbers.node(status.dev),
        Answer::Devices(devices) => {
            devices.iter_mut().for_each(|listed| listed.dev = numbers.node(listed.dev));
        }
        Answer::Deps(deps) => deps.iter_mut().for_each(|dev| *dev = numbers.node(*dev)),
        Answer::Table(status, lines) => {
            status.dev = numbers.node(status.dev);
            for line in lines {
                let word = |word: &str| {
                    let device: DevNumber = word.parse().ok()?;
                    Some(numbers.node(device))
                        .filter(|node| *node != device)
                        .map(|dev| dev.to_string())
                };
                let other = match line.params.starts_with("target_name=") {
                    true => replaced_values(&line.params, word),
                    false => replaced(&line.params, word),
                };
                if let Some(other) = other {
                    line.params = other.into();
                }
            }
        }
        Answer::Versions(versions) => {
            let crypt = versions.iter_mut().find(|version| version.name == "crypt");
            if let Some(crypt) = crypt {
                crypt.version = crypt.version.min(CRYPT);
            }
        }
        Answer::Done | Answer::Version(_) | Answer::Text(_) | Answer::Events(_) => {}
        // No program in the shell asks for those: the kernel has none.
        Answer::Faults(_) | Answer::Located(_) | Answer::Shows(_) => {}
    }
    answer
}

/// Returns the device that a command is about, where it names one.
fn id_of(command: &mut Command) -> Option<&mut Id> {
    match command {
        Command::DevRemove { id, .. }
        | Command::DevRename { id, .. }
        | Command::DevSuspend { id, .. }
        | Command::DevResume { id, .. }
        | Command::DevStatus { id, .. }
        | Command::DevWait { id, .. }
        | Command::TableLoad { id, .. }
        | Command::TableClear { id }
        | Command::TableDeps { id, .. }
        | Command::TableStatus { id, .. }
        | Command::TargetMsg { id, .. }
        | Command::SetGeometry { id, .. }
        | Command::SetReadAhead { id, .. }
        | Command::SetFails { id, .. }
        | Command::SetFaults { id, .. }
        | Command::Faults { id }
        | Command::Locate { id, .. }
        | Command::Shows { id, .. }
        | Command::SetNode { id, .. } => Some(id),
        Command::Version
        | Command::RemoveAll { .. }
        | Command::ListDevices
        | Command::DevCreate { .. }
        | Command::ListVersions
        | Command::ArmPoll
        | Command::GetTargetVersion { .. } => None,
    }
}
