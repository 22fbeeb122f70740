//! LVM1, which Linux 2.4 had, and EVMS wrote: read, and turned into a volume group.
//!
//! The layout is that of LVM 1.0.8 (`lvm.h`) and of what LVM2 read and wrote of it until 2.02.177
//! (`lib/format1`), as facts: numbers have their low byte first; a PV has at its beginning a header with
//! the places of the others (the VG's descriptor, the PVs' uuids, an LV's descriptor for each number, and
//! a map of the extents, which tells for each PE its LV, counted from 1, and its LE in it). Each PV has all
//! LVs' descriptors and the map of its own extents alone. No real volume group of that time was at hand
//! to try it on: the tests write one by the same facts.
//!
//! Snapshots of LVM1 have a format of their own and are named only.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Area, Group, Logical, Mapping, Physical, Segment};
use crate::bytes::{le16, le32, text};
use crate::{Error, Source};

/// The most of each that a group has, by the format.
const MOST: u32 = 256;

/// The most extents that an LV has, by the format; a PV is held to as many times sixteen here.
const MOST_EXTENTS: u32 = 65534;
const MOST_ON_PV: u32 = 16 * MOST_EXTENTS;

const NAME: usize = 128;
const HEADER: usize = 468;
const VG: usize = 188;
const LV: usize = 328;

/// What one physical volume says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The uuid, with hyphens.
    pub id: String,
    /// The name of its group; empty where it is of none.
    pub group: String,
    /// The uuid of its group, with hyphens.
    pub group_id: String,
    /// How many physical volumes the group has.
    pub members: u32,
    /// Its number in the group, from 1.
    pub number: u32,
    /// The length of an extent in sectors.
    pub extent: u64,
    /// The sector at which its first extent begins.
    pub first: u64,
    /// The uuids of all members of the group, with hyphens.
    pub ids: Vec<String>,
    #[serde(skip)]
    volumes: Vec<Volume>,
    /// For each extent: its LV counted from 1, 0 where it is free, and its place in that.
    #[serde(skip)]
    map: Vec<(u16, u16)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Volume {
    number: u32,
    name: String,
    writable: bool,
    snapshot: bool,
    extents: u32,
    stripes: u32,
    chunk: u32,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "LVM1 physical volume {}", self.id)?;
        let (nr, of, extent) = (self.number, self.members, self.extent);
        match self.group.as_str() {
            "" => writeln!(f, "of no volume group"),
            group => writeln!(
                f,
                "number {nr} of {of} of the volume group {group}, extents of {extent} sectors"
            ),
        }
    }
}

/// Says whether a source begins as a physical volume of LVM1.
///
/// # Errors
/// [`Error::Io`] when it cannot be read.
pub fn is_member(source: &dyn Source) -> Result<bool, Error> {
    if source.len() < HEADER as u64 {
        return Ok(false);
    }
    let header = crate::source::read(source, 0, 4)?;
    Ok(header[..2] == *b"HM" && matches!(le16(&header, 2), 1 | 2))
}

