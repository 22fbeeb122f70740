//! How a volume of a set starts: which disks are taken and what stands against writing it; or why it does
//! not start. What can be asked of any array, `md::assembly` answers.
//!
//! The disk whose metadata was changed the most times is believed, and says which disks have failed. One
//! that is a single change behind was cut off while all were written. One that is further behind, and
//! has not failed as the newest says, is an old copy of itself: it is left out.

use sim_core::{Sector, Sectors};

use super::set::{Hindrance, Set, Volume, Writer};
use super::{Member, ddf};
use crate::md::assembly::{
    Assembly, LeftOut, Mode, Refused, Resync, Shape, Taken, has_enough, layout, too_few,
};
use crate::md::tables::Span;
use crate::raid::layout::Layout;
use crate::raid::superblock::Geometry;

/// A disk that may be in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it says.
    pub member: Member,
    /// How long it is.
    pub len: Sectors,
    /// The serial number that it has, or had when it was a disk: Intel's sets go by that.
    pub serial: Option<String>,
}

/// A volume with the disks that have its places.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The volume.
    pub volume: Volume,
    /// Why it cannot be written.
    pub read_only: Option<String>,
    /// Those that have no place, and why.
    pub left_out: Vec<(usize, LeftOut)>,
    /// The candidate that is believed.
    pub freshest: usize,
    /// The disks of the table that have failed, and the candidates that are these.
    failed: Vec<(usize, usize)>,
    set: Set,
    nr: usize,
    /// Who has which place, by the candidates.
    places: Vec<Option<usize>>,
    generation: u32,
}

/// Chooses the disks of a volume, by its name or its number; where a set has one, that one.
pub fn choose(candidates: &[Candidate], volume: Option<&str>) -> Result<Chosen, Refused> {
    let freshest = freshest(candidates)?;
    let set = set_of(candidates, freshest);
    let disks = disks_of(candidates, freshest)?;
    let volumes = set.volumes();
    let nr = find(&volumes, volume)?;
    let volume = volumes[nr].clone();
    if let Some(Hindrance::Opens(why)) = volume.hindrance {
        return Err(Refused::all(format!("volume `{}` {why}", volume.name)));
    }
    let generation = candidates[freshest].member.generation();
    let mut left_out = Vec::new();
    let mut places = vec![None; volume.slots.len()];
    for (nr, disk) in disks.iter().enumerate() {
        let disk = match disk {
            Known::Works(disk) => *disk,
            Known::Failed(_) => {
                left_out.push((nr, LeftOut::Failed));
                continue;
            }
            Known::Not => {
                left_out.push((nr, LeftOut::Spare));
                continue;
            }
        };
        let Some(place) = volume.slots.iter().position(|slot| slot.disk == Some(disk)) else {
            left_out.push((nr, LeftOut::Spare));
            continue;
        };
        let slot = volume.slots[place];
        let needed = slot.start.0.checked_add(volume.size.0);
        if needed.is_none_or(|needed| candidates[nr].len < Sectors(needed)) {
            let (has, needs) = (candidates[nr].len, volume.size);
            let why =
                format!("expected {needs} sectors from {} on, found {has} in all", slot.start);
            return Err(Refused::of(nr, why));
        }
        let own = candidates[nr].member.generation();
        match slot.is_in_sync {
            _ if places[place].is_some() => {
                return Err(Refused::of(nr, "is the same disk of the set as another"));
            }
            true if generation - own > 1 => {
                left_out.push((nr, LeftOut::Stale { events: own.into() }));
            }
            true => places[place] = Some(nr),
            // What was rebuilt onto it nothing here knows.
            false => left_out.push((nr, LeftOut::Behind)),
        }
    }
    let read_only = read_only(&volumes, nr);
    let failed = disks.iter().enumerate().filter_map(|(nr, disk)| match disk {
        Known::Failed(disk) => Some((*disk, nr)),
        Known::Works(_) | Known::Not => None,
    });
    let failed = failed.collect();
    Ok(Chosen { volume, read_only, left_out, freshest, failed, set, nr, places, generation })
}

/// Returns the volumes of the set that the candidates are of.
pub fn volumes(candidates: &[Candidate]) -> Result<Vec<Volume>, Refused> {
    Ok(set_of(candidates, freshest(candidates)?).volumes())
}

/// Returns the candidate that was changed the most times, having seen that all are of one set.
fn freshest(candidates: &[Candidate]) -> Result<usize, Refused> {
    // One that has failed may have been told so itself.
    let key = |candidate: &Candidate| {
        let name = name_of(candidate).unwrap_or_default();
        (candidate.member.generation(), !has_lost(&candidate.member, &name))
    };
    let all = candidates.iter().enumerate().filter(|(_, candidate)| !candidate.member.is_spare());
    let freshest = all.rev().max_by_key(|(_, candidate)| key(candidate));
    let Some((freshest, last)) = freshest else {
        return Err(Refused::all("none of these is in a set yet: all are spares"));
    };
    for (nr, candidate) in candidates.iter().enumerate() {
        if !candidate.member.is_spare() && candidate.member.set_id() != last.member.set_id() {
            return Err(Refused::of(
                nr,
                format!("is of {}, and of another than the others", candidate.member.kind()),
            ));
        }
    }
    Ok(freshest)
}

