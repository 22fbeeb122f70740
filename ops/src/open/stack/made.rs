//! What was made on the way, and how it goes again.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;

use daemon::Fault;
use recognise::shown_line;
use recognise::volumes::lvm1;
use recognise::volumes::lvm2::PhysicalVolume;
use sim_core::control::WhenOpen;
use sim_core::{SECTOR_SIZE, Sectors, hide_keys};

use super::super::{KeyHolder, Made};
use super::look::{Node, mapped};
use super::record::{Part, Record};
use super::sets::remove_all;
use super::{Ask, Device, NotOpened, Opened};
use crate::device_mapper::DeviceMapper;
use crate::devices::find;
use crate::raid::Belongs;
use crate::watch::{Watch, go_on};

/// More devices are not made of one stack.
const MOST_DEVICES: usize = 16_384;

/// An opening that is under way.
pub(super) struct Work<'a> {
    pub(super) dm: &'a mut dyn DeviceMapper,
    pub(super) ask: &'a Ask,
    /// What the stack is called.
    pub(super) name: String,
    /// Where stacks are recorded.
    pub(super) folder: PathBuf,
    pub(super) keys: &'a mut dyn KeyHolder,
    pub(super) watch: &'a dyn Watch,
    queue: VecDeque<Node>,
    /// Members of sets, which wait for the others.
    pub(super) members: Vec<(Belongs, Node)>,
    /// Physical volumes, which wait for the others.
    pub(super) volumes: Vec<(PhysicalVolume, Node)>,
    /// Likewise, of LVM1.
    pub(super) old_volumes: Vec<(lvm1::Member, Node)>,
    /// The files of the images.
    pub(super) images: Vec<PathBuf>,
    /// Images that are to be attached.
    pub(super) to_attach: Vec<PathBuf>,
    /// Images that were attached.
    pub(super) attached: Vec<PathBuf>,
    /// What was made, each device after those that it lies on.
    made: Vec<Part>,
    /// The names of those that are on record already.
    noted: BTreeSet<String>,
    devices: Vec<Device>,
    missed: Vec<NotOpened>,
    /// How many partitions within partitions there were.
    pub(super) nested: usize,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        dm: &'a mut dyn DeviceMapper,
        ask: &'a Ask,
        name: &str,
        folder: PathBuf,
        keys: &'a mut dyn KeyHolder,
        watch: &'a dyn Watch,
    ) -> Work<'a> {
        Work {
            dm,
            ask,
            name: name.to_owned(),
            folder,
            keys,
            watch,
            queue: VecDeque::new(),
            members: Vec::new(),
            volumes: Vec::new(),
            old_volumes: Vec::new(),
            images: Vec::new(),
            to_attach: Vec::new(),
            attached: Vec::new(),
            made: Vec::new(),
            noted: BTreeSet::new(),
            devices: Vec::new(),
            missed: Vec::new(),
            nested: 0,
        }
    }

    pub(super) fn push(&mut self, node: Node) {
        self.queue.push_back(node);
    }

    pub(super) fn next(&mut self) -> Option<Node> {
        self.queue.pop_front()
    }

    pub(super) fn warn(&mut self, what: &str) {
        self.keys.warn(what);
    }

    pub(super) fn not_opened(&mut self, name: &str, why: String) {
        self.missed.push(NotOpened { name: name.to_owned(), why });
    }

    /// Writes down what will be made, before it is: so `close` knows it where this process is killed. Devices that
    /// are made one after the other are written down as one.
    pub(super) fn will_make(&mut self, parts: impl IntoIterator<Item = Part>) -> Result<(), Fault> {
        let parts: Vec<Part> = parts.into_iter().collect();
        if !parts.is_empty() && parts.iter().all(|part| self.noted.contains(&part.name)) {
            return Ok(());
        }
        self.noted.extend(parts.iter().map(|part| part.name.clone()));
        let mut record = Record { begun: true, ..self.record() };
        record.attached.extend(self.to_attach.iter().cloned());
        record.devices.extend(parts);
        record.write(&self.folder, &self.name)
    }

    /// Writes down what was made.
    pub(super) fn write_record(&self) -> Result<(), Fault> {
        self.record().write(&self.folder, &self.name)
    }

    /// Tells whether somebody else has a device of this name, and leaves the layer out that is to be called so: the
    /// rest is opened.
    pub(super) fn refuses_taken(&mut self, typed: &str, name: &str) -> Result<bool, Fault> {
        let is_taken = find(self.dm, name)?.is_some();
        if is_taken {
            let why =
                "a device of this name is there already: `dmsim rename` gives that one another";
            self.not_opened(typed, why.to_owned());
        }
        Ok(is_taken)
    }

    /// Notes what a node holds.
    pub(super) fn holds(
        &mut self,
        node: &Node,
        kind: &str,
        label: Option<String>,
        uuid: Option<String>,
    ) {
        if let Some(device) = node.device.map(|at| &mut self.devices[at]) {
            device.holds = Some(kind.to_owned());
            device.label = label;
            device.uuid = uuid;
        }
    }

    /// Notes a device that was made over a node, and returns it as a node.
    pub(super) fn was_made(
        &mut self,
        below: &Node,
        typed: &str,
        made: Made,
        sectors: Sectors,
        is_part: bool,
    ) -> Result<Node, Fault> {
        self.has_layers_above(below);
        let path = self.dm.mount().join(&made.name);
        let table = made.targets.iter().map(|line| {
            let line = line.to_string();
            hide_keys(line.trim_end())
        });
        self.devices.push(Device {
            name: typed.to_owned(),
            path: path.clone(),
            size_bytes: sectors.0.saturating_mul(SECTOR_SIZE),
            read_only: below.access.is_read_only(),
            has_layers_above: false,
            is_part,
            holds: None,
            label: None,
            uuid: None,
            lines: table.collect(),
        });
        let node = Node {
            about: typed.to_owned(),
            path,
            word: mapped(&made.name),
            sectors,
            base: typed.to_owned(),
            access: below.access,
            device: Some(self.devices.len() - 1),
            depth: below.depth + 1,
            tables: below.tables,
            repeats: false,
        };
        self.made.push(Part { name: made.name, uuid: made.uuid });
        go_on(&node.about, self.watch)?;
        match self.made.len() > MOST_DEVICES {
            true => Err(Fault::new(&node.about, format!("more than {MOST_DEVICES} devices"))),
            false => Ok(node),
        }
    }

    /// Notes that other devices were made of what a node holds.
    pub(super) fn has_layers_above(&mut self, node: &Node) {
        if let Some(below) = node.device {
            self.devices[below].has_layers_above = true;
        }
    }

    /// Refuses images of which nothing could be opened.
    pub(super) fn refuse_nothing(&mut self) -> Result<(), Fault> {
        match (self.devices.iter().any(|device| !device.is_part), self.missed.first()) {
            (true, _) => Ok(()),
            (false, Some(missed)) => {
                Err(Fault::new(&missed.name, shown_line(&missed.why)).with_status(NOTHING_OPENS))
            }
            (false, None) => Ok(()),
        }
    }

    /// Removes all of it again.
    pub(super) fn undo(&mut self) -> Result<(), Fault> {
        let mut result = Ok(());
        for part in self.made.drain(..).rev() {
            result = result.and(remove_all(self.dm, &part, WhenOpen::Refuse));
        }
        for image in self.attached.drain(..) {
            result = result.and(self.dm.detach(&image.display().to_string()));
        }
        result.and_then(|()| Record::forget(&self.folder, &self.name))
    }

    fn record(&self) -> Record {
        Record {
            images: self.images.clone(),
            attached: self.attached.clone(),
            devices: self.made.clone(),
            begun: false,
        }
    }

    pub(super) fn opened(self) -> Opened {
        Opened { name: String::new(), devices: self.devices, not_opened: self.missed }
    }
}

/// The exit status where something is known, and cannot be opened.
const NOTHING_OPENS: u8 = 10;
