//! The system under test and the model side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sim_core::{Access, BlockDevice, MappedDevice, OpenDevice, Sectors};
use testkit::{DeviceBelow, Line, Model, SimDisk, Speed, Step, World};

use crate::plan::{Action, Case, DEVICES, LineSeed};
use crate::tables;

/// What a step of a case comes to.
pub(crate) type Outcome = Result<(), String>;

/// A world, and what it should be like.
pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) disks: Vec<Arc<SimDisk>>,
    pub(crate) model: Model,
    pub(crate) devices: BTreeMap<u32, Dev>,
    /// Sectors of disks that fail.
    pub(crate) bad: BTreeSet<(u32, u64)>,
    /// Legs that must show an error, and legs that may.
    pub(crate) failed: BTreeSet<Step>,
    pub(crate) maybe_failed: BTreeSet<Step>,
    /// Devices of which nothing is known about errors: their table was swapped under load.
    pub(crate) unsure: BTreeSet<u32>,
    /// Numbers what is written, so that no two writes are alike.
    pub(crate) writes: u64,
    unfolded: u8,
}

/// A mapped device as it should be.
pub(crate) struct Dev {
    pub(crate) device: Arc<MappedDevice>,
    pub(crate) name: String,
    pub(crate) suspended: bool,
    pub(crate) deferred: bool,
    pub(crate) folds: bool,
    pub(crate) inactive: Option<Vec<Line>>,
    pub(crate) opens: Vec<OpenDevice>,
}

/// Runs a case, and returns the digest of its trace.
pub(crate) fn run(case: &Case) -> Result<u64, String> {
    let mut rig = Rig::new(case);
    for (device, table) in (0..).zip(&case.tables) {
        rig.create(device, table)?;
    }
    rig.check()?;
    for (at, step) in case.steps.iter().enumerate() {
        let what = |why| format!("step {at}, {step:?}: {why}");
        rig.step(step).and_then(|()| rig.check()).map_err(what)?;
    }
    rig.tear_down().map_err(|why| format!("at the end: {why}"))?;
    Ok(rig.world.sim.trace_digest())
}

impl Rig {
    fn new(case: &Case) -> Rig {
        let world = World::new(case.schedule, targets::registry());
        let mut model = Model::default();
        let mut disks = Vec::new();
        for (minor, size) in (0..).zip([40, 48, 64, 96]) {
            let disk = world.add_disk(Sectors(size));
            disk.set_speed(match case.speeds >> (2 * minor) & 3 {
                0 | 1 => Speed::Waits,
                2 => Speed::Mixed,
                _ => Speed::AtOnce,
            });
            model.disks.insert(minor, disk.content());
            disks.push(disk);
        }
        Rig {
            world,
            disks,
            model,
            devices: BTreeMap::new(),
            bad: BTreeSet::new(),
            failed: BTreeSet::new(),
            maybe_failed: BTreeSet::new(),
            unsure: BTreeSet::new(),
            writes: 0,
            unfolded: case.unfolded,
        }
    }

    fn step(&mut self, step: &Action) -> Outcome {
        match step {
            Action::Wave(ios) => self.wave(ios),
            Action::Race(ios, cycles) => self.race(ios, cycles),
            Action::Queue(ios, holds) => self.queue(ios, holds),
            Action::Create(device, table) => {
                let device = u32::from(*device) % DEVICES;
                if self.devices.contains_key(&device) { Ok(()) } else { self.create(device, table) }
            }
            Action::Fault(disk, sector, len) => {
                self.fault(*disk, *sector, *len);
                Ok(())
            }
            Action::Heal => {
                self.heal();
                Ok(())
            }
            Action::Flush(at) => self.on(*at, |rig, device| rig.flush(device)),
            Action::Pieces(at, cut) => self.on(*at, |rig, device| rig.pieces(device, *cut)),
            Action::Load(at, table) => self.on(*at, |rig, device| rig.load(device, table)),
            Action::Clear(at) => self.on(*at, Rig::clear),
            Action::Suspend(at, noflush) => {
                self.on(*at, |rig, device| rig.suspend(device, *noflush))
            }
            Action::Resume(at) => self.on(*at, Rig::resume),
            Action::Rename(at, name) => self.on(*at, |rig, device| rig.rename(device, *name)),
            Action::Open(at) => self.on(*at, |rig, device| {
                let dev = rig.dev(device);
                let open = OpenDevice::new(dev.device.clone(), Access::ReadWrite);
                dev.opens.push(open.map_err(|errno| format!("open: {errno}"))?);
                Ok(())
            }),
            Action::Close(at) => self.on(*at, |rig, device| {
                rig.dev(device).opens.pop();
                rig.reap();
                Ok(())
            }),
            Action::Remove(at, defer) => self.on(*at, |rig, device| rig.remove(device, *defer)),
        }
    }