/// Reads a physical volume: at most 5 MiB, whatever its header says.
///
/// # Errors
/// [`Error::DamagedHeader`] when it says what cannot be, or names a place outside the source.
pub fn read(source: &dyn Source) -> Result<Member, Error> {
    let header = crate::source::read(source, 0, HEADER)?;
    let version = le16(&header, 2);
    if header[..2] != *b"HM" || !matches!(version, 1 | 2) {
        return Err(Error::NotAContainer("no physical volume of LVM1".to_owned()));
    }
    let area = |at: usize| (u64::from(le32(&header, at)), u64::from(le32(&header, at + 4)));
    let (vg_at, ids, lvs, map) = (area(12).0, area(20), area(28), area(36));
    let (extent, total) = (u64::from(le32(&header, 452)), le32(&header, 456));
    let first = match version {
        1 => (map.0 + map.1) / 512,
        _ => u64::from(le32(&header, 464)),
    };
    let mut member = Member {
        id: id(&header[44..76]),
        // An exported group's name ends so.
        group: text(&header[172..300]).trim_end_matches("PV_EXP").to_owned(),
        group_id: String::new(),
        members: 0,
        number: le32(&header, 432),
        extent,
        first,
        ids: Vec::new(),
        volumes: Vec::new(),
        map: Vec::new(),
    };
    if member.group.is_empty() {
        return Ok(member);
    }
    let end = extent.checked_mul(total.into()).and_then(|len| len.checked_add(first));
    if extent == 0 || end.is_none_or(|end| end > source.len() / 512) {
        let what = format!("physical volume: {total} extents of {extent} sectors from {first} on");
        return Err(Error::damaged(format!(
            "{what}: expected them to end within its {} sectors",
            source.len() / 512
        )));
    }
    if total > MOST_ON_PV {
        return Err(Error::damaged(format!("{total} extents, expected at most {MOST_ON_PV}")));
    }
    let vg = within(source, "volume group", vg_at, VG)?;
    member.group_id = id(&vg[..32]);
    member.members = counted("physical volumes", le32(&vg, 156))?;
    let most_volumes = counted("logical volumes", le32(&vg, 140))?;
    if u64::from(le32(&vg, 172)) != extent {
        return Err(Error::damaged(format!(
            "extents of {extent} and of {} sectors",
            le32(&vg, 172)
        )));
    }
    let count = u64::from(member.members).min(ids.1 / NAME as u64) as usize;
    let uuids = within(source, "list of uuids", ids.0, count * NAME)?;
    member.ids = uuids.chunks_exact(NAME).map(|field| id(&field[..32])).collect();
    let descriptors = within(source, "logical volumes", lvs.0, most_volumes as usize * LV)?;
    member.volumes = descriptors
        .chunks_exact(LV)
        .filter(|lv| lv[0] != 0)
        .map(volume)
        .collect::<Result<_, _>>()?;
    let bytes = within(source, "map of extents", map.0, total as usize * 4)?;
    member.map = bytes.chunks_exact(4).map(|pe| (le16(pe, 0), le16(pe, 2))).collect();
    Ok(member)
}

fn within(source: &dyn Source, what: &'static str, at: u64, len: usize) -> Result<Vec<u8>, Error> {
    let needed = at + len as u64;
    if source.len() < needed {
        return Err(Error::TooSmall { what, len: source.len(), needed });
    }
    Ok(crate::source::read(source, at, len)?.to_vec())
}

fn counted(what: &str, count: u32) -> Result<u32, Error> {
    if count > MOST {
        return Err(Error::damaged(format!("{count} {what}, expected at most {MOST}")));
    }
    Ok(count)
}

fn volume(lv: &[u8]) -> Result<Volume, Error> {
    const WRITE: u32 = 2;
    const SNAPSHOT: u32 = 4;
    let path = text(&lv[..NAME]);
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let (access, number, extents) = (le32(lv, 256), le32(lv, 272), le32(lv, 300));
    let (stripes, chunk) = (le32(lv, 304).max(1), le32(lv, 308));
    let fits = number < MOST
        && (1..=MOST_EXTENTS).contains(&extents)
        && stripes <= 128
        && extents.is_multiple_of(stripes)
        && (stripes == 1 || (chunk.is_power_of_two() && chunk >= 8));
    if !fits || name.is_empty() {
        let what = format!("logical volume `{name}`: number {number}, {extents} extents");
        return Err(Error::damaged(format!("{what}, {stripes} stripes of {chunk} sectors")));
    }
    let (writable, snapshot) = (access & WRITE != 0, access & SNAPSHOT != 0);
    Ok(Volume { number, name, writable, snapshot, extents, stripes, chunk })
}

/// A uuid with hyphens as LVM prints it.
fn id(field: &[u8]) -> String {
    let id = text(field);
    if id.len() != 32 || !id.is_ascii() {
        return id;
    }
    let ends = [0, 6, 10, 14, 18, 22, 26, 32];
    ends.windows(2).map(|ends| &id[ends[0]..ends[1]]).collect::<Vec<_>>().join("-")
}

