//! Where areas lie, and what there is of them.

use sim_core::{Sector, Sectors};
use targets::lines::{self, DeviceWord};

use super::super::{Area, Logical, Mapping};
use super::{DEEPEST, Planner};
use crate::Layer;

/// An area of which not all is there.
struct Gap {
    device: Option<DeviceWord>,
    start: u64,
    there: u64,
    len: u64,
}

impl Planner<'_> {
    pub(super) fn places(
        &mut self,
        volume: &Logical,
        segment: usize,
        areas: &[Area],
        extents: u64,
        depth: usize,
    ) -> Result<Vec<lines::Place<DeviceWord>>, String> {
        let mut places = Vec::with_capacity(areas.len());
        for (nr, area) in areas.iter().enumerate() {
            let (device, start) = match area {
                Area::Logical { volume, extent } => {
                    self.check_logical(volume, *extent, extents)?;
                    (self.volume(volume, depth)?, extent * self.group.extent)
                }
                Area::Physical { volume: on, extent } => {
                    let start = self.start(*on, *extent, extents)?;
                    let there = self.sectors_there(*on, start, extents);
                    match &self.there[*on] {
                        Some(place) if there == extents * self.group.extent => {
                            (place.device.clone(), start)
                        }
                        place => {
                            let device = place.as_ref().map(|place| place.device.clone());
                            let suffix = format!("-missing_{segment}_{nr}");
                            let gap =
                                Gap { device, start, there, len: extents * self.group.extent };
                            (self.gap(volume, &suffix, &gap)?, 0)
                        }
                    }
                }
            };
            places.push(lines::Place { device, start: Sector(start) });
        }
        Ok(places)
    }

    /// Makes a device of what is lost: reads of it fail.
    fn gap(&mut self, volume: &Logical, suffix: &str, gap: &Gap) -> Result<DeviceWord, String> {
        let name = self.device_name(volume, suffix)?;
        let mut lines = Vec::new();
        if let (Some(device), true) = (&gap.device, gap.there > 0) {
            let params = format!("{device} {}", gap.start);
            lines.push(self.line(Sectors(0), Sectors(gap.there), "linear", params));
        }
        let rest = Sectors(gap.len - gap.there);
        lines.push(self.line(Sectors(gap.there), rest, "error", String::new()));
        let uuid = self.uuid(volume, suffix);
        self.plan.layers.push(Layer {
            name: name.clone(),
            uuid,
            lines,
            read_only: true,
            read_only_without: Vec::new(),
            shown: false,
        });
        Ok(DeviceWord(format!("/dev/mapper/{name}")))
    }

    fn check_logical(&self, name: &str, extent: u64, extents: u64) -> Result<(), String> {
        let nr = self.by_name.get(name);
        let volume =
            &self.group.logical[*nr.ok_or_else(|| format!("there is no volume `{name}`"))?];
        let has: u64 = volume.segments.iter().map(|segment| segment.extents).sum();
        match extent.checked_add(extents).is_some_and(|end| end <= has) {
            true => Ok(()),
            false => {
                Err(format!("{extents} extents from {extent} on of `{name}`, which has {has}"))
            }
        }
    }

    /// Returns the sector of a physical volume at which an area begins.
    fn start(&self, on: usize, extent: u64, extents: u64) -> Result<u64, String> {
        let volume = &self.group.physical[on];
        let end = extent.checked_add(extents).filter(|end| *end <= volume.extents);
        let sectors = end.and_then(|end| end.checked_mul(self.group.extent));
        match sectors.and_then(|sectors| sectors.checked_add(volume.first)) {
            Some(_) => Ok(volume.first + extent * self.group.extent),
            None => Err(format!(
                "{extents} extents from {extent} on of physical volume {}, which has {}",
                volume.id, volume.extents
            )),
        }
    }

    /// Returns how many sectors of an area are there.
    fn sectors_there(&self, on: usize, start: u64, extents: u64) -> u64 {
        match &self.there[on] {
            Some(place) if !self.group.physical[on].stale => {
                place.sectors.saturating_sub(start).min(extents * self.group.extent)
            }
            _ => 0,
        }
    }

    /// Tells whether all of an area is there.
    pub(super) fn is_whole(&mut self, area: &Area, extents: u64, depth: usize) -> bool {
        match area {
            Area::Physical { volume, extent } => {
                self.start(*volume, *extent, extents).is_ok_and(|start| {
                    self.sectors_there(*volume, start, extents) == extents * self.group.extent
                })
            }
            Area::Logical { volume, .. } => self.is_whole_volume(volume, depth + 1),
        }
    }

    /// Tells whether all of a volume is there. One that lies on itself is not.
    pub(super) fn is_whole_volume(&mut self, name: &str, depth: usize) -> bool {
        let Some(nr) = self.by_name.get(name).copied().filter(|_| depth <= DEEPEST) else {
            return false;
        };
        if let Some(whole) = self.whole.get(&nr) {
            return *whole;
        }
        self.whole.insert(nr, false);
        let group = self.group;
        let whole = group.logical[nr].segments.iter().all(|segment| match &segment.mapping {
            Mapping::Striped { areas, .. } => {
                let extents = segment.extents / areas.len() as u64;
                areas.iter().all(|area| self.is_whole(area, extents, depth))
            }
            Mapping::Mirror { legs, .. } => {
                legs.iter().any(|leg| self.is_whole(leg, segment.extents, depth))
            }
            Mapping::Raid { legs, .. } => {
                legs.iter().all(|(_, data)| self.is_whole_volume(data, depth + 1))
            }
            Mapping::Error | Mapping::Zero => true,
            Mapping::Snapshot { .. } | Mapping::Other { .. } => false,
        });
        self.whole.insert(nr, whole);
        whole
    }
}
