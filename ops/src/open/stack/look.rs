//! What a device holds, and what becomes of it.

use std::path::PathBuf;

use containers::Container;
use daemon::Fault;
use daemon::fault::USAGE;
use recognise::images::Format;
use recognise::partitions::{Format as Scheme, Table, layers};
use recognise::signatures::Signature;
use recognise::{Error, Found, Layer, containers, evms};
use sim_core::{Access, Sector, Sectors, TargetSpec};
use targets::lines::DeviceWord;

use super::super::image::{ImageFile, told};
use super::super::unlock::unlock_container;
use super::super::{Made, New, Recognised, activate, make, planned, recognised};
use super::made::Work;
use super::nothing_known;
use super::record::Part;
use crate::commands::one;
use crate::words::{MAPPER, new_name};

/// How deep layers may lie on one another.
const DEEPEST: usize = 16;

/// So many partition tables may lie one within the other: partitions of a volume in a partition are met with virtual
/// machines.
const MOST_TABLES: usize = 3;

/// More partitions within partitions are not opened: such as lie over one another would be opened once for each way.
const MOST_NESTED: usize = 256;

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
    /// How many of these are partition tables.
    pub(super) tables: usize,
    /// It begins where the table does that it is a partition of, and so has that table once more.
    pub(super) repeats: bool,
}

impl Node {
    pub(super) fn top(about: String, path: PathBuf, word: DeviceWord, base: String) -> Node {
        let (access, sectors) = (Access::ReadWrite, Sectors::ZERO);
        let (depth, tables, repeats) = (0, 0, false);
        Node { about, path, word, sectors, base, access, device: None, depth, tables, repeats }
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
        let found = match recognised(&node.path, &source) {
            Ok(found) if node.depth == 0 && self.lacks_table(&found) => {
                let why = "has no partition table, so it has none of the partitions that --partition is to open";
                return Err(Fault::new(&node.about, why).with_status(USAGE));
            }
            Ok(Recognised::Member(set)) => {
                self.holds(node, "linux_raid_member", None, None);
                self.members.push((set, node.clone()));
                return Ok(());
            }
            Ok(Recognised::Known(found)) => *found,
            // An image is what was asked for; of a part of one the others are opened all the same.
            Err(error) if node.depth == 0 => return Err(told(node.path.as_path(), &error)),
            // It is there all the same, as a volume of the type `error` is.
            Err(Error::Io { .. }) => return Ok(()),
            Err(error) => {
                self.not_opened(&node.about, told(node.path.as_path(), &error).why);
                return Ok(());
            }
        };
        match found {
            Found::Container(container) => self.container(node, &source, &container),
            Found::Lvm2(volume) => {
                self.holds(node, "LVM2_member", None, Some(volume.id.clone()));
                self.volumes.push((*volume, node.clone()));
                Ok(())
            }
            Found::Lvm1(member) => {
                self.holds(node, "LVM1_member", None, Some(member.id.clone()));
                self.old_volumes.push((*member, node.clone()));
                Ok(())
            }
            Found::Partitions(_) if node.repeats => match recognise::signatures::read(&source) {
                // As on an image that starts a machine from a disc and from a stick.
                Ok(Some(signature)) => self.signature(node, signature),
                Ok(None) | Err(_) => Ok(()),
            },
            Found::Partitions(table) => self.partitions(node, table),
            Found::Evms(header) => self.evms(node, &header),
            Found::Image(format) => {
                let file = node.path.display().to_string();
                self.refused(node, not_raw(&format.of_file(&file)))
            }
            Found::Signature(signature) => self.signature(node, signature),
            Found::Nothing => self.nothing(node),
        }
    }

    fn lacks_table(&self, found: &Recognised) -> bool {
        let has_table =
            matches!(found, Recognised::Known(found) if matches!(**found, Found::Partitions(_)));
        self.ask.partition.is_some() && !has_table
    }

    /// Opens partitions: all, or the one that was asked for.
    fn partitions(&mut self, node: &Node, mut table: Table) -> Result<(), Fault> {
        self.holds(node, scheme(&table), None, table.uuid.clone());
        table.warnings.iter().for_each(|what| self.keys.warn(&format!("{}: {what}", node.about)));
        if let Some(number) = self.ask.partition.filter(|_| node.depth == 0) {
            if !table.partitions.iter().any(|it| it.number == number && it.holds_data()) {
                let why = format!("has no partition {number} that holds data:\n{table}");
                return Err(Fault::new(&node.about, why.trim_end()).with_status(USAGE));
            }
            table.partitions.retain(|it| it.number == number);
        }
        let layers = layers(&table, &node.word, &node.base);
        let part = |layer: &Layer| {
            let name = new_name("open", &layer.name)?;
            Ok(Part { name, uuid: layer.uuid.clone() })
        };
        let parts: Vec<Part> = layers.iter().map(part).collect::<Result<_, Fault>>()?;
        if node.tables > 0 {
            self.nested += layers.len();
            if self.nested > MOST_NESTED || node.tables >= MOST_TABLES {
                let why = format!(
                    "holds partitions that are not opened: no more than {MOST_NESTED} within other partitions are, \
                     and no more than {MOST_TABLES} tables one within the other"
                );
                self.not_opened(&node.about, why);
                return Ok(());
            }
        }
        self.will_make(parts)?;
        let starts = table.partitions.iter().filter(|it| it.holds_data()).map(|it| it.start);
        for (layer, start) in layers.into_iter().zip(starts) {
            let mut below = node.clone();
            if layer.read_only && !below.access.is_read_only() {
                below.access = Access::ReadOnly;
                self.warn(&format!(
                    "{}: is opened read-only, as a part of it is missing: what is in it may count on that",
                    layer.name
                ));
            }
            let above = self.make_over(&below, &layer.name, &layer.uuid, layer.lines)?;
            if let Some(mut above) = above {
                above.tables = node.tables + 1;
                above.repeats = start == Sector::ZERO;
                self.push(above);
            }
        }
        Ok(())
    }

