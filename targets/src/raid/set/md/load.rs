//! What is read from the members of an array before it is in use.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sim_core::{
    Access, Area, Bio, Buffer, CtrError, Errno, Locked, OpenDevice, Sector, Sectors, Signal,
};

use super::super::commit::Events;
use super::super::intent::Intent;
use super::super::load::{Surroundings, TICK};
use super::super::metadata::Metadata;
use super::super::state::{Behind, Cleanness, Leg, State};
use super::super::stripes::Turns;
use super::super::{Devices, RaidSet};
use super::bios;
use crate::lines::md::Line;
use crate::md::assembly::{Assembly, Candidate, Mode, Refused, Resync, Taken, decide};
use crate::md::superblock::{self, Fault, Role, Superblock, Version};
use crate::parts::background::Background;
use crate::parts::pace::Pace;
use crate::raid::bitmap::{Bitmap, HEADER, Header};

pub(super) const RUN: &str = "Failed to run md array";

/// What a region is for reads to have their turns, where no bitmap says so: 4 MiB.
const REGION: Sectors = Sectors(8192);

/// A bit stays for five seconds, where no bitmap says so.
const DAEMON_SLEEP: u32 = 5;

/// An array that was read from its members.
pub(super) struct Array {
    pub(super) set: Arc<RaidSet>,
    /// Which member has each place, or had it until it failed.
    pub(super) places: Vec<Option<usize>>,
}

/// Reads the superblocks of members, and makes the array of them.
pub(super) async fn load(
    line: &Line<Arc<OpenDevice>>,
    access: Access,
    around: &Surroundings,
) -> Result<Array, CtrError> {
    let members = &line.members[..];
    let mode = if line.force { Mode::Force } else { Mode::Careful };
    if let Some(volume) = &line.volume {
        return bios::load(line, volume, mode, access, around).await;
    }
    let areas: Vec<Area> = members.iter().cloned().map(Area::whole).collect();
    let candidates = candidates(&areas).await?;
    let assembly = decide(&candidates, mode).map_err(|why| refuse(&areas, why))?;
    has_len(assembly.layout.len(), around)?;
    let bitmap =
        read_bitmap(&Area::whole(members[assembly.freshest].clone()), &candidates, &assembly)
            .await?;
    let place = |_: usize, member: usize| {
        let facts = candidates[member].superblock.facts();
        (facts.data_offset, facts.write_mostly)
    };
    let own = |taken: &Taken| {
        let member = taken.member()?;
        let mut own = candidates[member].superblock.clone();
        if member != assembly.freshest {
            own.join(&candidates[assembly.freshest].superblock);
        }
        Some(own)
    };
    let metadata = Metadata::Md(assembly.places.iter().map(own).collect());
    let mut places = places(&assembly);
    for (member, candidate) in candidates.iter().enumerate() {
        if let Role::Active(place) = candidate.superblock.facts().role
            && let Some(nobody @ None) = places.get_mut(place)
        {
            *nobody = Some(member);
        }
    }
    let loaded = Loaded { members, assembly: &assembly, bitmap, metadata };
    Ok(Array { set: Arc::new(make(loaded, place, access, around)), places })
}

/// Returns the member of each place that has one in use.
pub(super) fn places(assembly: &Assembly) -> Vec<Option<usize>> {
    assembly.places.iter().map(Taken::member).collect()
}

/// Says why members make no array.
pub(super) fn refuse(areas: &[Area], refused: Refused) -> CtrError {
    let about = match refused.member {
        Some(member) => format!("{} {}", areas[member].name(), refused.why),
        None => refused.why,
    };
    CtrError::new(RUN).detail(about)
}

/// Refuses a line that is not as long as its array.
pub(super) fn has_len(expected: Sectors, around: &Surroundings) -> Result<(), CtrError> {
    match around.len {
        found if found == expected => Ok(()),
        found => {
            let detail = format!("expected a length of {expected} sectors, found {found}");
            Err(CtrError::new(RUN).detail(detail))
        }
    }
}

/// How often superblocks that are being written are read again.
const READS: usize = 16;

/// Reads what all devices say of their array. Where another table has it in use, it may write superblocks
/// meanwhile: who is more than an event behind is read again, until that is no news. What it writes is on
/// all members before it writes the next, so that no member is behind in truth.
async fn candidates(areas: &[Area]) -> Result<Vec<Candidate>, CtrError> {
    let mut candidates = Vec::new();
    for area in areas {
        candidates.push(candidate(area).await?);
    }
    for _ in 1..READS {
        let events = |candidate: &Candidate| candidate.superblock.facts().events;
        let last = candidates.iter().map(events).max().unwrap_or(0);
        let mut is_news = false;
        for (area, known) in areas.iter().zip(&mut candidates) {
            if events(known) < last.saturating_sub(1) {
                let again = candidate(area).await?;
                is_news |= again != *known;
                *known = again;
            }
        }
        if !is_news {
            break;
        }
    }
    Ok(candidates)
}

