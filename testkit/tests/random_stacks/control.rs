//! Operations of the control plane, each with what it must answer.

use sim_core::control::{Answer, Command, Failure, Id, NewName, WhenOpen};
use sim_core::{Errno, Held, Sector, Sectors};
use testkit::{DeviceBelow, Fault, id, specs};

use crate::ensure;
use crate::plan::LineSeed;
use crate::rig::{Outcome, Rig};

/// Names that devices are renamed to: few, so that they clash.
const NAMES: u8 = 12;

pub(crate) fn held(noflush: bool) -> Held {
    if noflush { Held::NoFlush } else { Held::Flush }
}

/// Compares what an operation answered with the errno it must fail with, if any.
fn answers(what: &str, answer: Result<Answer, Failure>, expected: Option<Errno>) -> Outcome {
    let found = answer.as_ref().err().map(|failure| failure.errno);
    ensure!(found == expected, "{what}: expected {expected:?}, found {answer:?}");
    Ok(())
}

impl Rig {
    pub(crate) fn load(&mut self, device: u32, seeds: &[LineSeed]) -> Outcome {
        let lines = self.make_table(device, seeds);
        answers("load", self.world.load(device, specs(&lines)), None)?;
        self.dev(device).inactive = Some(lines);
        self.reap();
        Ok(())
    }

    pub(crate) fn clear(&mut self, device: u32) -> Outcome {
        answers("clear", self.world.execute(Command::TableClear { id: id(device) }), None)?;
        self.dev(device).inactive = None;
        self.reap();
        Ok(())
    }

    pub(crate) fn suspend(&mut self, device: u32, noflush: bool) -> Outcome {
        answers("suspend", self.world.suspend(device, held(noflush)), None)?;
        self.dev(device).suspended = true;
        Ok(())
    }

    pub(crate) fn resume(&mut self, device: u32) -> Outcome {
        let answer = self.world.resume(device);
        let dev = self.devices.get_mut(&device).expect("the caller picked it");
        let refused = match (dev.inactive.take(), self.model.tables.contains_key(&device)) {
            (Some(lines), _) if self.model.fits(&lines) => {
                self.model.tables.insert(device, lines);
                self.forget_errors(device);
                false
            }
            // A device below has shrunk since the load: the device stays suspended.
            (Some(_), _) => true,
            (None, true) => false,
            (None, false) => dev.suspended,
        };
        self.dev(device).suspended = refused;
        self.reap();
        answers("resume", answer, refused.then_some(Errno::INVAL))
    }

    pub(crate) fn rename(&mut self, device: u32, name: u8) -> Outcome {
        let name = format!("n{}", name % NAMES);
        let taken = self.devices.values().any(|dev| dev.name == name);
        // As in the kernel, a device is renamed by its name, not by its number.
        let from = Id::Name(self.dev(device).name.clone());
        let new = NewName::Name(name.clone());
        let answer = self.world.execute(Command::DevRename { id: from, new });
        answers("rename", answer, taken.then_some(Errno::BUSY))?;
        if !taken {
            self.dev(device).name = name;
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, device: u32, defer: bool) -> Outcome {
        let open = if defer { WhenOpen::Defer } else { WhenOpen::Refuse };
        let busy = self.open_count(DeviceBelow::Device(device)) > 0;
        let answer = self.world.execute(Command::DevRemove { id: id(device), open });
        answers("remove", answer, (busy && !defer).then_some(Errno::BUSY))?;
        match (busy, defer) {
            (true, true) => self.dev(device).deferred = true,
            (true, false) => {}
            (false, _) => self.forget(device),
        }
        self.reap();
        Ok(())
    }

    pub(crate) fn remove_all(&mut self) -> Outcome {
        let answer = self.world.execute(Command::RemoveAll { open: WhenOpen::Refuse });
        answers("remove_all", answer, None)?;
        let left = self.world.execute(Command::ListDevices);
        ensure!(left == Ok(Answer::Devices(Vec::new())), "remove_all left {left:?}");
        Ok(())
    }

    pub(crate) fn fault(&mut self, disk: u8, sector: u8, len: u8) {
        let disk = u32::from(disk) % self.disks.len() as u32;
        let size = self.model.size(DeviceBelow::Disk(disk));
        let start = u64::from(sector) % size;
        let end = (start + u64::from(len)).min(size);
        self.bad.extend((start..end).map(|sector| (disk, sector)));
        self.disks[disk as usize].inject(Fault::Range(Sector(start), Sectors(end - start)));
    }

    pub(crate) fn heal(&mut self) {
        self.bad.clear();
        self.disks.iter().for_each(|disk| disk.heal());
    }
}
