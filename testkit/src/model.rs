//! The reference model: a disk is an array of bytes, a table a list of lines, and a sector is
//! followed down one device at a time. It shares nothing with the targets.

use std::collections::BTreeMap;

use sim_core::{DevNumber, Sector, Sectors, TargetSpec};

use crate::DISK_MAJOR;
use crate::SECTOR;

/// A device by its minor number: what a line maps onto.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceBelow {
    /// A simulated disk, 7:N.
    Disk(u32),
    /// A mapped device, 253:N.
    Device(u32),
}

/// What a line of a table does with its sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One range of a device, from this sector on.
    Linear(DeviceBelow, u64),
    /// Chunks of so many sectors, dealt out to legs in turn.
    Striped(u64, Vec<(DeviceBelow, u64)>),
    /// Zeros.
    Zero,
    /// Errors; a device may be named, and is not used.
    Error(Option<(DeviceBelow, u64)>),
}

/// A line of a table. The lines of a table follow on one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The length in sectors.
    pub len: u64,
    /// What it does.
    pub kind: Kind,
}

/// Where a sector ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On this sector of this disk.
    Disk(u32, u64),
    /// It reads as zeros, and what is written to it is dropped.
    Zero,
    /// It fails.
    Error,
    /// It fails, as some device on the way is too short to have it.
    PastEnd,
}

/// One step of a sector's way down: through this leg of this line of this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// The device, by its minor.
    pub device: u32,
    /// The line, from 0.
    pub line: usize,
    /// The leg, from 0; always 0 where the line has but one device.
    pub leg: usize,
}

/// The disks and the live tables.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The disks' bytes, by minor.
    pub disks: BTreeMap<u32, Vec<u8>>,
    /// The live tables, by minor.
    pub tables: BTreeMap<u32, Vec<Line>>,
}

impl Line {
    /// Lists what the line maps onto: device, first sector, length.
    pub fn areas(&self) -> Vec<(DeviceBelow, u64, u64)> {
        match &self.kind {
            Kind::Linear(below, start) => vec![(*below, *start, self.len)],
            Kind::Striped(_, legs) => {
                let len = self.len / legs.len() as u64;
                legs.iter().map(|(below, start)| (*below, *start, len)).collect()
            }
            Kind::Zero | Kind::Error(None) => Vec::new(),
            Kind::Error(Some((below, start))) => vec![(*below, *start, self.len)],
        }
    }

    /// Returns the words after the length in a table line.
    fn words(&self) -> (&'static str, String) {
        match &self.kind {
            Kind::Linear(below, start) => ("linear", format!("{} {start}", below.number())),
            Kind::Striped(chunk, legs) => {
                let legs = legs.iter().map(|(below, at)| format!(" {} {at}", below.number()));
                ("striped", format!("{} {chunk}{}", legs.len(), legs.collect::<String>()))
            }
            Kind::Zero | Kind::Error(None) => {
                (if self.kind == Kind::Zero { "zero" } else { "error" }, String::new())
            }
            Kind::Error(Some((below, start))) => ("error", format!("{} {start}", below.number())),
        }
    }
}

impl DeviceBelow {
    /// Returns the device's number.
    pub fn number(self) -> DevNumber {
        match self {
            DeviceBelow::Disk(minor) => DevNumber { major: DISK_MAJOR, minor },
            DeviceBelow::Device(minor) => DevNumber::mapped(minor),
        }
    }
}

/// Writes a table as the control plane takes it.
pub fn specs(lines: &[Line]) -> Vec<TargetSpec> {
    let mut start = 0;
    let mut spec = |line: &Line| {
        let (target_type, params) = line.words();
        let (target_type, params) = (target_type.into(), params.into());
        let at = Sector(start);
        start += line.len;
        TargetSpec { start: at, len: Sectors(line.len), target_type, params }
    };
    lines.iter().map(&mut spec).collect()
}

impl Model {
    /// Returns a device's size in sectors; zero where there is none, or no table.
    pub fn size(&self, below: DeviceBelow) -> u64 {
        match below {
            DeviceBelow::Disk(disk) => {
                self.disks.get(&disk).map_or(0, |d| (d.len() / SECTOR) as u64)
            }
            DeviceBelow::Device(device) => {
                self.tables.get(&device).map_or(0, |lines| lines.iter().map(|l| l.len).sum())
            }
        }
    }

