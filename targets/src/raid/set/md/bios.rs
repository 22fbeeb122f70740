//! What is read from the disks of a BIOS's set before a volume is in use.

use std::sync::Arc;

use sim_core::{Access, Area, Bio, Buffer, CtrError, OpenDevice, SECTOR_SIZE};

use super::super::load::Surroundings;
use super::super::metadata::Metadata;
use super::load::{Array, Loaded, RUN, has_len, make, places, refuse};
use crate::bios::assembly::{Candidate, choose};
use crate::bios::{Pieces, Stop, read};
use crate::lines::md::Line;
use crate::md::assembly::Mode;

/// Reads what the disks say, and makes the volume of them.
pub(super) async fn load(
    line: &Line<Arc<OpenDevice>>,
    volume: &str,
    mode: Mode,
    access: Access,
    around: &Surroundings,
) -> Result<Array, CtrError> {
    let areas: Vec<Area> = line.members.iter().cloned().map(Area::whole).collect();
    let mut candidates = Vec::new();
    for (nr, area) in areas.iter().enumerate() {
        candidates.push(candidate(area, line.serials.get(nr).cloned()).await?);
    }
    let chosen = choose(&candidates, Some(volume)).map_err(|why| refuse(&areas, why))?;
    if let (Some(why), Access::ReadWrite) = (&chosen.read_only, access) {
        let detail = format!("volume `{volume}` {why}: it can be opened read-only");
        return Err(CtrError::new(RUN).detail(detail));
    }
    let assembly = chosen.assembly(mode).map_err(|why| refuse(&areas, why))?;
    has_len(chosen.volume.len, around)?;
    let metadata = Metadata::Bios(Box::new(chosen.writer(&candidates)));
    let mut places = places(&assembly);
    for (place, member) in places.iter_mut().enumerate() {
        *member = member.or_else(|| chosen.failed_at(place));
    }
    let loaded = Loaded { members: &line.members, assembly: &assembly, bitmap: None, metadata };
    let set = make(loaded, |place, _| (chosen.start(place), false), access, around);
    Ok(Array { set: Arc::new(set), places })
}

/// Reads what a disk says of its set.
async fn candidate(area: &Area, serial: Option<String>) -> Result<Candidate, CtrError> {
    let refuse = |what: String| {
        let detail = format!("{} {what}", area.name());
        Err(CtrError::new("Failed to read superblock").detail(detail))
    };
    let len = area.device_size();
    let block = area.limits().logical_block_size;
    if u64::from(block) != SECTOR_SIZE {
        return refuse(format!("has blocks of {block} bytes, which is not supported"));
    }
    let mut pieces = Pieces::default();
    loop {
        match read(len, &pieces) {
            Ok(Some(member)) => return Ok(Candidate { member, len, serial }),
            Ok(None) => return refuse("is no disk of a BIOS's set".to_owned()),
            Err(Stop::Fault(fault)) => return refuse(format!("has {fault}")),
            Err(Stop::Needs(at, len)) => {
                let mut bytes = Buffer::take(len.bytes() as usize);
                if area.submit(at, Bio::read(at, &mut bytes)).await.is_err() {
                    return refuse(format!("cannot be read at sector {at}"));
                }
                pieces.put(at, bytes.to_vec());
            }
        }
    }
}
