//! What must hold between any two steps.

use sim_core::control::{Answer, Command, Report, Slot};
use sim_core::{BlockDevice, KeyText, Sector};
use testkit::{DeviceBelow, Kind, Line, Place, Step, id};

use crate::ensure;
use crate::rig::{Outcome, Rig};

impl Rig {
    /// Compares everything that can be seen with the model.
    pub(crate) fn check(&mut self) -> Outcome {
        let waiting = self.world.sim.waiting();
        ensure!(waiting.is_empty(), "tasks are left: {waiting:?}");
        for (disk, minor) in self.disks.iter().zip(0..) {
            let name = disk.name();
            ensure!(disk.content() == self.model.disks[&minor], "{name} has other bytes");
            ensure!(disk.in_flight() == 0, "{name}: {} bios in flight", disk.in_flight());
            let (found, expected) = (disk.open_count(), self.open_count(DeviceBelow::Disk(minor)));
            ensure!(found == expected, "{name}: open count {found}, expected {expected}");
        }
        for device in self.devices.keys().copied() {
            let what = |why| format!("d{device}: {why}");
            self.check_state(device)
                .and_then(|()| self.check_places(device))
                .and_then(|()| self.check_health(device))
                .map_err(what)?;
        }
        Ok(())
    }

    fn check_state(&self, device: u32) -> Outcome {
        let (dev, live) = (&self.devices[&device], self.model.tables.get(&device));
        let status = self.world.status(device).map_err(|failure| failure.to_string())?;
        let expected = (
            dev.name.as_str(),
            self.open_count(DeviceBelow::Device(device)),
            dev.suspended,
            live.is_some(),
            dev.inactive.is_some(),
            dev.deferred,
            live.map_or(0, Vec::len),
        );
        let found = (
            status.name.as_str(),
            status.open_count,
            status.suspended,
            status.live_present,
            status.inactive_present,
            status.deferred_remove,
            status.target_count,
        );
        ensure!(found == expected, "status {found:?}, expected {expected:?}");
        let (size, in_flight) = (dev.device.size().0, dev.device.in_flight());
        ensure!(size == self.model.size(DeviceBelow::Device(device)), "size {size}");
        ensure!(in_flight == 0, "{in_flight} bios in flight");
        let shown = self.world.control.find_shown(&dev.name).is_some();
        ensure!(shown, "not shown by its name, deferred {}", dev.deferred);
        Ok(())
    }

    fn check_places(&self, device: u32) -> Outcome {
        let mapped = &self.devices[&device].device;
        let (flat, expected) = (mapped.extents().is_some(), self.is_flattened(device));
        let known = !self.has_named_errors();
        ensure!(flat == expected || (expected && !known), "flattened is {flat}, not {expected}");
        for sector in 0..self.model.size(DeviceBelow::Device(device)) {
            let expected = match self.model.place(device, sector) {
                Place::Disk(disk, at) => Some((DeviceBelow::Disk(disk).number(), Sector(at))),
                Place::Zero | Place::Error | Place::PastEnd => None,
            };
            let walked = mapped.walk_place(Sector(sector));
            ensure!(walked == expected, "sector {sector}: {walked:?}, expected {expected:?}");
            if flat {
                let found = mapped.flat_place(Sector(sector));
                ensure!(found == expected, "flat {sector}: {found:?}, expected {expected:?}");
            }
        }
        Ok(())
    }

    /// A device is flattened when it and all that its bios pass are in use.
    fn is_flattened(&self, device: u32) -> bool {
        let dev = &self.devices[&device];
        let Some(lines) = self.model.tables.get(&device) else { return false };
        let below = lines.iter().filter(|line| !matches!(line.kind, Kind::Error(_)));
        dev.folds
            && !dev.suspended
            && below.flat_map(|line| line.areas()).all(|(below, _, _)| match below {
                DeviceBelow::Device(below) => self.is_flattened(below),
                DeviceBelow::Disk(_) => true,
            })
    }

    /// Tells whether an error line names a device: its suspend takes the map of those above, who
    /// do without one until they are next resumed.
    fn has_named_errors(&self) -> bool {
        let named =
            |line: &Line| matches!(line.kind, Kind::Error(Some((DeviceBelow::Device(_), _))));
        self.model.tables.values().flatten().any(named)
    }

    fn check_health(&self, device: u32) -> Outcome {
        let (id, report, slot) = (id(device), Report::Status, Slot::Live);
        let command =
            Command::TableStatus { id, report, slot, device_names: false, keys: KeyText::Zeros };
        let lines = match self.world.execute(command) {
            Ok(Answer::Table(_, lines)) => lines,
            other => return Err(format!("status: {other:?}")),
        };
        if self.unsure.contains(&device) {
            return Ok(());
        }
        for (line, spec) in lines.iter().enumerate() {
            if spec.target_type != "striped" {
                continue;
            }
            let letters = spec.params.rsplit(' ').next().unwrap_or_default();
            for (leg, letter) in letters.chars().enumerate() {
                let step = Step { device, line, leg };
                let (must, may) = (self.failed.contains(&step), self.maybe_failed.contains(&step));
                let right = match letter {
                    'A' => !must,
                    'D' => must || may,
                    _ => false,
                };
                ensure!(right, "line {line} leg {leg} is {letter}: failed {must}, maybe {may}");
            }
        }
        Ok(())
    }
}