    /// Opens what a volume of EVMS is, as far as it is one stretch of the object.
    fn evms(&mut self, node: &Node, header: &evms::Header) -> Result<(), Fault> {
        self.holds(node, "evms", None, None);
        let name = header.volume.rsplit('/').next().unwrap_or_default();
        match header.linear().filter(|sectors| (1..=node.sectors.0).contains(sectors)) {
            Some(sectors) => {
                let typed = match new_name("open", name) {
                    Ok(_) => name.to_owned(),
                    Err(_) => format!("{}_evms", node.base),
                };
                let table = one(Sectors(sectors), "linear", &format!("{} 0", node.word));
                let above = self.make_over(node, &typed, &format!("DMSIM-EVMS-{typed}"), table)?;
                above.into_iter().for_each(|above| self.push(above));
                Ok(())
            }
            None => {
                let why =
                    format!("is part of an EVMS volume `{name}` by {header}, which is not opened");
                self.refused(node, why)
            }
        }
    }

    /// What can be mounted, or is nothing that is opened any further.
    fn signature(&mut self, node: &Node, found: Signature) -> Result<(), Fault> {
        let node = match node.device {
            Some(_) => node.clone(),
            None if self.is_device_itself(node) => {
                let (kind, name) = (found.kind, &node.base);
                let why = format!(
                    "is a device, and holds {kind}: nothing is left to open in it. `dmsim mount {name} DIR` mounts a \
                     file system"
                );
                return self.refused(node, why);
            }
            // An image that is a file system itself becomes a device.
            None => {
                let table = one(node.sectors, "linear", &format!("{} 0", node.word));
                let uuid = format!("DMSIM-IMAGE-{}", node.base);
                match self.make_over(node, &node.base, &uuid, table)? {
                    Some(above) => above,
                    None => return Ok(()),
                }
            }
        };
        self.holds(&node, found.kind, found.label, found.uuid);
        Ok(())
    }

    /// Tells whether an image is a mapped device, and what is opened is to be called after it: it has that name itself.
    fn is_device_itself(&self, node: &Node) -> bool {
        let own = new_name("open", &node.base).map(|name| mapped(&name));
        own.is_ok_and(|own| own == node.word)
    }

    fn nothing(&mut self, node: &Node) -> Result<(), Fault> {
        match node.device {
            None if self.ask.images.len() == 1 => Err(nothing_known(&node.about, &node.path)),
            None => self.refused(node, "nothing in it is known".to_owned()),
            Some(_) => Ok(()),
        }
    }

    /// Says why something is not opened: of the one image that was asked for, that is all there is to say.
    fn refused(&mut self, node: &Node, why: String) -> Result<(), Fault> {
        if node.depth == 0 && self.ask.images.len() == 1 {
            return Err(Fault::new(&node.about, why).with_status(4));
        }
        self.not_opened(&node.about, why);
        Ok(())
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
            None if !self.is_device_itself(node) => node.base.clone(),
            Some(_) | None => format!("{}_crypt", node.base),
        };
        let name = new_name("open", &typed)?;
        if self.refuses_taken(&typed, &name)? {
            return Ok(());
        }
        let unlock = &self.ask.unlock;
        let opened = unlock_container(&node.path, source, container, unlock, self.keys, self.watch);
        let opened = match opened {
            Err(fault) if self.ask.leave_locked && fault.status == 3 => {
                self.not_opened(&node.about, format!("is locked: {}", fault.why));
                return Ok(());
            }
            Err(fault) if fault.status == 3 && node.depth > 0 => {
                let why = "--leave-locked leaves it closed and opens the rest, --partition N opens one partition";
                return Err(Fault { why: format!("{}; {why}", fault.why), ..fault });
            }
            other => other?,
        };
        let new =
            New { typed: &typed, name: &name, access: node.access, options: &self.ask.options };
        let made = planned(&new, &node.word, opened, self.keys)?;
        self.will_make(made.iter().map(Part::of))?;
        activate(self.dm, &made, new.access)?;
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

    /// Makes a device with a table over a node; none where its name is taken, which is told.
    pub(super) fn make_over(
        &mut self,
        node: &Node,
        typed: &str,
        uuid: &str,
        targets: Vec<TargetSpec>,
    ) -> Result<Option<Node>, Fault> {
        let name = new_name("open", typed)?;
        if self.refuses_taken(typed, &name)? {
            return Ok(None);
        }
        let sectors = Sectors(targets.iter().map(|line| line.len.0).sum());
        let made = Made { name, uuid: uuid.to_owned(), targets };
        self.will_make([Part::of(&made)])?;
        make(self.dm, &made, node.access)?;
        self.was_made(node, typed, made, sectors, false).map(Some)
    }
}

/// Names a table as `blkid` does.
fn scheme(table: &Table) -> &'static str {
    match table.format {
        Scheme::Mbr => "dos",
        Scheme::Gpt => "gpt",
    }
}

/// Says what an image is that is not raw, and what makes it so.
pub(crate) fn not_raw(format: &Format) -> String {
    let mut why = format!("is an image in the format {}, and not raw", format.name);
    if let Some(raw) = &format.raw {
        why += &format!(". Make it raw: `{raw}`");
    }
    if let Some(shown) = &format.shown {
        why += &format!("; or show it without a copy: `{shown}`");
    }
    why
}

/// Names the device that shows a mapped device to a table line.
pub(super) fn mapped(name: &str) -> DeviceWord {
    DeviceWord(format!("{MAPPER}{name}"))
}