fn set_of(candidates: &[Candidate], freshest: usize) -> Set {
    match &candidates[freshest].member {
        Member::Imsm(mpb) => Set::Imsm(mpb.clone()),
        Member::Ddf(newest) => {
            let all = candidates.iter().filter_map(|candidate| match &candidate.member {
                Member::Ddf(disk) => Some(&**disk),
                Member::Imsm(_) => None,
            });
            Set::Ddf(Box::new(ddf::Set::new(newest, all)))
        }
    }
}

/// What a set has a candidate for.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// This disk.
    Works(usize),
    /// This one, which has failed.
    Failed(usize),
    /// Nothing.
    Not,
}

/// Returns what each candidate is in the table of the set, as the freshest has it.
fn disks_of(candidates: &[Candidate], freshest: usize) -> Result<Vec<Known>, Refused> {
    let disks = candidates[freshest].member.disks();
    let disk = |nr: usize, candidate: &Candidate| {
        // Whatever serial number it has: it was made new, and what it has is no more the volume's.
        if candidate.member.is_spare() {
            return Ok(Known::Not);
        }
        let name = name_of(candidate).ok_or_else(|| {
            let serials: Vec<String> = disks.iter().map(|(serial, _)| format!("`{serial}`")).collect();
            let why = format!(
                "is a disk of {}, which does not say which: that goes by the serial numbers of the \
                 disks. Give those of the images in their order by `dmsim raid assemble --serials`, or call the \
                 files by them; the set has {}",
                candidate.member.kind(),
                serials.join(", ")
            );
            Refused::of(nr, why)
        })?;
        let exact = disks.iter().position(|(serial, _)| *serial == name);
        // Where a disk fails, its serial number gets an end.
        let marked = || disks.iter().position(|(serial, failed)| *failed && is_of(serial, &name));
        Ok(match exact.or_else(marked) {
            Some(at) if disks[at].1 => Known::Failed(at),
            Some(at) => Known::Works(at),
            None => Known::Not,
        })
    };
    let all = candidates.iter().enumerate().map(|(nr, candidate)| disk(nr, candidate));
    let found: Vec<Known> = all.collect::<Result<_, Refused>>()?;
    let last = name_of(&candidates[freshest]).unwrap_or_default();
    for (nr, candidate) in candidates.iter().enumerate() {
        let is_lost = nr != freshest && matches!(found[nr], Known::Failed(_));
        if is_lost && has_lost(&candidate.member, &last) {
            let why = "was used without another of these, and that without it, so that they differ: \
                       name the one that is right, and leave the other out";
            return Err(Refused::of(nr, why));
        }
    }
    Ok(found)
}

/// Returns what the set knows a candidate by.
fn name_of(candidate: &Candidate) -> Option<String> {
    match &candidate.member {
        Member::Imsm(_) => candidate.serial.as_ref().map(|serial| {
            // Of a long one, the set has the end.
            let kept: String = serial.chars().filter(|c| !c.is_whitespace()).collect();
            let skip = kept.chars().count().saturating_sub(16);
            kept.chars().skip(skip).collect()
        }),
        Member::Ddf(disk) => Some(ddf::name_of(disk.reference())),
    }
}

/// Tells whether a disk of this name has failed, as a disk of the set says.
fn has_lost(member: &Member, name: &str) -> bool {
    member.disks().iter().any(|(serial, failed)| *failed && is_of(serial, name))
}

/// Tells whether a serial number in a table is that of a disk, or was until the disk failed: it has an
/// end since, and may have lost its beginning for that.
fn is_of(serial: &str, name: &str) -> bool {
    let own = serial.strip_suffix(":0");
    serial == name || own.is_some_and(|own| own == name || own.len() >= 8 && name.ends_with(own))
}

fn find(volumes: &[Volume], asked: Option<&str>) -> Result<usize, Refused> {
    let names = || {
        let names: Vec<String> =
            volumes.iter().map(|volume| format!("`{}`", volume.name)).collect();
        names.join(" and ")
    };
    match (asked, volumes) {
        (_, []) => Err(Refused::all("the set has no volume")),
        (None, [_]) => Ok(0),
        (None, _) => Err(Refused::all(format!(
            "the set has the volumes {}: name one by --volume; each is a device of its own",
            names()
        ))),
        (Some(asked), _) => {
            let mut found = volumes.iter().enumerate().filter(|(_, volume)| volume.name == asked);
            match (found.next(), found.next()) {
                (Some((nr, _)), None) => Ok(nr),
                (Some(_), Some(_)) => {
                    Err(Refused::all(format!("the set has several volumes `{asked}`")))
                }
                (None, _) => Err(Refused::all(format!(
                    "the set has no volume `{asked}`: it has {}",
                    names()
                ))),
            }
        }
    }
}

