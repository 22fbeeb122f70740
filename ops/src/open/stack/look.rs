//! What a device holds, and what becomes of it.

use std::path::PathBuf;

use containers::Container;
use daemon::Fault;
use recognise::{Error, Found, containers, probe};
use sim_core::{Access, Sectors, TargetSpec};
use targets::lines::DeviceWord;

use super::super::image::{ImageFile, told};
use super::super::unlock::unlock_container;
use super::super::{Made, New, activate, make};
use super::made::Work;
use super::{NotOpened, nothing_known};
use crate::commands::one;
use crate::raid::{Belongs, belongs};
use crate::words::{MAPPER, new_name};

/// How deep layers may lie on one another.
const DEEPEST: usize = 16;

/// An image, or a device that was made: something to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// What people know it by.
    pub(super) about: String,
    /// Where its bytes can be read.
    pub(super) path: PathBuf,
    /// What a table line calls it.
    pub(super) word: DeviceWord,
    pub(super) sectors: Sectors,
    /// What devices over it are named after.
    pub(super) base: String,
    /// Whether what lies over it can be written.
    pub(super) access: Access,
    /// The device that it is, by its place in the list of those that were made; none for an image.
    pub(super) device: Option<usize>,
    /// How many layers there are below.
    pub(super) depth: usize,
}

impl Node {
    pub(super) fn top(about: String, path: PathBuf, word: DeviceWord, base: String) -> Node {
        let (access, sectors) = (Access::ReadWrite, Sectors::ZERO);
        Node { about, path, word, sectors, base, access, device: None, depth: 0 }
    }
}

impl Work<'_> {
    /// Looks what there is, and opens it, or keeps it until all members of a set or group are there.
    pub(super) fn look(&mut self, node: &Node) -> Result<(), Fault> {
        if node.depth > DEEPEST {
            let why = format!(
                "lies more than {DEEPEST} layers above its image: what it holds is not looked at"
            );
            self.not_opened(&node.about, why);
            return Ok(());
        }
        let source = ImageFile::open(&node.path)?;
        let found = match probe(&source) {
            Ok(found) => found,
            // An image is what was asked for; of a part of one the others are opened all the same.
            Err(error) if node.depth == 0 => return Err(told(node.path.as_path(), &error)),
            // It is there all the same, as a volume of the type `error` is.
            Err(Error::Io { .. }) => return Ok(()),
            Err(error) => {
                self.not_opened(&node.about, told(node.path.as_path(), &error).why);
                return Ok(());
            }
        };
        if let Some(set) = belongs(&node.path, node.sectors).filter(|set| is_whole(set, &found)) {
            self.holds(node, "linux_raid_member", None, None);
            self.members.push((set, node.clone()));
            return Ok(());
        }
        match found {
            Found::Container(container) => self.container(node, &source, &container),
            Found::PhysicalVolume(volume) => {
                self.holds(node, "LVM2_member", None, Some(volume.id.clone()));
                self.volumes.push((*volume, node.clone()));
                Ok(())
            }
            Found::Nothing => self.end(node),
        }
    }

    /// Opens a container.
    fn container(
        &mut self,
        node: &Node,
        source: &ImageFile,
        container: &Container,
    ) -> Result<(), Fault> {
        let kind = match container.kind() {
            "bitlk" => "BitLocker",
            _ => "crypto_LUKS",
        };
        self.holds(node, kind, None, container.uuid().map(str::to_owned));
        let typed = match node.device {
            None => node.base.clone(),
            Some(_) => format!("{}_crypt", node.base),
        };
        let name = new_name("open", &typed)?;
        let opened = unlock_container(&node.path, source, container, &self.ask.unlock, self.keys);
        let opened = match opened {
            Err(fault) if self.ask.leave_locked && fault.status == 3 => {
                self.not_opened(&node.about, format!("is locked: {}", fault.why));
                return Ok(());
            }
            other => other?,
        };
        let new =
            New { typed: &typed, name: &name, access: node.access, options: &self.ask.options };
        let made = activate(self.dm, &new, &node.word, opened, self.keys)?;
        let last = made.len() - 1;
        for (at, layer) in made.into_iter().enumerate() {
            let sectors = layer.targets.iter().map(|line| line.len.0).sum();
            let typed =
                if at == last { typed.clone() } else { daemon::mangle::decode(&layer.name) };
            let above = self.was_made(node, &typed, layer, Sectors(sectors), at < last)?;
            if at == last {
                self.push(above);
            }
        }
        Ok(())
    }

    /// What is known of it is no layer: a file system, or nothing. An image that is one itself becomes a device.
    fn end(&mut self, node: &Node) -> Result<(), Fault> {
        let known = false;
        match (node.device, known) {
            (None, true) => {
                let table = one(node.sectors, "linear", &format!("{} 0", node.word));
                let uuid = format!("DMSIM-IMAGE-{}", node.base);
                self.make_over(node, &node.base.clone(), &uuid, table)?;
                Ok(())
            }
            (None, false) if self.ask.images.len() == 1 => Err(nothing_known(&node.about)),
            (None, false) => {
                self.not_opened(&node.about, "nothing in it is known".to_owned());
                Ok(())
            }
            (Some(_), _) => Ok(()),
        }
    }

    /// Makes a device with a table over a node.
    pub(super) fn make_over(
        &mut self,
        node: &Node,
        typed: &str,
        uuid: &str,
        targets: Vec<TargetSpec>,
    ) -> Result<Node, Fault> {
        let name = new_name("open", typed)?;
        let sectors = Sectors(targets.iter().map(|line| line.len.0).sum());
        let made = Made { name, uuid: uuid.to_owned(), targets };
        make(self.dm, &made, node.access)?;
        self.was_made(node, typed, made, sectors, false)
    }
}

/// Tells whether a superblock is the device's own, and not that of a partition that ends where it does.
fn is_whole(set: &Belongs, _found: &Found) -> bool {
    !set.may_be_of_a_part
}

/// Names the device that shows a mapped device to a table line.
pub(super) fn mapped(name: &str) -> DeviceWord {
    DeviceWord(format!("{MAPPER}{name}"))
}

impl Work<'_> {
    pub(super) fn not_opened(&mut self, name: &str, why: String) {
        self.missed.push(NotOpened { name: name.to_owned(), why });
    }
}
