//! RAID sets whose members were found.

use daemon::Fault;
use daemon::family::{MADE_FOR_RAID, is_part_of};
use sim_core::Sectors;
use sim_core::control::WhenOpen;

use super::super::Made;
use super::look::Node;
use super::made::Work;
use super::record::Part;
use crate::commands::remove_patiently;
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, devices, find};
use crate::raid::{Assemble, Belongs, Writes, assemble, volumes};
use crate::words::new_name;

impl Work<'_> {
    /// Puts the sets together whose members were found; tells whether there were any.
    pub(super) fn assemble_sets(&mut self) -> Result<bool, Fault> {
        let mut members = std::mem::take(&mut self.members);
        let found_any = !members.is_empty();
        while let Some((first, _)) = members.first() {
            let key = first.key.clone();
            let (set, rest) = members.into_iter().partition(|(it, _)| it.key == key);
            members = rest;
            self.assemble_set(set)?;
        }
        Ok(found_any)
    }

    /// Puts a set together, or each volume of one.
    fn assemble_set(&mut self, members: Vec<(Belongs, Node)>) -> Result<(), Fault> {
        let images: Vec<_> =
            members.iter().map(|(_, node)| (node.path.as_path(), node.sectors)).collect();
        let volumes = if members[0].0.has_volumes { volumes(&images) } else { Vec::new() };
        if volumes.is_empty() {
            return self.assemble_volume(&members, None, &[]).map(|_| ());
        }
        let mut beside = Vec::new();
        for volume in volumes {
            beside.extend(self.assemble_volume(&members, Some(volume), &beside)?);
        }
        Ok(())
    }

    /// Puts one together, while those `beside` it have the same members; returns the name of its device.
    fn assemble_volume(
        &mut self,
        members: &[(Belongs, Node)],
        volume: Option<String>,
        beside: &[String],
    ) -> Result<Option<String>, Fault> {
        let (belongs, first) = &members[0];
        let typed = match volume.as_ref().or(belongs.name.as_ref()) {
            Some(name) if new_name("open", name).is_ok() => name.clone(),
            _ => format!("{}_raid", first.base),
        };
        let name = new_name("open", &typed)?;
        let is_read_only = members.iter().any(|(_, node)| node.access.is_read_only());
        let ask = Assemble {
            images: members.iter().map(|(_, node)| node.path.clone()).collect(),
            name: typed.clone(),
            volume,
            beside: beside.to_vec(),
            writes: if is_read_only { Writes::Refused } else { Writes::WhereWhole },
            ..Assemble::default()
        };
        if self.refuses_taken(&typed, &name)? {
            return Ok(None);
        }
        let set = Part { name: name.clone(), uuid: MADE_FOR_RAID.to_owned() };
        self.will_make([set])?;
        if let Err(fault) = assemble(self.dm, &ask, self.watch) {
            self.not_opened(&typed, format!("{}: {fault}", belongs.told));
            return Ok(None);
        }
        let device = find(self.dm, &name)?.ok_or_else(|| Fault::new(&typed, "is gone"))?;
        let (mut sectors, uuid) = (Sectors::ZERO, device.status.uuid.clone().unwrap_or_default());
        device.live.iter().for_each(|line| sectors += line.len);
        for (_, node) in members {
            self.has_layers_above(node);
        }
        let mut below = first.clone();
        below.depth = members.iter().map(|(_, node)| node.depth).max().unwrap_or(0);
        below.access = device.access();
        let made = Made { name: name.clone(), uuid, targets: device.live };
        let node = self.was_made(&below, &typed, made, sectors, false)?;
        self.push(node);
        Ok(Some(name))
    }
}

/// Removes a device, and where it is a set what was made for its legs.
pub(super) fn remove_all(
    dm: &mut dyn DeviceMapper,
    part: &Part,
    open: WhenOpen,
) -> Result<(), Fault> {
    let is_set = part.uuid.starts_with(MADE_FOR_RAID);
    // One that is half put together has legs and is none itself.
    if !is_set || find(dm, &part.name)?.is_some() {
        remove_patiently(dm, &part.name, open)?;
    }
    if is_set {
        for name in parts_of(dm, &part.name)? {
            remove_patiently(dm, &name, open)?;
        }
    }
    Ok(())
}

/// Lists what was made for the legs of a set.
pub(super) fn parts_of(dm: &mut dyn DeviceMapper, set: &str) -> Result<Vec<String>, Fault> {
    let is_part = |device: &Device| is_part_of(set, device.name(), device.status.uuid.as_deref());
    Ok(devices(dm)?.iter().filter(|it| is_part(it)).map(|it| it.name().to_owned()).collect())
}