/// Says why a volume cannot be written.
fn read_only(volumes: &[Volume], nr: usize) -> Option<String> {
    if let Some(Hindrance::Writes(why)) = volumes[nr].hindrance {
        return Some(why.to_owned());
    }
    // The state of all is in one table, and two devices would each write theirs over the other's.
    let other =
        volumes.iter().enumerate().find(|(other, volume)| *other != nr && volume.level != 0);
    other.filter(|_| volumes[nr].level != 0).map(|(_, other)| {
        format!(
            "shares its metadata with the volume `{}`, whose state is in it as well",
            other.name
        )
    })
}

impl Chosen {
    /// Returns what the volume is, for people.
    pub fn about(&self) -> String {
        let level = self.volume.level;
        format!("raid{level} `{}` of {} disks", self.volume.name, self.volume.slots.len())
    }

    /// Lists the places that nobody has.
    fn missing(&self) -> impl Iterator<Item = usize> {
        (0..self.places.len()).filter(|place| self.places[*place].is_none())
    }

    /// Returns the line of a raid0, with the candidates as they are given.
    pub fn span(&self) -> Result<Span, Refused> {
        let Volume { slots, chunk, len, size, .. } = &self.volume;
        let row = Sectors(chunk.0.saturating_mul(slots.len() as u64));
        if self.places.contains(&None) {
            return Err(too_few(slots.len(), self.missing(), ""));
        }
        if slots.is_empty()
            || row.is_zero()
            || size.0.checked_mul(slots.len() as u64).is_none_or(|all| all < len.0)
        {
            return Err(Refused::all("a raid0 like this cannot be"));
        }
        if !len.0.is_multiple_of(row.0) {
            let why =
                format!("its {len} sectors are not whole rows of {row}, which is not supported");
            return Err(Refused::all(why));
        }
        let place = |(nr, slot): (&Option<usize>, &super::Slot)| Some(((*nr)?, slot.start));
        let places = self.places.iter().zip(slots).filter_map(place).collect();
        Ok(Span { len: *len, chunk: Some(*chunk), places })
    }

    /// Decides how a volume starts that keeps more than the data.
    pub fn assembly(&self, mode: Mode) -> Result<Assembly, Refused> {
        let volume = &self.volume;
        let shape = Shape {
            level: i32::try_from(volume.level).unwrap_or(-1),
            layout: volume.layout,
            chunk: volume.chunk,
            places: volume.slots.len(),
            size: volume.size,
        };
        let layout = layout(&shape, &self.about())?;
        if volume.len.is_zero() || volume.len > layout.len() {
            let (has, needs) = (layout.len(), volume.len);
            let why = format!("expected {needs} sectors, and the disks hold {has}");
            return Err(Refused::all(why));
        }
        let taken = |nr: &Option<usize>| nr.map_or(Taken::Nobody, Taken::InSync);
        let places: Vec<Taken> = self.places.iter().map(taken).collect();
        let there = self.places.iter().flatten().count();
        let is_whole = there == places.len();
        if !has_enough(&layout, &places) {
            return Err(too_few(places.len(), self.missing(), ""));
        }
        let has_parity = matches!(layout, Layout::Parity(_));
        if has_parity && volume.is_dirty && !is_whole && mode == Mode::Careful {
            let why = format!(
                "assembled from {there} disks, not enough to start it while not clean: what was being \
                 written may be wrong everywhere; `raid assemble --force` takes it as it is"
            );
            return Err(Refused::all(why));
        }
        let is_alone = there == 1 || has_parity && !is_whole;
        Ok(Assembly {
            freshest: self.freshest,
            geometry: Geometry {
                level: volume.level,
                layout: volume.layout,
                chunk_sectors: volume.chunk.0 as u32,
            },
            layout,
            places,
            left_out: self.left_out.clone(),
            events: self.generation.into(),
            resync: match volume.is_dirty && !is_alone {
                true => Resync::From(Sector::ZERO),
                false => Resync::Nothing,
            },
            bitmap: None,
            bitmap_is_good: false,
        })
    }

    /// Returns where the volume begins on the disk of a place.
    pub fn start(&self, place: usize) -> Sector {
        self.volume.slots[place].start
    }

    /// Returns the candidate that had a place until it failed.
    pub fn failed_at(&self, place: usize) -> Option<usize> {
        let disk = self.volume.slots[place].disk?;
        self.failed.iter().find(|(failed, _)| *failed == disk).map(|(_, nr)| *nr)
    }

    /// Makes what writes the state of the volume.
    pub fn writer(&self, candidates: &[Candidate]) -> Writer {
        let disk = |nr: &Option<usize>| nr.map(|nr| candidates[nr].member.clone());
        Writer::new(self.set.clone(), self.nr, self.places.iter().map(disk).collect())
    }
}