    /// Returns where a sector of a mapped device ends up.
    pub fn place(&self, device: u32, sector: u64) -> Place {
        self.follow(device, sector, &mut |_| {})
    }

    /// Returns where a sector ends up, calling `each` with every step on the way down.
    pub fn follow(&self, device: u32, sector: u64, each: &mut dyn FnMut(Step)) -> Place {
        let Some(lines) = self.tables.get(&device) else { return Place::PastEnd };
        let mut begin = 0;
        for (index, line) in lines.iter().enumerate() {
            if sector >= begin + line.len {
                begin += line.len;
                continue;
            }
            let offset = sector - begin;
            let (below, to, leg) = match &line.kind {
                Kind::Zero => return Place::Zero,
                Kind::Error(_) => return Place::Error,
                Kind::Linear(below, start) => (*below, start + offset, 0),
                Kind::Striped(chunk, legs) => {
                    let (row, turn) =
                        (offset / chunk / legs.len() as u64, offset / chunk % legs.len() as u64);
                    let (below, start) = legs[turn as usize];
                    (below, start + row * chunk + offset % chunk, turn as usize)
                }
            };
            each(Step { device, line: index, leg });
            return match below {
                DeviceBelow::Device(device) => self.follow(device, to, each),
                DeviceBelow::Disk(_) if to >= self.size(below) => Place::PastEnd,
                DeviceBelow::Disk(disk) => Place::Disk(disk, to),
            };
        }
        Place::PastEnd
    }

    /// Returns the bytes of a sector of a disk.
    pub fn sector(&self, disk: u32, sector: u64) -> &[u8] {
        &self.disks[&disk][sector as usize * SECTOR..][..SECTOR]
    }

    /// Changes the bytes of a sector of a disk.
    pub fn write(&mut self, disk: u32, sector: u64, bytes: &[u8]) {
        let content = self.disks.get_mut(&disk).expect("the model has the disk");
        content[sector as usize * SECTOR..][..SECTOR].copy_from_slice(bytes);
    }

    /// Tells whether a table fits on the devices below it as they are now.
    pub fn fits(&self, lines: &[Line]) -> bool {
        lines.iter().flat_map(Line::areas).all(|(below, start, len)| {
            let size = self.size(below);
            size == 0 || (start < size && start + len <= size)
        })
    }

    /// Lists every disk that a flush of a device must reach, each once.
    pub fn flushed(&self, device: u32) -> Vec<u32> {
        let mut disks = Vec::new();
        for line in self.tables.get(&device).into_iter().flatten() {
            if matches!(line.kind, Kind::Error(_)) {
                continue;
            }
            for (below, _, _) in line.areas() {
                match below {
                    DeviceBelow::Disk(disk) => disks.push(disk),
                    DeviceBelow::Device(device) => disks.extend(self.flushed(device)),
                }
            }
        }
        disks.sort_unstable();
        disks.dedup();
        disks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_is_followed_through_stripes_and_past_short_devices() {
        let mut model = Model::default();
        model.disks.insert(0, vec![0; 16 * SECTOR]);
        let linear = Line { len: 4, kind: Kind::Linear(DeviceBelow::Disk(0), 8) };
        model.tables.insert(0, vec![linear, Line { len: 1, kind: Kind::Zero }]);
        let legs = vec![(DeviceBelow::Disk(0), 0), (DeviceBelow::Device(0), 1)];
        model.tables.insert(1, vec![Line { len: 12, kind: Kind::Striped(2, legs) }]);
        // By hand: chunks of two, in turn from 7:0 at 0 and from 253:0 at 1.
        use Place::{Disk, PastEnd, Zero};
        let by_hand = [
            Disk(0, 0),
            Disk(0, 1),
            Disk(0, 9),
            Disk(0, 10),
            Disk(0, 2),
            Disk(0, 3),
            Disk(0, 11),
            Zero,
            Disk(0, 4),
            Disk(0, 5),
            PastEnd,
            PastEnd,
        ];
        let places: Vec<Place> = (0..12).map(|sector| model.place(1, sector)).collect();
        assert_eq!(places, by_hand);
        assert_eq!(specs(&model.tables[&1])[0].to_string(), "0 12 striped 2 2 7:0 0 253:0 1");
    }
}