/// Makes a group of its members, in any order. A volume with extents on a member that is not given has
/// segments that are [`Mapping::Error`] there; such members are in the list with no extents.
///
/// # Errors
/// [`Error::DamagedHeader`] when the members are not of one group, or contradict one another.
pub fn assemble(members: &[Member]) -> Result<Group, Error> {
    let first = members.first().ok_or_else(|| Error::damaged("a volume group without members"))?;
    let mut physical: Vec<Physical> = Vec::new();
    for member in members {
        if (&member.group, &member.group_id, member.extent)
            != (&first.group, &first.group_id, first.extent)
        {
            let what = format!("`{}` and `{}`", first.group, member.group);
            return Err(Error::damaged(format!("members of different volume groups: {what}")));
        }
        if physical.iter().any(|other| other.id == member.id) {
            return Err(Error::damaged(format!("the physical volume {} twice", member.id)));
        }
        let extents = member.map.len() as u64;
        physical.push(Physical {
            id: member.id.clone(),
            hint: String::new(),
            size: 0,
            first: member.first,
            extents,
            stale: false,
        });
    }
    for id in &first.ids {
        if !physical.iter().any(|other| other.id == *id) {
            let (id, hint) = (id.clone(), String::new());
            physical.push(Physical { id, hint, size: 0, first: 0, extents: 0, stale: false });
        }
    }
    let places = places(members)?;
    let logical = first.volumes.iter().map(|volume| Logical {
        name: volume.name.clone(),
        id: format!("{}-{}", first.group_id, volume.number),
        visible: true,
        writable: volume.writable,
        not_synced: false,
        write_mostly: false,
        rebuild: false,
        segments: segments(volume, places.get(&volume.number)),
    });
    Ok(Group {
        name: first.group.clone(),
        id: first.group_id.clone(),
        seqno: 0,
        exported: false,
        extent: first.extent,
        logical: logical.collect(),
        physical,
    })
}

/// Where an extent of a logical volume lies: member and extent.
type Places = Vec<Option<(usize, u64)>>;

/// Turns the members' maps round: for each volume's number where each of its extents lies.
fn places(members: &[Member]) -> Result<BTreeMap<u32, Places>, Error> {
    let mut places: BTreeMap<u32, Places> = BTreeMap::new();
    for volume in &members[0].volumes {
        let before = places.insert(volume.number, vec![None; volume.extents as usize]);
        if before.is_some() {
            return Err(Error::damaged(format!(
                "two logical volumes of the number {}",
                volume.number
            )));
        }
    }
    for (member, Member { id, map, .. }) in members.iter().enumerate() {
        for (extent, (lv, le)) in map.iter().enumerate().filter(|(_, (lv, _))| *lv != 0) {
            let place = places
                .get_mut(&u32::from(lv - 1))
                .and_then(|places| places.get_mut(usize::from(*le)));
            match place {
                Some(place @ None) => *place = Some((member, extent as u64)),
                Some(Some(_)) => {
                    return Err(Error::damaged(format!(
                        "extent {le} of logical volume {lv} twice"
                    )));
                }
                None => {
                    let what =
                        format!("extent {extent} of {id}: extent {le} of logical volume {lv}");
                    return Err(Error::damaged(format!("{what}, which has no such")));
                }
            }
        }
    }
    Ok(places)
}

/// Makes segments of places, as long as they go. The stripes of a volume lie in it one after another:
/// the first has the first share of its extents.
fn segments(volume: &Volume, places: Option<&Places>) -> Vec<Segment> {
    let stripes = u64::from(volume.stripes);
    let share = u64::from(volume.extents) / stripes;
    if volume.snapshot {
        let mapping = Mapping::Other { name: "lvm1 snapshot".to_owned() };
        return vec![Segment { start: 0, extents: volume.extents.into(), mapping }];
    }
    let row = |extent: u64| -> Option<Vec<(usize, u64)>> {
        let places = places?;
        (0..stripes).map(|stripe| places[(stripe * share + extent) as usize]).collect()
    };
    let follows =
        |row: &Option<Vec<(usize, u64)>>, first: &Option<Vec<(usize, u64)>>, by: u64| match (
            row, first,
        ) {
            (Some(row), Some(first)) => {
                row.iter().zip(first).all(|(now, first)| *now == (first.0, first.1 + by))
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
    let mut segments = Vec::new();
    let mut start = 0;
    while start < share {
        let first = row(start);
        let len = 1
            + (1..share - start).take_while(|by| follows(&row(start + by), &first, *by)).count()
                as u64;
        let mapping = match first {
            None => Mapping::Error,
            Some(first) => {
                let area = |(volume, extent)| Area::Physical { volume, extent };
                let chunk = if stripes == 1 { 0 } else { u64::from(volume.chunk) };
                Mapping::Striped { chunk, areas: first.into_iter().map(area).collect() }
            }
        };
        segments.push(Segment { start: start * stripes, extents: len * stripes, mapping });
        start += len;
    }
    segments
}