/// Reads what a device says of its array.
async fn candidate(area: &Area) -> Result<Candidate, CtrError> {
    let refuse = |detail: String| Err(CtrError::new("Failed to read superblock").detail(detail));
    let (len, mut fault) = (area.device_size(), Fault::None);
    for version in Version::ALL {
        let Some(at) = version.place(len) else { continue };
        let mut bytes = Buffer::take(superblock::LEN);
        if area.submit(at, Bio::read(at, &mut bytes)).await.is_err() {
            return refuse(format!("{} cannot be read at sector {at}", area.name()));
        }
        match Superblock::read(version, at, &bytes) {
            Ok(superblock) => {
                let bitmap = match superblock.facts().bitmap {
                    Some(at) => read_header(area, at).await?,
                    None => None,
                };
                return Ok(Candidate { superblock, len, bitmap });
            }
            Err(Fault::None) => {}
            Err(found) => fault = found,
        }
    }
    refuse(format!("{} has {fault}", area.name()))
}

async fn read_header(area: &Area, at: Sector) -> Result<Option<Header>, CtrError> {
    let mut bytes = Buffer::take(area.limits().logical_block_size as usize);
    if area.submit(at, Bio::read(at, &mut bytes)).await.is_err() {
        return Ok(None);
    }
    let head = bytes.first_chunk::<HEADER>().expect("a block has a header");
    Ok(Header::read(head).ok().filter(|header| header.nodes == 0))
}

/// An array that can start, and what was read of it.
pub(super) struct Loaded<'a> {
    pub(super) members: &'a [Arc<OpenDevice>],
    pub(super) assembly: &'a Assembly,
    pub(super) bitmap: Option<Bitmap>,
    pub(super) metadata: Metadata,
}

/// Makes the array. `place` says of a place and the member that has it where the data begins there, and
/// whether it is read where no other can be.
pub(super) fn make(
    loaded: Loaded<'_>,
    place: impl Fn(usize, usize) -> (Sector, bool),
    access: Access,
    around: &Surroundings,
) -> RaidSet {
    let Loaded { members, assembly, bitmap, metadata } = loaded;
    for (member, why) in &assembly.left_out {
        let name = members[*member].name();
        around.log.line(format_args!("{name} {why}, and is left out"));
    }
    let layout = assembly.layout;
    let is_read_only = access == Access::ReadOnly;
    let region = bitmap.as_ref().map_or(REGION, |bitmap| bitmap.header.chunk());
    let sleep = bitmap.as_ref().map_or(DAEMON_SLEEP, |bitmap| bitmap.header.daemon_sleep);
    let mut intent = Intent::new(layout.resync_len(), region, bitmap);
    if assembly.resync == Resync::ByBitmap {
        intent.distrust(None);
    }
    let (mut legs, mut states) = (Vec::new(), Vec::new());
    for (nr, taken) in assembly.places.iter().enumerate() {
        let device = taken.member().map(|member| {
            let (start, write_mostly) = place(nr, member);
            let open = || members[member].clone();
            let data = Area::new(open(), start, layout.recovery_len());
            (Some(Area::whole(open())), Some(data), write_mostly)
        });
        let (meta, data, write_mostly) = device.unwrap_or_default();
        legs.push(Devices { meta, data, write_mostly });
        states.push(match *taken {
            Taken::InSync(_) => Leg::InSync,
            Taken::Rebuilt { from, back, .. } => {
                let by_bitmap = back.is_some() && intent.header().is_some();
                Leg::Behind(Behind { from, back, by_bitmap })
            }
            Taken::Nobody => Leg::Missing,
        });
    }
    let resync_from = match assembly.resync {
        Resync::From(from) => Some(from),
        Resync::ByBitmap | Resync::Nothing => None,
    };
    let mut state = State::new(states, Events::by_commit(assembly.events), resync_from, intent);
    state.cleanness = match assembly.resync {
        _ if is_read_only => Cleanness::Unsaid,
        Resync::Nothing => Cleanness::Clean,
        Resync::ByBitmap | Resync::From(_) => Cleanness::Dirty { mark: 0 },
    };
    RaidSet {
        layout,
        legs,
        geometry: assembly.geometry,
        metadata,
        is_read_only,
        journal: None,
        cache: None,
        reshape: None,
        len: layout.resync_len(),
        daemon_sleep: TICK * 250 * sleep.max(1),
        runtime: around.runtime.clone(),
        events: around.events.clone(),
        log: around.log.clone(),
        signal: Signal::default(),
        background: Background::default(),
        legs_wait: AtomicBool::new(false),
        turns: Turns::default(),
        pace: Pace::default(),
        state: Locked::new(state),
    }
}

/// Reads the bitmap of the freshest member. One that says nothing has all bits set.
async fn read_bitmap(
    area: &Area,
    candidates: &[Candidate],
    assembly: &Assembly,
) -> Result<Option<Bitmap>, CtrError> {
    let Some(found) = assembly.bitmap.clone() else { return Ok(None) };
    let freshest = &candidates[assembly.freshest];
    let sync_size = assembly.layout.resync_len();
    let same = found.sync_size == sync_size;
    let header = Header { sync_size, state: 0, ..found };
    if !assembly.bitmap_is_good || !same {
        return Ok(Some(Bitmap::new(header, true)));
    }
    let at = freshest.superblock.facts().bitmap.expect("where its header was");
    let block = area.limits().logical_block_size as usize;
    let mut bytes = Buffer::take((header.bytes() as usize).next_multiple_of(block));
    if area.submit(at, Bio::read(at, &mut bytes)).await.is_err() {
        let detail = format!("the bitmap of {} cannot be read", area.name());
        return Err(CtrError::new(RUN).detail(detail).errno(Errno::IO));
    }
    let bitmap = Bitmap::read(header, &bytes[HEADER..]);
    bitmap.map(Some).ok_or_else(|| CtrError::new(RUN).errno(Errno::NOMEM))
}
