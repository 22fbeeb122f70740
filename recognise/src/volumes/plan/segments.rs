//! The table lines of segments.

use sim_core::{Sectors, TargetSpec};
use targets::lines::{DeviceWord, linear, mirror, raid, striped};

use super::super::{Area, Logical, Mapping, Segment};
use super::Planner;

impl Planner<'_> {
    pub(super) fn segment(
        &mut self,
        volume: &Logical,
        at: usize,
        segment: &Segment,
        depth: usize,
    ) -> Result<TargetSpec, String> {
        let extent = self.group.extent;
        let (start, len) = (Sectors(segment.start * extent), Sectors(segment.extents * extent));
        let (target, params) = match &segment.mapping {
            Mapping::Striped { chunk, areas } => {
                let count = areas.len() as u64;
                if !segment.extents.is_multiple_of(count) {
                    return Err(format!("{} extents over {count} stripes", segment.extents));
                }
                let places = self.places(volume, at, areas, segment.extents / count, depth)?;
                match <[_; 1]>::try_from(places) {
                    Ok([place]) => ("linear", linear::Line { place }.to_string()),
                    Err(stripes) => {
                        let line = striped::Line { chunk: Sectors(*chunk), stripes };
                        ("striped", line.to_string())
                    }
                }
            }
            Mapping::Mirror { region, log, moved, legs } => {
                let mut volumes = legs.iter().filter_map(Area::volume).chain(log.as_deref());
                volumes.try_for_each(|name| self.find(name).map(drop))?;
                let has_all = legs.iter().map(|leg| self.is_whole(leg, segment.extents, depth));
                let has_all: Vec<bool> = has_all.collect();
                let whole: Vec<Area> = match (*moved == segment.extents, has_all.contains(&true)) {
                    // Data that was moved altogether is where it was moved to.
                    (true, _) => legs.last().cloned().into_iter().collect(),
                    (false, true) => {
                        let legs = legs.iter().zip(&has_all).filter(|(_, whole)| **whole);
                        legs.map(|(leg, _)| leg.clone()).collect()
                    }
                    (false, false) => legs.clone(),
                };
                let log_there =
                    log.as_ref().filter(|log| self.is_whole_volume(log, depth)).cloned();
                let mut legs = self.places(volume, at, &whole, segment.extents, depth)?;
                match legs.len() {
                    1 => ("linear", linear::Line { place: legs.remove(0) }.to_string()),
                    _ => {
                        let disk = log_there.map(|log| self.volume(&log, depth)).transpose()?;
                        let sync = match volume.not_synced {
                            true => mirror::InitialSync::Everything,
                            false => mirror::InitialSync::AsLogged,
                        };
                        let log = mirror::Log { disk, region: Sectors(*region), sync };
                        let features = mirror::Features { handle_errors: true, keep_log: false };
                        ("mirror", mirror::Line { log, legs, features }.to_string())
                    }
                }
            }
            Mapping::Raid { .. } => {
                ("raid", self.raid(volume, &segment.mapping, depth)?.to_string())
            }
            Mapping::Error => ("error", String::new()),
            Mapping::Zero => ("zero", String::new()),
            Mapping::Snapshot { .. } => return Err("a snapshot among other segments".to_owned()),
            Mapping::Other { name } => {
                return Err(format!(
                    "it is of the type `{name}`, for which there is no target here"
                ));
            }
        };
        let check = match target {
            "striped" => striped::Line::from_text(&params, len).map(drop),
            "mirror" => mirror::Line::from_text(&params, len).map(drop),
            "raid" => raid::Line::from_text(&params, len).map(drop),
            _ => Ok(()),
        };
        check.map_err(|error| error.to_string())?;
        Ok(self.line(start, len, target, params))
    }

    fn raid(
        &mut self,
        volume: &Logical,
        mapping: &Mapping,
        depth: usize,
    ) -> Result<raid::Line<DeviceWord>, String> {
        let Mapping::Raid { level, chunk, region, copies, options, legs } = mapping else {
            return Err("it is no set".to_owned());
        };
        let name = match level.as_str() {
            "raid0_meta" => "raid0",
            "raid5" => "raid5_ls",
            "raid6" => "raid6_zr",
            other => other,
        };
        let kind = raid::Kind::named(name).ok_or_else(|| format!("there is no level `{level}`"))?;
        let mut params = raid::Params::default();
        let (mut devices, mut there) = (Vec::new(), Vec::new());
        for (nr, (meta, data)) in legs.iter().enumerate() {
            let leg = &self.group.logical[self.find(data)?];
            meta.as_ref().map(|meta| self.find(meta)).transpose()?;
            let is_whole = self.is_whole_volume(data, depth)
                && meta.as_ref().is_none_or(|meta| self.is_whole_volume(meta, depth));
            there.push(is_whole);
            // A leg that lacks something is left out, where the others have it.
            let devices_of_it = match is_whole || kind.family() == raid::Family::Raid0 {
                true => raid::Leg {
                    meta: meta.as_ref().map(|meta| self.volume(meta, depth)).transpose()?,
                    data: Some(self.volume(data, depth)?),
                },
                false => raid::Leg { meta: None, data: None },
            };
            devices.push(devices_of_it);
            if is_whole && leg.write_mostly {
                params.write_mostly.insert(nr);
            }
            if is_whole && leg.rebuild {
                params.rebuild.insert(nr);
            }
        }
        enough(kind, *copies as usize, &there)?;
        for (word, value) in options {
            let value = u32::try_from(*value).map_err(|_| format!("{word} is {value}"))?;
            match *word {
                "min_recovery_rate" => params.min_recovery_rate = Some(value),
                "max_recovery_rate" => params.max_recovery_rate = Some(value),
                // Half of it is what a line that is printed says.
                _ if params.write_mostly.is_empty() => {}
                _ => params.max_write_behind = Some(value),
            }
        }
        params.region_size = (*region > 0).then_some(Sectors(*region));
        if kind.family() == raid::Family::Raid10 {
            params.raid10_copies = Some(*copies as usize);
        }
        if volume.not_synced {
            params.synchronize = raid::Synchronize::Nothing;
        }
        Ok(raid::Line { kind, chunk: Sectors(*chunk), params, legs: devices })
    }
}

/// Refuses a set that lacks more legs than it can do without.
fn enough(kind: raid::Kind, copies: usize, there: &[bool]) -> Result<(), String> {
    let missing = there.iter().filter(|there| !**there).count();
    let is_enough = match kind.family() {
        raid::Family::Raid0 => true,
        raid::Family::Raid1 => missing < there.len(),
        raid::Family::Raid10 => there.chunks(copies.max(1)).all(|set| set.contains(&true)),
        raid::Family::Raid5 | raid::Family::Raid6 => missing <= kind.family().parities(),
    };
    match is_enough {
        true => Ok(()),
        false => Err(format!("{missing} of its {} legs are missing", there.len())),
    }
}