    /// Acts on the device that a number of the case means; on none where there is none.
    fn on(&mut self, at: u8, act: impl FnOnce(&mut Rig, u32) -> Outcome) -> Outcome {
        match self.pick(at) {
            Some(device) => act(self, device),
            None => Ok(()),
        }
    }

    pub(crate) fn pick(&self, at: u8) -> Option<u32> {
        let count = self.devices.len().max(1);
        self.devices.keys().nth(usize::from(at) % count).copied()
    }

    pub(crate) fn dev(&mut self, device: u32) -> &mut Dev {
        self.devices.get_mut(&device).expect("a device of the case that is there")
    }

    /// Tells whether a device has a live table and is neither suspended nor about to go.
    pub(crate) fn is_plain(&self, device: u32) -> bool {
        let dev = &self.devices[&device];
        self.model.tables.contains_key(&device) && !dev.suspended && !dev.deferred
    }

    /// Makes a table for a device out of what lies in the layers below it.
    pub(crate) fn make_table(&self, device: u32, seeds: &[LineSeed]) -> Vec<Line> {
        let layer = |device: u32| device / 2;
        let disks = self.model.disks.keys().map(|disk| DeviceBelow::Disk(*disk));
        let lower = self.devices.keys().filter(|lower| layer(**lower) < layer(device));
        let all = disks.chain(lower.map(|lower| DeviceBelow::Device(*lower)));
        let sized = all.map(|below| (below, self.model.size(below)));
        tables::make(seeds, &sized.filter(|(_, size)| *size > 0).collect::<Vec<_>>())
    }

    fn create(&mut self, device: u32, seeds: &[LineSeed]) -> Outcome {
        self.world.create(device).map_err(|error| format!("create: {error}"))?;
        let folds = self.unfolded >> device & 1 == 0;
        let dev = Dev {
            device: self.world.device(device),
            name: format!("d{device}"),
            suspended: false,
            deferred: false,
            folds,
            inactive: None,
            opens: Vec::new(),
        };
        dev.device.set_folding(folds);
        self.devices.insert(device, dev);
        self.load(device, seeds)?;
        self.resume(device)
    }

    /// Returns how many have a device open: tables and the case itself.
    pub(crate) fn open_count(&self, below: DeviceBelow) -> u32 {
        let names = |lines: &Vec<Line>| {
            lines.iter().flat_map(Line::areas).any(|(area, _, _)| area == below)
        };
        let uses = |(device, dev): (&u32, &Dev)| {
            self.model.tables.get(device).is_some_and(names)
                || dev.inactive.as_ref().is_some_and(names)
        };
        let tables = self.devices.iter().filter(|entry| uses(*entry)).count();
        let opens = match below {
            DeviceBelow::Device(device) => self.devices[&device].opens.len(),
            DeviceBelow::Disk(_) => 0,
        };
        (tables + opens) as u32
    }

    /// Forgets the devices that were to be removed when closed, and are closed now.
    pub(crate) fn reap(&mut self) {
        self.world.control.reap();
        loop {
            let due = |(device, dev): (&u32, &Dev)| {
                (dev.deferred && self.open_count(DeviceBelow::Device(*device)) == 0)
                    .then_some(*device)
            };
            let Some(device) = self.devices.iter().find_map(due) else { return };
            self.forget(device);
        }
    }

    pub(crate) fn forget(&mut self, device: u32) {
        self.devices.remove(&device);
        self.model.tables.remove(&device);
        self.forget_errors(device);
    }

    /// A table that is swapped in has seen no errors yet.
    pub(crate) fn forget_errors(&mut self, device: u32) {
        self.failed.retain(|step| step.device != device);
        self.maybe_failed.retain(|step| step.device != device);
        self.unsure.remove(&device);
    }

    fn tear_down(&mut self) -> Outcome {
        self.heal();
        for device in self.devices.keys().copied().collect::<Vec<_>>() {
            self.dev(device).opens.clear();
        }
        self.remove_all()?;
        for disk in &self.disks {
            crate::ensure!(disk.open_count() == 0, "{} is still open", disk.name());
        }
        Ok(())
    }
}
