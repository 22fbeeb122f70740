//! A physical volume in words.

use std::fmt;

use crate::shown_line;

use super::super::{Area, Group, Logical, Mapping, Segment};
use super::PhysicalVolume;

impl fmt::Display for PhysicalVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "LVM2 physical volume {}, made for {} bytes", self.id, self.size)?;
        match (&self.group, self.in_a_group) {
            (Some(group), _) => write!(f, "{group}"),
            (None, Some(false)) => writeln!(f, "of no volume group"),
            (None, _) => writeln!(f, "without metadata of its group: other volumes have them"),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exported = if self.exported { ", exported" } else { "" };
        let (name, id) = (shown_line(&self.name), shown_line(&self.id));
        let (seqno, extent) = (self.seqno, self.extent);
        writeln!(
            f,
            "Volume group {name}, {id}, state {seqno}, extents of {extent} sectors{exported}"
        )?;
        for (nr, volume) in self.physical.iter().enumerate() {
            let hint = match volume.hint.as_str() {
                "" => String::new(),
                hint => format!(", last seen as {}", hint.escape_debug()),
            };
            let stale = if volume.stale { ", left behind" } else { "" };
            let (extents, first) = (volume.extents, volume.first);
            writeln!(
                f,
                "  pv{nr}  {}  {extents} extents from sector {first} on{hint}{stale}",
                volume.id
            )?;
        }
        self.logical.iter().try_for_each(|volume| self.logical_to(f, volume))
    }
}

impl Group {
    fn logical_to(&self, f: &mut fmt::Formatter<'_>, volume: &Logical) -> fmt::Result {
        let extents: u64 = volume.segments.iter().map(|segment| segment.extents).sum();
        let hidden = if volume.visible { "" } else { ", part of another" };
        let read_only = if volume.writable { "" } else { ", read-only" };
        let name = shown_line(&volume.name);
        writeln!(f, "  {name}  {extents} extents{hidden}{read_only}")?;
        volume.segments.iter().try_for_each(|segment| {
            let Segment { start, extents, mapping } = segment;
            writeln!(f, "    {start}+{extents}  {}", shown_line(&told(mapping)))
        })
    }
}

fn told(mapping: &Mapping) -> String {
    let place = |area: &Area| match area {
        Area::Physical { volume, extent } => format!("pv{volume}:{extent}"),
        Area::Logical { volume, extent } => format!("{volume}:{extent}"),
    };
    let places = |areas: &[Area]| areas.iter().map(place).collect::<Vec<_>>().join(" ");
    match mapping {
        Mapping::Striped { areas, .. } if areas.len() == 1 => format!("linear {}", places(areas)),
        Mapping::Striped { chunk, areas } => {
            format!("striped, chunks of {chunk} sectors: {}", places(areas))
        }
        Mapping::Mirror { legs, log, .. } => {
            let log = log.as_ref().map(|log| format!(", log {log}")).unwrap_or_default();
            format!("mirror {}{log}", places(legs))
        }
        Mapping::Raid { level, legs, .. } => {
            let legs: Vec<&str> = legs.iter().map(|(_, data)| data.as_str()).collect();
            format!("{level} {}", legs.join(" "))
        }
        Mapping::Snapshot { origin, store, merging, .. } => {
            format!(
                "{store} is a snapshot of {origin}{}",
                if *merging { ", being merged" } else { "" }
            )
        }
        Mapping::Error => "error".to_owned(),
        Mapping::Zero => "zero".to_owned(),
        Mapping::Other { name } => name.clone(),
    }
}
